"""A folder that may not be entered: whatever is looked for below it, the words say so."""

import builtins
import errno
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_desk import backflip

from backflip.cli.app import app
from backflip.errors import BackflipError
from backflip.loop import load_recipe
from backflip.models import find_model
from backflip.workspace import Workspace
from backflip.workspace.doctor.diagnosis import diagnose
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.reading import check_backup
from backflip.workspace.transfer.restore import restore_backup

W, FILE = ["-w", "closed/w"], "closed/file"
COMMANDS: dict[str, list[list[str]]] = {
    "run": [
        ["point.toml", *W],
        [FILE],
        ["tiny.toml", "pretrain.scratch=none", f"model.name={FILE}"],
    ],
    "demo": [W],
    "check": [["point.toml", *W], ["tiny.toml", "pretrain.scratch=none", f"model.name={FILE}"]],
    "pretrain": [["tiny.toml", *W], ["tiny.toml", f"pretrain.text=['{FILE}']"]],
    "sft": [["tiny.toml", *W], ["tiny.toml", f"sft.data=['{FILE}']"]],
    "sample": [["point.toml", *W], ["tiny.toml", f"prompts.source='{FILE}'"]],
    "label": [["point.toml", *W]],
    "reward": [["point.toml", *W]],
    "policy": [["point.toml", *W]],
    "evaluate": [["model", "point.toml", *W]],
    "config show": [[FILE]],
    "config recipes": [],
    "chat": [[FILE, "--prompt", "x"], ["x", "--prompt", "x", *W]],
    "report": [W],
    "lineage": [["model", *W]],
    "models": [W],
    "quality": [W],
    "feedback import": [["bench.jsonl", *W], [FILE]],
    "feedback export": [["x.jsonl", *W], [f"{FILE}.jsonl", "-w", "ajar"]],
    "feedback stats": [W],
    "feedback revoke": [["--entry", "e", "--reason", "r", *W]],
    "backup": [["x.tar", *W], [FILE, "-w", "ajar"], [FILE, "--verify"]],
    "restore": [[FILE, "new"], ["x.tar", "closed/w"]],
    "doctor": [["closed/w"], ["ajar", "--backup", FILE]],
    "serve": [["closed/w"], ["closed/w", "--new"], ["ajar", "--settings", FILE]],
    "worker": [[*W, "--once"]],
}


def leaves(command: Any, name: str = "") -> Iterator[str]:
    children = getattr(command, "commands", None)
    if not children:
        yield name.strip()
    for child, inner in (children or {}).items():
        yield from leaves(inner, f"{name} {child}")


@pytest.fixture(scope="module")
def standing(desk: Path) -> Path:
    Workspace.create("ajar").close()
    return desk


@pytest.fixture
def closed(standing: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which the system tells this process nothing, be it root's or not."""
    folder = standing / "closed"
    names = ("stat", "lstat", "open", "mkdir", "scandir", "listdir", "unlink", "link", "rename")

    def guarded(ask: Callable[..., Any]) -> Callable[..., Any]:
        def answer(path: Any, *rest: Any, **more: Any) -> Any:
            if (
                isinstance(path, str | os.PathLike)
                and folder in Path(os.path.abspath(path)).parents  # noqa: PTH100  (asks nothing)
            ):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return ask(path, *rest, **more)

        return answer

    for place, name in (*((os, name) for name in names), (io, "open"), (builtins, "open")):
        monkeypatch.setattr(place, name, guarded(getattr(place, name)))
    return folder


def test_the_walk_passes_every_command() -> None:
    assert set(COMMANDS) == set(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_that_it_may_not_look(name: str, closed: Path) -> None:
    for words in COMMANDS[name]:
        told = backflip(*name.split(), *words)
        said = told.err + told.out
        assert told.code == 1, (words, said)
        assert re.search("[Pp]ermission (is )?denied", said), (words, said)
        assert "closed/" in said
        assert "log is" not in said


@pytest.mark.parametrize(
    "ask",
    [
        Workspace.open,
        Workspace.create,
        diagnose,
        check_backup,
        find_model,
        load_recipe,
        lambda place: restore_backup(place, "elsewhere"),
        lambda place: restore_backup("x.tar", place),
    ],
)
def test_the_library_says_so_too(ask: Callable[[str], object], closed: Path) -> None:
    with pytest.raises(BackflipError, match="cannot be read: Permission denied") as caught:
        ask("closed/w")
    assert "closed/w" in str(caught.value.where)


def test_a_backup_says_that_it_cannot_be_written(closed: Path) -> None:
    with (
        Workspace.open("ajar") as opened,
        pytest.raises(BackflipError, match="cannot be written: Permission denied"),
    ):
        write_backup(opened, "closed/x.tar")

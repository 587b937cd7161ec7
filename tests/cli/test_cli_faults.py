"""Whatever goes wrong in whichever command: a sentence, a log, no traceback."""

import errno
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_desk import Outcome, backflip

from backflip.cli.app import app
from backflip.workspace import Workspace

RECIPE, OPEN = "backflip.loop.load_recipe", "backflip.workspace.Workspace.open"
COMMANDS = {
    "run": (["point.toml"], RECIPE),
    "demo": ([], RECIPE),
    "check": (["point.toml"], RECIPE),
    "pretrain": (["tiny.toml"], RECIPE),
    "sft": (["tiny.toml"], RECIPE),
    "sample": (["point.toml"], RECIPE),
    "label": (["point.toml"], RECIPE),
    "reward": (["point.toml"], RECIPE),
    "policy": (["point.toml"], RECIPE),
    "evaluate": (["model", "point.toml"], RECIPE),
    "config show": (["demo"], RECIPE),
    "config recipes": ([], "backflip.loop.shipped_recipes"),
    "chat": (["smollm2-135m-instruct", "--prompt", "x"], "backflip.models.load_causal_lm"),
    "report": (["-w", "standing"], OPEN),
    "lineage": (["model", "-w", "standing"], OPEN),
    "models": (["-w", "standing"], OPEN),
    "quality": (["-w", "standing"], OPEN),
    "feedback import": (["bench.jsonl", "-w", "standing"], OPEN),
    "feedback export": (["x.jsonl", "-w", "standing"], OPEN),
    "feedback stats": (["-w", "standing"], OPEN),
    "feedback revoke": (["--entry", "e", "--reason", "r", "-w", "standing"], OPEN),
    "backup": (["x.tar", "-w", "standing"], OPEN),
    "restore": (["x.tar", "new"], "backflip.workspace.transfer.restore.restore_backup"),
    "doctor": (["standing"], "backflip.workspace.doctor.diagnosis.diagnose"),
    "serve": (["standing"], OPEN),
    "worker": (["-w", "standing"], OPEN),
}
WITHOUT_JSON = ("serve",)
CHANGES_NOTHING = ("doctor",)


class PanicError(BaseException):
    """What a library in another language raises: no `Exception`."""


class SilentError(Exception):
    """One that cannot even be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def deeper(*_: Any, **__: Any) -> None:
    deeper()


FAULTS: dict[str, BaseException] = {
    "ZeroDivisionError": ZeroDivisionError("ours \x1b[31m \ud800"),
    "MemoryError": MemoryError(),
    "EOFError": EOFError("Ran out of input"),
    "OSError": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some.file"),
    "PermissionError": OSError(errno.EACCES, os.strerror(errno.EACCES)),
    "BrokenPipeError": OSError(errno.EPIPE, os.strerror(errno.EPIPE)),
    "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "SystemExit": SystemExit(0),
    "KeyError": KeyError("postgresql://me:s3cret@s3cret/s3cret's3cret@h/x " + "long " * 500),
    "PanicError": PanicError("in another language"),
    "SilentError": SilentError(),
}


@pytest.fixture(scope="module", autouse=True)
def places(desk: Path) -> Iterator[Path]:
    Workspace.create("standing").close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(desk / "state"))
        yield desk / "state"


def raising(error: BaseException) -> Callable[..., None]:
    def broken(*_: object, **__: object) -> None:
        raise error

    return broken


def log_of(outcome: Outcome) -> Path:
    found = re.search(r"The log is (.*?\.log)\.", outcome.err)
    assert found, outcome.err
    return Path(found[1])


def leaves(command: Any, name: str = "") -> Iterator[str]:
    children = getattr(command, "commands", None)
    if not children:
        yield name.strip()
    for child, inner in (children or {}).items():
        yield from leaves(inner, f"{name} {child}")


def test_the_walk_passes_every_command() -> None:
    assert set(COMMANDS) == set(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_fault_of_ours_ends_in_a_traceback(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, target = COMMANDS[name]
    faults: dict[str, Callable[..., None]] = {k: raising(error) for k, error in FAULTS.items()}
    for kind, broken in {**faults, "RecursionError": deeper}.items():
        monkeypatch.setattr(target, broken)
        plain = backflip(*name.split(), *arguments)
        assert (plain.code, plain.out) == (70, ""), kind
        assert "Traceback" not in plain.err
        assert re.search(rf"^Error: Backflip failed unexpectedly: {kind}", plain.err, re.MULTILINE)
        assert "\x1b" not in plain.err
        assert len(plain.err) < 1500
        log = log_of(plain)
        written = log.read_text(encoding="utf-8")
        assert re.search(rf"^(\w+\.)*{kind}", written, re.MULTILINE)
        assert f"backflip '{name.split()[0]}'" in written
        assert "s3cret" not in written + plain.err
        within = "standing" in arguments and name not in CHANGES_NOTHING
        assert ("standing/logs" in str(log)) is within
        log.unlink()
    if name in WITHOUT_JSON:
        return
    machine = backflip(*name.split(), *arguments, "--json")
    error = machine.json["error"]
    assert machine.code == 70
    assert "RecursionError" in error["what"]
    assert "faults" in error["hint"]
    assert "RecursionError" in Path(error["log"]).read_text()


def test_the_traceback_is_shown_to_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPEN, raising(ZeroDivisionError("ours")))
    for arguments in (["--debug", "models"], ["models", "--debug"]):
        told = backflip(*arguments, "-w", "standing")
        assert told.code == 70
        assert told.err.startswith("Traceback")
        assert "ZeroDivisionError: ours" in told.err


def test_a_log_finds_a_place_where_others_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, places: Path
) -> None:
    """The workspace, then the user's folder, then the one for what is temporary, then none."""
    monkeypatch.setattr(OPEN, raising(ZeroDivisionError("ours")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    Workspace.create(tmp_path / "work").close()
    found = []
    for blocked in ("work/logs", "state", "temporary"):
        found.append(log_of(backflip("models", "-w", str(tmp_path / "work"))).parent)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        if (tmp_path / blocked).is_dir():
            for file in sorted((tmp_path / blocked).rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            (tmp_path / blocked).rmdir()
        (tmp_path / blocked).write_text("no folder can be here")
    assert found == [tmp_path / "work/logs", tmp_path / "state/backflip", tmp_path / "temporary"]
    last = backflip("models", "-w", str(tmp_path / "work"), "--json")
    assert last.code == 70
    assert "No log could be written" in last.err
    assert json.loads(last.out)["error"]["log"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_is_told_as_one_whatever_asked_for_it(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OPEN, lambda *_, **__: signal.raise_signal(number))
    before = signal.signal(number, signal.default_int_handler)  # whatever started the tests
    try:
        stopped = backflip("models", "-w", "standing", "--json")
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert stopped.code == 128 + number
    assert "the same command goes on" in stopped.json["error"]["what"]
    assert "Stopped." in stopped.err


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    opened = Workspace.open

    def hang_up(*arguments: Any, **settings: Any) -> Workspace:
        signal.raise_signal(signal.SIGHUP)
        return opened(*arguments, **settings)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(OPEN, hang_up)
        assert backflip("models", "-w", "standing").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)

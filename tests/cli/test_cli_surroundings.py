"""Strange surroundings: an output that is full, no folder to work in, words that are no text,
damaged marker files, workspaces that can only be read, and the signals of whoever runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_desk import backflip, done
from terminal_person import PROGRAM, environment

from backflip.cli import main
from backflip.cli.toml import to_toml
from backflip.loop import load_recipe
from backflip.workspace import Workspace

NOBODY = 65534
REVOKE = ["feedback", "revoke", "--reason", "r", "--entry", "x"]


@contextmanager
def writing_to(descriptor: int) -> Iterator[None]:
    before = sys.stdout
    with os.fdopen(descriptor, "w", encoding="utf-8") as sys.stdout:
        try:
            yield
        finally:
            sys.stdout = before


@pytest.mark.parametrize(
    "words", [["config", "recipes"], ["config", "show", "demo", "--json"], ["--help"], ["x"]]
)
def test_a_full_output_is_told_and_fails(words: list[str], capsys: pytest.CaptureFixture) -> None:
    with writing_to(os.open("/dev/full", os.O_WRONLY)), pytest.raises(SystemExit) as ended:
        main(words)
    err = capsys.readouterr().err
    if words == ["x"]:  # which says nothing there
        assert (ended.value.code, "cannot be written" in err) == (2, False)
        return
    assert ended.value.code == 1
    assert "Error: standard output cannot be written: No space left on device" in err
    assert "Traceback" not in err
    assert "log" not in err


def test_a_reader_who_leaves_is_no_fault(capsys: pytest.CaptureFixture) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with writing_to(writer), pytest.raises(SystemExit) as ended:
        main(["config", "show", "demo"])
    assert (ended.value.code, capsys.readouterr().err) == (141, "")


def test_words_that_are_no_text_are_told() -> None:
    for words in (["run", "b\udcffd.toml"], ["models", "-w", "\udcff"], ["\udcff"]):
        told = backflip(*words, "--json")
        assert told.code == 1
        assert "is not UTF-8 text" in told.json["error"]["what"]
        assert "argument" in told.err


def test_a_variable_that_is_no_text_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFLIP_WORKSPACE", "\udcff")
    told = backflip("models")
    assert (told.code, "BACKFLIP_WORKSPACE is not UTF-8" in told.err) == (1, True)


def test_a_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    told = backflip("models", "--json")
    assert told.code == 1
    assert "is gone" in told.json["error"]["what"]


@pytest.mark.parametrize(
    "content", ["", "[]", "3", "null", '"x"', "{", '{"format": 1}', "[" * 5000, '{"a": "\\ud800"}']
)
def test_a_marker_file_that_is_none_is_told(content: str, tmp_path: Path) -> None:
    Workspace.create(tmp_path).close()
    (tmp_path / "workspace.json").write_text(content)
    for words in (["models"], ["feedback", "import", "x", "--database", "postgresql://h/d"]):
        told = backflip(*words, "-w", tmp_path, "--json")
        assert told.code == 1, told.err
        assert "workspace" in json.dumps(told.json["error"])


@pytest.mark.parametrize(
    "words",
    [
        ["models", "-w", "x" * 5000],
        ["run", "x" * 5000],
        ["run", "point.toml", "-w", "x" * 5000],
        ["feedback", "import", "x" * 5000],
        ["backup", "x" * 5000, "--verify"],
        ["serve", "x" * 5000],
        ["chat", "x" * 5000, "--prompt", "x"],
        ["restore", "x" * 5000, "new"],
        ["config", "show", "x/" * 5000],
    ],
    ids=lambda words: words[0],
)
def test_a_name_that_is_too_long_is_told(words: list[str], desk: Path) -> None:
    told = backflip(*words)
    assert told.code == 1, told.err
    assert "unexpectedly" not in told.err


def test_quality_without_a_project_says_so(tmp_path: Path) -> None:
    Workspace.create(tmp_path).close()
    told = backflip("quality", "-w", tmp_path)
    assert told.code == 1
    assert "no project 'main'" in told.err
    assert "No people have been asked here yet." in told.err


@contextmanager
def public_folder() -> Iterator[Path]:
    """One that others may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="bf-ro-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for path in folder.rglob("*"):
            path.chmod(0o755)
        shutil.rmtree(folder)


def used_workspace(folder: Path) -> Path:
    """A workspace that was worked in, with what commands import by now imported, by who may."""
    work = folder / "work"
    Workspace.create(work).close()
    done("feedback", "import", _comparisons(folder), "-w", work)
    for words in (["feedback", "stats"], ["models"], ["lineage", "x"], REVOKE):
        backflip(*words, "-w", work)
    backflip("doctor", work)
    return work


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Lay down the rights that root has on every file."""
    root = os.geteuid() == 0
    if root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


def forbid_writing(work: Path) -> None:
    for path in (work, *work.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture
def reading_only() -> Iterator[Path]:
    """A workspace that cannot be written by whoever runs the test, root or not."""
    with public_folder() as folder:
        work = used_workspace(folder)
        forbid_writing(work)
        with as_somebody_else():
            yield work


def _comparisons(folder: Path) -> Path:
    rows = [{"prompt": "p", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(3)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


def test_what_can_only_be_read_is_read_and_not_written(reading_only: Path) -> None:
    told = backflip("feedback", "stats", "-w", reading_only, "--json")
    assert told.code == 0, told.err
    assert told.json["active"] == 3
    assert backflip("models", "-w", reading_only).code == 0
    with Workspace.open(reading_only) as opened:
        entry = opened.journal.active()[0].id
    wrote = backflip(*REVOKE[:-1], entry, "-w", reading_only)
    assert wrote.code == 1
    assert "can be read and not written" in wrote.err
    assert sorted(path.name for path in reading_only.iterdir()) == [
        "artifacts",
        "backflip.db",
        "workspace.json",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_workspace_of_somebody_else_is_read_as_it_was_made() -> None:
    before = os.umask(0o022)
    try:
        with public_folder() as folder:
            work = used_workspace(folder)
            with as_somebody_else():
                assert done("feedback", "stats", "-w", work, "--json").json["active"] == 3
                assert done("doctor", work, "--json").json["state"] == "whole"
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["workspace.json", "backflip.db"])
def test_a_file_that_only_others_may_read_is_told_as_that(name: str) -> None:
    with public_folder() as folder:
        work = used_workspace(folder)
        (work / name).chmod(0)
        with as_somebody_else():
            for words in (["models", "-w", work], ["doctor", work]):
                told = backflip(*words, "--json")
                error = told.json["error"]
                assert (told.code, error["what"]) == (1, "cannot be read: Permission denied")
                assert error["where"] == str(work / name)
                assert "rights" in error["hint"]


def test_a_copy_whose_log_cannot_be_read_is_not_called_damaged() -> None:
    with public_folder() as folder:
        work = used_workspace(folder)
        with Workspace.open(work) as opened:
            opened.snapshots.take([entry.id for entry in opened.journal.active()])
            shutil.copytree(work, folder / "copy", ignore=shutil.ignore_patterns("*-shm"))
        assert (folder / "copy" / "backflip.db-wal").stat().st_size
        forbid_writing(folder / "copy")
        with as_somebody_else():
            for words in (["models", "-w", folder / "copy"], ["doctor", folder / "copy"]):
                told = backflip(*words, "--json")
                assert told.code == 1
                assert "its last rows are in backflip.db-wal" in told.json["error"]["what"]
                assert "Copy the whole folder" in told.json["error"]["hint"]
        shutil.copytree(folder / "copy", folder / "again", copy_function=shutil.copyfile)
        (folder / "again").chmod(0o755)
        assert done("feedback", "stats", "-w", folder / "again", "--json").json["active"] == 3


def test_a_run_that_is_told_to_end_notes_it(desk: Path, tmp_path: Path) -> None:
    number = signal.SIGTERM
    recipe = tmp_path / "waiting.toml"
    asked = ["feedback=people", "feedback.prompts=8", "reward.heldout=0.4"]
    recipe.write_text(to_toml(load_recipe("point.toml", asked).model_dump(mode="json")))
    command = [PROGRAM, "run", str(recipe), "-w", str(tmp_path / "work"), "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Waiting for people" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert "goes on from there" in json.loads(out)["error"]["what"]
    assert "Stopped." in err
    assert "Traceback" not in err
    with Workspace.open(tmp_path / "work") as workspace:
        assert [run.status for run in workspace.runs.all()] == ["stopped"]

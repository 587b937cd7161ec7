"""`backflip doctor`: what it says to people and to programs, and how it ends."""

import shutil
from pathlib import Path

import pytest
from cli_desk import backflip, done

from backflip.records import Prompt
from backflip.workspace import Workspace
from backflip.workspace.transfer.backup import write_backup


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A workspace, and beside it a backup."""
    with Workspace.create(tmp_path / "work") as workspace:
        workspace.prompts.add([Prompt.from_text("a"), Prompt.from_text("b")])
        (workspace.artifacts / "reports").mkdir()
        (workspace.artifacts / "reports" / "run-1.html").write_text("a page")
        write_backup(workspace, tmp_path / "work.tar")
    return tmp_path / "work"


def test_a_whole_workspace(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "artifacts" / "reports" / "run-1.html").unlink()
    assert done("doctor", work).out == f"{work}: whole\n"
    told = done("doctor", work, "--json").json
    assert (told["state"], told["findings"], told["backup"]) == ("whole", [], None)
    monkeypatch.setenv("BACKFLIP_WORKSPACE", str(work))
    assert done("doctor").out == f"{work}: whole\n"


def test_a_damaged_one_ends_with_1_and_says_what_would_come_back(work: Path) -> None:
    (work / "backflip.db").write_bytes(b"")
    shutil.rmtree(work / "artifacts")
    outcome = backflip("doctor", work)
    assert outcome.code == 1
    assert f"damaged  {work}/backflip.db: cannot be read: it holds no tables" in outcome.out
    assert "With --backup FILE" in outcome.out
    assert not outcome.err
    outcome = backflip("doctor", work, "--backup", work.with_name("work.tar"))
    assert outcome.code == 1
    assert "2 of prompts" in outcome.out
    assert "reports/run-1.html" in outcome.out
    told = backflip("doctor", work, "--backup", work.with_name("work.tar"), "--json")
    assert told.code == 1
    assert told.json["state"] == "damaged"
    assert told.json["backup"]["rows"]["prompts"] == 2
    assert told.json["backup"]["files"] == ["reports/run-1.html"]


def test_what_is_no_workspace_is_an_error(tmp_path: Path) -> None:
    outcome = backflip("doctor", tmp_path / "none")
    assert outcome.code == 1
    assert "no workspace here" in outcome.err


def test_trust_is_for_reading(work: Path) -> None:
    outcome = backflip("backup", work.with_name("b.tar"), "-w", work, "--trust")
    assert outcome.code == 1
    assert "--verify" in outcome.err
    assert done("backup", work.with_name("work.tar"), "--verify", "--trust").code == 0
    new = work.with_name("new")
    assert done("restore", work.with_name("work.tar"), new, "--trust").code == 0

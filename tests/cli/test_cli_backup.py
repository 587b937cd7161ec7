"""Backing up, checking and restoring by command."""

import json
import tarfile
from pathlib import Path

import pytest
from cli_desk import backflip, done

from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import GoodBad
from backflip.workspace import ModelRecord, Workspace
from backflip.workspace.database import schema


@pytest.fixture
def project(workspace: Workspace) -> Workspace:
    """A workspace with an answer, a model, a file, and a checkpoint of work under way."""
    sample = Sample.of(Prompt.from_text("a question"), Completion("a reply"))
    workspace.samples.add([sample])
    workspace.journal.add([GoodBad(annotator="mia", sample=sample.id, good=True)])
    outside = ModelRecord(id="m", name="\x1b[31mbase", stage="base", path="/models/base")
    workspace.models.register(outside.model_copy(update={"name": "base"}))
    for name in ("reports/run.html", "runs/run/sft/step-00000008/values.json"):
        (workspace.artifacts / name).parent.mkdir(parents=True)
        (workspace.artifacts / name).write_text("some")
    return workspace


TABLES = dict.fromkeys(
    ("secrets", "prompts", "samples", "annotators", "annotator_versions", "journal"), 1
)


def test_backup_verify_and_restore(project: Workspace, tmp_path: Path) -> None:
    file, root = tmp_path / "all.tar.gz", project.root
    written = done("backup", file, "-w", root, "--json").json
    assert {name: n for name, n in written["tables"].items() if n} == {**TABLES, "models": 1}
    assert (written["rows"], written["artifacts"], written["schema"]) == (7, 1, schema.HEAD)
    assert written["left_out"] == ["runs/run/sft/step-00000008"]
    assert written["elsewhere"] == ["/models/base"]
    assert file.read_bytes()[:2] == b"\x1f\x8b"
    assert file.stat().st_mode & 0o777 == 0o600

    checked = done("backup", "--verify", file, "--json").json
    assert checked == {k: v for k, v in written.items() if k not in ("left_out", "elsewhere")}
    restored = done("restore", file, tmp_path / "new", "--json").json
    assert restored["workspace"] == str(tmp_path / "new")
    assert {**restored, "file": str(file)} == {**checked, "workspace": restored["workspace"]}
    told = done("feedback", "stats", "-w", tmp_path / "new", "--json").json
    assert told["annotator"] == {"mia": 1}
    assert (tmp_path / "new" / "artifacts" / "reports" / "run.html").read_text() == "some"


def test_what_people_are_told(project: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "all.tar"
    written = done("backup", file, "-w", project.root).out
    assert written.startswith(f"Written to {file}: 7 rows and 1 file, ")
    assert "Left out, since it is of work under way: runs/run/sft/step-00000008" in written
    assert "Not in it, since it lies outside the workspace: /models/base" in written
    assert ["journal", "1"] in [line.split() for line in written.splitlines()]
    assert done("backup", file, "--verify").out.startswith("Whole: 7 rows and 1 file, ")
    told = done("restore", file, tmp_path / "new")
    assert told.out.startswith(f"Restored to {tmp_path / 'new'}: 7 rows and 1 file, ")
    assert "7 rows, " in told.err


def test_rows_alone(project: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "rows.tar"
    assert (
        done("backup", file, "-w", project.root, "--no-artifacts", "--json").json["artifacts"] == 0
    )
    with tarfile.open(file) as tar:
        assert not [name for name in tar.getnames() if name.startswith("artifacts")]
    done("restore", file, tmp_path / "new")
    assert list((tmp_path / "new" / "artifacts").iterdir()) == []


def test_restore_to_another_database(
    project: Workspace, tmp_path: Path, database_address: str | None
) -> None:
    file = tmp_path / "all.tar"
    done("backup", file, "-w", project.root)
    where = () if database_address is None else ("--database", database_address)
    done("restore", file, tmp_path / "new", *where)
    marker = json.loads((tmp_path / "new" / "workspace.json").read_text())
    assert marker["database"] == database_address
    assert done("feedback", "stats", "-w", tmp_path / "new", "--json").json["active"] == 1


def test_mistakes_are_told_in_words(project: Workspace, tmp_path: Path) -> None:
    file, root = tmp_path / "all.tar", project.root
    done("backup", file, "-w", root)
    before = file.read_bytes()
    broken = tmp_path / "broken.tar"
    broken.write_bytes(before[:5000])
    for arguments, told in (
        (["backup", file, "-w", root], ["is there already", "--force"]),
        (["backup", tmp_path, "-w", root], ["is a folder"]),
        (["backup", tmp_path / "no" / "x.tar", "-w", root], ["cannot be written"]),
        (["backup", tmp_path / "x.tar", "-w", tmp_path / "gone"], ["no workspace", "gone"]),
        (["backup", file, "--verify", "--force"], ["--verify", "--force"]),
        (["backup", file, "--verify", "--no-artifacts"], ["--verify", "--no-artifacts"]),
        (["backup", tmp_path / "gone.tar", "--verify"], ["gone.tar", "cannot be read"]),
        (["backup", broken, "--verify"], ["broken.tar", "cut off"]),
        (["restore", broken, tmp_path / "new"], ["broken.tar", "cut off"]),
        (["restore", file, root], ["is a workspace already"]),
        (["restore", file, tmp_path], ["not empty"]),
        (
            ["restore", file, tmp_path / "new", "--database", "mysql://x/y"],
            ["mysql", "postgresql://"],
        ),
    ):
        outcome = backflip(*arguments, "--json")
        assert outcome.code == 1, arguments
        for fragment in told:
            assert fragment in outcome.err, arguments
            assert any(fragment in (part or "") for part in outcome.json["error"].values())
    assert file.read_bytes() == before
    assert not (tmp_path / "new").exists()
    done("backup", file, "-w", root, "--force")
    done("backup", file, "--verify")

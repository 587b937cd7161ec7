"""The doctor: names what of a workspace is damaged or lost, by whatever, and changes nothing."""

import hashlib
import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from backup_helpers import files_in, live, put
from fuzz_helpers import damage, state_of
from safetensors.numpy import save
from store_helpers import completion_sample

from backflip.errors import BackflipError, WorkspaceError
from backflip.records.feedback import Demonstration, GoodBad
from backflip.records.results import PolicyResult
from backflip.workspace import Workspace, erase
from backflip.workspace.database import schema
from backflip.workspace.doctor.diagnosis import Diagnosis, diagnose
from backflip.workspace.transfer.backup import write_backup
from fuzzing import copied, seeds

WEIGHTS = save({"weight": np.arange(64, dtype=np.float32)})


def fill(workspace: Workspace) -> None:
    """What a project leaves behind: rows, two models, what a stage trained, a report."""
    live(workspace)
    for name in ("model-1", "model-2"):
        put(workspace.artifacts / "models" / name / "weights.safetensors", WEIGHTS)
        put(workspace.artifacts / "models" / name / "backflip.json", b'{"stage": "policy"}')
        seal(workspace.artifacts / "models" / name)
    put(workspace.artifacts / "runs" / "run-live" / "policy" / "trained.safetensors", WEIGHTS)
    seal(workspace.artifacts / "runs" / "run-live" / "policy")
    trained = "runs/run-live/policy/trained.safetensors"
    workspace.stages.finish("run-live", "policy", PolicyResult(model="model-2", trained=trained))
    put(workspace.artifacts / "reports" / "run-live.html")


def seal(folder: Path) -> None:
    """The manifest of a folder, as it is read."""
    files = {
        path.name: {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in folder.iterdir()
    }
    content = {"files": files, "about": {"step": 4}}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    sealed = json.dumps({"content": content, "sha256": digest})
    (folder / "backflip-manifest.json").write_text(sealed)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace on SQLite, and beside it a backup of it."""
    folder = tmp_path_factory.mktemp("kept")
    with Workspace.create(folder / "work") as workspace:
        fill(workspace)
        write_backup(workspace, folder / "work.tar.gz")
    return folder / "work"


@pytest.fixture
def work(kept: Path, tmp_path: Path) -> Path:
    """A copy of it, which a diagnosis must leave as it is."""
    return copied(kept, tmp_path / "work")


def backup_of(work: Path) -> Path:
    return work.with_name("work.tar.gz")


def examined(root: Path, backup: Path | None = None) -> Diagnosis:
    before = files_in(root)
    found = diagnose(root, backup)
    assert files_in(root) == before
    return found


def told(found: Diagnosis) -> list[tuple[str, str]]:
    return [(f.state, f.where.removeprefix(f"{found.workspace}/")) for f in found.findings]


def test_a_whole_workspace_is_called_whole(workspace: Workspace, tmp_path: Path) -> None:
    fill(workspace)
    write_backup(workspace, tmp_path / "b.tar")
    workspace.journal.add([GoodBad(annotator="mia", sample=completion_sample(0).id, good=False)])
    found = diagnose(workspace.root, tmp_path / "b.tar")
    assert (found.state, found.findings) == ("whole", ())
    assert found.backup is not None
    assert (found.backup.rows, found.backup.files, found.backup.changed) == ({}, (), {})


def test_words_that_were_erased_are_no_damage(workspace: Workspace) -> None:
    sample = completion_sample(7)
    workspace.samples.add([sample])
    workspace.journal.add(
        [
            Demonstration(annotator="mia", sample=sample.id, reason="mine"),
            GoodBad(annotator="mia", sample=sample.id, good=True, reason="words"),
            GoodBad(annotator="bo", sample=sample.id, good=True),
        ]
    )
    workspace.snapshots.take([entry.id for entry in workspace.journal.active()])
    assert erase(workspace, "mia", by="admin").retracted
    assert diagnose(workspace.root).findings == ()


def test_files_that_rows_speak_of_and_files_that_none_does(work: Path) -> None:
    models = work / "artifacts" / "models"
    shutil.rmtree(models / "model-1")
    (models / "model-2" / "weights.safetensors").write_bytes(WEIGHTS[:-1])
    (work / "artifacts" / "runs" / "run-live" / "policy" / "trained.safetensors").unlink()
    put(models / "model-3" / "weights.safetensors", WEIGHTS)
    put(work / "artifacts" / "reports" / "other.html")
    put(work / "artifacts" / "notes.txt")
    found = examined(work)
    assert found.state == "damaged"
    assert told(found) == [
        ("lost", "artifacts/models/model-1"),
        ("damaged", "artifacts/models/model-2/weights.safetensors"),
        ("lost", "artifacts/runs/run-live/policy/trained.safetensors"),
        ("note", "artifacts/models/model-3"),
        ("note", "artifacts/notes.txt"),
        ("note", "artifacts/reports/other.html"),
    ]


@pytest.mark.parametrize("data", [b"", WEIGHTS[:7], WEIGHTS[:40], WEIGHTS[:-4], WEIGHTS + b"0000"])
def test_weights_without_a_manifest_are_held_to_their_own_header(work: Path, data: bytes) -> None:
    folder = work / "artifacts" / "models" / "model-1"
    (folder / "backflip-manifest.json").unlink()
    assert examined(work).state == "whole"
    (folder / "weights.safetensors").write_bytes(data)
    assert told(examined(work)) == [("damaged", "artifacts/models/model-1/weights.safetensors")]


def test_rows_that_are_gone_or_others_are_named(workspace: Workspace, tmp_path: Path) -> None:
    fill(workspace)
    write_backup(workspace, tmp_path / "b.tar")
    samples, prompts = schema.samples, schema.prompts
    first = completion_sample(0)
    other = workspace.samples.get([completion_sample(1).id])[completion_sample(1).id]
    with workspace.database.engine.begin() as connection:
        connection.execute(sa.delete(samples).where(samples.c.id == first.id))
        header = {**other.content.header(), "text": "what nobody wrote"}
        this = samples.c.id == other.id
        connection.execute(sa.update(samples).where(this).values(header=header))
        connection.execute(sa.delete(schema.metrics))
        asked = connection.execute(sa.select(prompts.c.id).limit(1)).scalar_one()
        content = completion_sample(99, prompt=99).prompt.content.model_dump(mode="json")
        this = prompts.c.id == asked
        connection.execute(sa.update(prompts).where(this).values(content=content))
    found = diagnose(workspace.root)
    places = {(f.state, f.where) for f in found.findings}
    assert ("lost", f"samples {first.id}") in places
    assert ("damaged", f"samples {other.id}") in places
    assert ("damaged", f"prompts {asked}") in places
    assert len(places) == 3
    compared = diagnose(workspace.root, tmp_path / "b.tar").backup
    assert compared is not None
    assert compared.rows == {"samples": 1, "metrics": 2}
    assert compared.changed == {"samples": 1, "prompts": 1}


def test_what_a_backup_would_bring_back(work: Path, kept: Path) -> None:
    whole = {
        table.name: number
        for table in schema.metadata.sorted_tables
        if (number := len(state_of(work)[table.name]))
    }
    (work / "backflip.db").write_bytes(b"")
    shutil.rmtree(work / "artifacts" / "models" / "model-1")
    found = examined(work, backup_of(kept))
    assert ("damaged", "backflip.db") in told(found)
    assert found.backup is not None
    assert found.backup.rows == whole
    assert set(found.backup.files) == {
        f"models/model-1/{name}"
        for name in ("weights.safetensors", "backflip.json", "backflip-manifest.json")
    }


def test_a_lost_file_is_told_once_by_its_row_or_by_the_backup(work: Path, kept: Path) -> None:
    artifacts = work / "artifacts"
    shutil.rmtree(artifacts / "models" / "model-1")
    (artifacts / "models" / "model-2" / "weights.safetensors").write_bytes(WEIGHTS[:-1])
    (artifacts / "runs" / "run-live" / "policy" / "trained.safetensors").unlink()
    (artifacts / "reports" / "run-live.html").unlink(missing_ok=True)
    alone = {place for state, place in told(examined(work)) if state != "note"}
    found = examined(work, backup_of(kept))
    places = [place for state, place in told(found) if state != "note"]
    assert len(places) == len(set(places))
    assert set(places) - alone == {"artifacts/reports/run-live.html"}  # of which no row speaks
    assert not any(place.startswith("artifacts/models/model-1/") for place in places)
    assert found.backup is not None
    assert len(found.backup.files) >= 4


def test_a_lost_row_is_told_once_whoever_speaks_of_it(work: Path, kept: Path) -> None:
    """By the rows that speak of it, or where none does by the backup, which brings it back."""
    tables = ("samples", "runs", "metrics")
    held = {name: state_of(work)[name] for name in tables}
    with closing(sqlite3.connect(work / "backflip.db")) as connection, connection:
        for name in tables:
            connection.execute(f"DELETE FROM {name}")  # noqa: S608
    found = examined(work, backup_of(kept))
    places = [place for state, place in told(found) if state == "lost"]
    assert len(places) == len(set(places))
    spoken = [place for place in places if place.startswith("samples ")]
    assert spoken
    assert "runs run-live" in places
    assert "table metrics" in places
    assert "table runs" not in places
    assert ("table samples" in places) == (len(spoken) < len(held["samples"]))
    assert found.backup is not None
    assert found.backup.rows == {name: len(rows) for name, rows in held.items()}


def test_a_backup_of_another_workspace_is_refused(work: Path, tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "other") as other:
        write_backup(other, tmp_path / "other.tar")
    with pytest.raises(WorkspaceError, match="a backup of another workspace"):
        diagnose(work, tmp_path / "other.tar")
    with pytest.raises(WorkspaceError, match="is not a backup"):
        diagnose(work, work / "workspace.json")
    with pytest.raises(WorkspaceError, match="no workspace here"):
        diagnose(tmp_path / "none")


def test_a_process_that_was_killed_left_nothing_damaged(work: Path, tmp_path: Path) -> None:
    """Its last rows are in SQLite's log alone."""
    with Workspace.open(work) as workspace:
        vote = GoodBad(annotator="zoe", sample=completion_sample(0).id, good=True)
        workspace.journal.add([vote])
        shutil.copytree(work, tmp_path / "killed")
    (tmp_path / "killed" / "backflip.db-shm").unlink()
    assert (tmp_path / "killed" / "backflip.db-wal").stat().st_size
    assert diagnose(tmp_path / "killed").findings == ()
    with Workspace.open(tmp_path / "killed") as workspace:
        assert vote in list(workspace.journal.active())


def told_of(found: Diagnosis) -> str:
    return "\n".join(finding.what for finding in found.findings)


def test_any_damage_is_named_and_opening_tells_in_words(kept: Path, tmp_path: Path) -> None:
    """Whatever file or row is damaged, in whatever way, by the seed."""
    backup, original = backup_of(kept), state_of(kept)
    named = 0
    for seed in seeds(30):
        work = copied(kept, tmp_path / "work")
        how, file = damage(work, random.Random(seed))
        case = f"seed {seed}: {how} of {file.relative_to(work)}"
        found = examined(work, backup)
        assert found.backup is not None
        places = {f.where for f in found.findings if f.state != "note"}
        if state_of(work) != original:
            named += 1
            if file.name == "backflip.db":  # what has no hash is held to the backup alone
                assert places or found.backup.rows or found.backup.changed, case
            elif file.name == "run-live.html":
                assert found.backup.files == ("reports/run-live.html",), case
            else:
                assert str(file) in places or file.name in told_of(found), case
        try:
            with Workspace.open(work) as opened:
                opened.journal.stats()
        except BackflipError as error:
            assert str(error), case
            alone = set(found.findings) - set(found.backup.findings)
            assert any(finding.state != "note" for finding in alone), case
    assert named > 15

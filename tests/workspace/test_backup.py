"""A workspace that is backed up and restored is the same, on either database."""

import math
import os
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from backup_helpers import (
    SAID,
    array_bytes,
    as_restored,
    content_of,
    dangling,
    everything,
    files_in,
    fill,
    live,
    put,
    rows_in,
    unpack,
)
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from store_helpers import completion_sample

from backflip import __version__
from backflip.errors import WorkspaceError
from backflip.records.feedback import GoodBad
from backflip.workspace import Workspace
from backflip.workspace.database import migrations, schema
from backflip.workspace.database.addresses import postgresql_url, sqlite_url
from backflip.workspace.database.engine import Database
from backflip.workspace.transfer import backup
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.reading import check_backup
from backflip.workspace.transfer.restore import restore_backup


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace with rows in every table."""
    live(workspace)
    with workspace.database.write() as connection:
        fill(connection, schema.metadata, start=100)
    return workspace


def test_everything_comes_back(filled: Workspace, target: str | None, tmp_path: Path) -> None:
    """Every row that lasts, value for value, and every file; from each database to each."""
    name = "all.tar" if target else "all.tar.gz"
    before, files = everything(filled.database), files_in(filled.artifacts)
    assert all(len(rows) > 4 for table, rows in before.items() if table != "alembic_version")
    file = tmp_path / name
    written = write_backup(filled, file)
    assert everything(filled.database) == before
    assert check_backup(file) == written.manifest == restore_backup(file, tmp_path / "new", target)

    with Workspace.open(tmp_path / "new") as restored:
        assert restored.database.is_sqlite == (target is None)
        kept = as_restored(before)
        assert everything(restored.database) == kept
        assert files_in(restored.artifacts) == files
        assert sorted(os.listdir(restored.root))[:1] == ["artifacts"]  # noqa: PTH208
        again = write_backup(restored, tmp_path / f"again-{name}").manifest
    assert again.tables == {name: len(kept[name]) - 1 for name in schema.metadata.tables}
    gone = [name for name, rows in kept.items() if len(rows) == 1]
    members = [m for m in written.manifest.members[1:] if m.name.split("/")[1] not in gone]
    assert list(again.members[1:]) == members
    assert len(gone) == 4


def test_a_restored_project_goes_on(
    workspace: Workspace, target: str | None, tmp_path: Path
) -> None:
    """By what the rest of the program reads of it."""
    live(workspace)
    write_backup(workspace, tmp_path / "all.tar")
    restore_backup(tmp_path / "all.tar", tmp_path / "new", target)
    with Workspace.open(tmp_path / "new") as restored:
        entries = restored.journal.active()
        assert entries == workspace.journal.active()
        assert {entry.reason for entry in entries} == {SAID, None}
        assert restored.journal.stats().retracted == 1
        assert restored.models.all() == workspace.models.all()
        model = restored.models.get("model-2")
        assert restored.snapshots.rows(str(model.snapshot)) == entries
        assert (restored.models.folder(model) / "weights.safetensors").is_file()
        (loss,) = restored.metrics.series("run-live", names=["loss"])
        assert math.isnan(loss.values[0])
        samples = restored.samples.get([s for entry in entries for s in entry.sample_ids])
        assert [s.content.header() for s in samples.values()] == [
            s.content.header() for s in workspace.samples.get(samples).values()
        ]


def test_a_backup_tells_what_is_in_it(filled: Workspace, tmp_path: Path) -> None:
    written = write_backup(filled, tmp_path / "all.tar")
    members = unpack(tmp_path / "all.tar")
    assert [members[0][0].name, members[-1][0].name] == ["backup.json", "manifest.json"]
    heading = content_of(members[0][1])
    assert (heading["format"], heading["revision"]) == (1, schema.HEAD)
    assert heading["backflip"] == __version__
    rows = rows_in(tmp_path / "all.tar")
    assert written.manifest.tables == {name: len(rows[name]) for name in schema.metadata.tables}
    with filled.database.read() as connection:
        stored = connection.exec_driver_sql("SELECT number, arrays, header FROM samples").all()
    assert {(r["number"], array_bytes(r), r["header"]) for r in rows["samples"]} == {
        (number, bytes(arrays), header) for number, arrays, header in stored
    }
    values = [row["value"] for row in rows["metrics"]]
    assert {"Infinity", "-Infinity", None} <= set(values)
    assert {0.1, 5e-324} <= set(values)
    assert all(entry.isreg() and entry.mode == 0o600 for entry, _ in members)


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
def test_numbers_go_on_after_those_that_there_are(
    filled: Workspace, target: str | None, tmp_path: Path
) -> None:
    write_backup(filled, tmp_path / "all.tar")
    restore_backup(tmp_path / "all.tar", tmp_path / "new", target)
    highest = {
        name: max(row["number"] for row in rows)
        for name, rows in rows_in(tmp_path / "all.tar").items()
        if "number" in rows[0]
    }
    with Workspace.open(tmp_path / "new") as restored:
        with restored.database.write() as connection:
            fill(connection, schema.metadata, start=200, numbered=False)
        for name, number in highest.items():
            column = schema.metadata.tables[name].c.number
            with restored.database.read() as connection:
                later = sa.select(sa.func.count()).where(column > number)
                assert connection.execute(later).scalar_one() == 4, name


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
def test_the_journal_is_append_only_in_a_restored_workspace(
    filled: Workspace, target: str | None, tmp_path: Path
) -> None:
    write_backup(filled, tmp_path / "all.tar")
    restore_backup(tmp_path / "all.tar", tmp_path / "new", target)
    with Workspace.open(tmp_path / "new") as restored:
        before = everything(restored.database)
        for table in ("journal", "snapshots", "snapshot_entries"):
            rows = schema.metadata.tables[table]
            for statement in (sa.delete(rows), sa.update(rows).values({rows.columns[1]: 9})):
                with (
                    pytest.raises(DBAPIError, match="append-only"),
                    restored.database.write() as connection,
                ):
                    connection.execute(statement)
        assert everything(restored.database) == before
        taken = GoodBad(annotator="mia", sample=completion_sample(0).id, good=False)
        restored.journal.add([taken])
        assert restored.journal.retract(taken.id, "wrong", by="mia")


def at_revision(root: Path, address: str | None, revision: str) -> Workspace:
    """A workspace as an older Backflip left it."""
    Workspace.create(root).close()
    (root / "backflip.db").unlink()
    database = Database(
        sqlite_url(root / "backflip.db") if address is None else postgresql_url(address)
    )
    with database.write("schema") as connection:
        migrations.upgrade(connection, revision)
    return Workspace(root, database)


@pytest.mark.parametrize("revision", migrations.revisions()[:-1])
def test_rows_of_an_older_schema_are_brought_up_to_date(
    database_address: str | None,
    target: str | None,
    revision: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """As they would have been where they were: the old workspace itself is opened beside it."""
    old = at_revision(tmp_path / "old", database_address, revision)
    request.addfinalizer(old.close)
    metadata = sa.MetaData()
    with old.database.write() as connection:
        metadata.reflect(connection)
        metadata.remove(metadata.tables["alembic_version"])
        fill(connection, metadata)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "HEAD", revision)
        patch.setattr(schema, "metadata", metadata)
        write_backup(old, tmp_path / "old.tar")
    found: list[str | None] = []
    with monkeypatch.context() as patch:
        patch.setattr(Database, "migrate", lambda self, **_: found.append(self.revision()))
        restore_backup(tmp_path / "old.tar", tmp_path / "new", target)
    assert found == [schema.HEAD], "before it became a workspace"
    old.database.migrate()
    with Workspace.open(tmp_path / "new") as restored:
        with restored.database.write() as connection:  # the old one has no id
            named = sa.delete(schema.secrets).where(schema.secrets.c.name == "workspace")
            assert connection.execute(named).rowcount == 1
        assert everything(restored.database) == as_restored(everything(old.database))
        assert restored.database.revision() == schema.HEAD
        assert len(everything(restored.database)) > len(metadata.tables) or revision > "0002"


def test_rows_fit_together_whoever_writes_between_them(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Another connection takes a snapshot and trains a model before every statement of a backup."""
    sample = completion_sample(0)
    workspace.samples.add([sample])
    steps = 0
    with Workspace.open(workspace.root) as other:

        def write(*_: Any) -> None:
            nonlocal steps
            steps += 1
            sample = completion_sample(steps)
            vote = GoodBad(annotator=f"a{steps}", sample=sample.id, good=True)
            other.samples.add([sample])
            other.journal.add([vote])
            other.snapshots.take([vote.id])

        write()
        event.listen(workspace.database.engine, "before_cursor_execute", write)
        write_backup(workspace, tmp_path / "all.tar")
        event.remove(workspace.database.engine, "before_cursor_execute", write)
    rows = rows_in(tmp_path / "all.tar")
    assert steps > len(schema.metadata.tables)
    assert dangling(rows) == []
    assert len(rows["journal"]) == len(rows["snapshot_entries"]) == len(rows["annotators"])
    assert len(rows["samples"]) == len(rows["journal"]) + 1
    assert len(rows["journal"]) < 4, "the snapshot is of the beginning"


def test_of_the_files_only_what_lasts_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    live(workspace)
    kept = {
        "models/model-1/weights.safetensors",
        "models/model-2/weights.safetensors",
        "reports/run.html",
        "runs/run/start/policy/network.safetensors",
        f"notes/{'long ' * 45}/a\nb Zoë 🙂.txt",
        "notes/-rf",
        "linked/inside/model.gguf",
    }
    for name in (
        *(name for name in kept if not name.startswith(("models", "linked"))),
        *("models/model-9/weights", "runs/run/sft/step-00000008/values.json"),
        *("runs/run/round-1/reward/overall-0/step-00000002/values.json", "runs/run/lock"),
        *("reports/run.html.77.draft", "models/.model-3-abc/weights", "x/y.lock", "x/y.tmp"),
        *("runs/run/sft/step-00000009.unfinished/x", "runs/run/.trained.safetensors.draft"),
    ):
        put(workspace.artifacts / name)
    put(tmp_path / "disk" / "inside" / "model.gguf")
    (workspace.artifacts / "linked").symlink_to(tmp_path / "disk")
    (workspace.artifacts / "reports" / "up").symlink_to(workspace.artifacts)
    (workspace.artifacts / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(workspace.artifacts / "pipe")

    written = write_backup(workspace, tmp_path / "all.tar")
    assert set(written.left_out) == {
        "models/model-9",
        "runs/run/sft/step-00000008",
        "runs/run/round-1/reward/overall-0/step-00000002",
    }
    restore_backup(tmp_path / "all.tar", tmp_path / "new")
    assert set(files_in(tmp_path / "new" / "artifacts")) == kept
    assert not any(path.is_symlink() for path in (tmp_path / "new").rglob("*"))

    rows_only = write_backup(workspace, tmp_path / "rows.tar", artifacts=False)
    assert (rows_only.manifest.artifacts, written.manifest.artifacts) == (0, len(kept))
    assert rows_only.manifest.tables == written.manifest.tables


def test_models_from_elsewhere_are_named(workspace: Workspace, tmp_path: Path) -> None:
    live(workspace)
    record = workspace.models.get("model-1").model_copy(update={"id": "m", "path": "/models/m"})
    workspace.models.register(record)
    assert write_backup(workspace, tmp_path / "all.tar").elsewhere == ("/models/m",)


def test_a_file_whose_name_is_no_text(workspace: Workspace, tmp_path: Path) -> None:
    put(workspace.artifacts / os.fsdecode(b"bad \xff name"))
    with pytest.raises(WorkspaceError, match="name that is no text"):
        write_backup(workspace, tmp_path / "all.tar")
    assert not list(tmp_path.glob("*all.tar*"))


def test_memory_does_not_grow_with_the_rows(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PART_BYTES", 1 << 16)
    with workspace.database.write() as connection:
        rows = [{"name": f"{n} {'x' * 2000}", "value": n} for n in range(5000)]
        connection.execute(sa.insert(schema.secrets), rows)
        del rows
    write_backup(workspace, tmp_path / "first.tar")  # with all modules that it needs
    restore_backup(tmp_path / "first.tar", tmp_path / "first")
    peaks = []
    for step in (
        lambda: write_backup(workspace, tmp_path / "all.tar"),
        lambda: restore_backup(tmp_path / "all.tar", tmp_path / "new"),
    ):
        tracemalloc.start()
        step()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "all.tar").stat().st_size > 10e6
    assert max(peaks) < 4e6, peaks


def test_a_file_that_is_there_is_replaced_only_by_force(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "all.tar"
    file.write_text("mine")
    with pytest.raises(WorkspaceError, match=r"all\.tar: is there already"):
        write_backup(workspace, file)
    assert file.read_text() == "mine"
    write_backup(workspace, file, force=True)
    assert check_backup(file).tables["prompts"] == 0
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(WorkspaceError, match="is a folder"):
        write_backup(workspace, tmp_path, force=True)
    with pytest.raises(WorkspaceError, match=r"none/all\.tar: cannot be written"):
        write_backup(workspace, tmp_path / "none" / "all.tar")

    link, late = os.link, tmp_path / "late.tar"

    def comes_between(source: Path, to: Path) -> None:
        late.write_text("theirs")
        link(source, to)

    monkeypatch.setattr(os, "link", comes_between)
    with pytest.raises(WorkspaceError, match="is there already"):
        write_backup(workspace, late)
    assert late.read_text() == "theirs"
    late.unlink()

    def unknown(source: Path, to: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unknown)
    write_backup(workspace, late)
    check_backup(late)
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_told_and_leaves_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(workspace)
    write_backup(workspace, tmp_path / "whole.tar")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "addfile", full)
        with pytest.raises(WorkspaceError, match="the disk is full"):
            write_backup(workspace, tmp_path / "all.tar")
    assert not list(tmp_path.glob("*all.tar*"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkspaceError, match="the disk is full"):
            restore_backup(tmp_path / "whole.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    restore_backup(tmp_path / "whole.tar", tmp_path / "new")

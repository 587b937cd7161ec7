"""Backups that are damaged, cut off, forged or hostile: refused in words, and nothing is left."""

import gzip
import itertools
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import (
    Members,
    change_rows,
    content_of,
    files_in,
    fill,
    forge,
    live,
    named,
    pack,
    put,
    seal,
    unpack,
)

from backflip.errors import DamageError, WorkspaceError
from backflip.workspace import Workspace
from backflip.workspace.database import schema
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.reading import check_backup
from backflip.workspace.transfer.restore import restore_backup


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup with rows in every table and three files."""
    folder = tmp_path_factory.mktemp("kept")
    with Workspace.create(folder / "workspace") as workspace:
        live(workspace)
        put(workspace.artifacts / "reports" / "run.html")
        with workspace.database.write() as connection:
            fill(connection, schema.metadata, start=100)
        write_backup(workspace, folder / "all.tar")
        write_backup(workspace, folder / "all.tar.gz")
    return folder / "all.tar"


@pytest.fixture
def whole(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copy(kept.with_name("all.tar.gz"), tmp_path)
    return Path(shutil.copy(kept, tmp_path))


def refused(file: Path, *fragments: str, address: str | None = None) -> str:
    """Restore it, which must fail in words and leave nothing; returns what was told."""
    folder = file.parent
    before = files_in(folder)
    with pytest.raises(WorkspaceError) as caught:
        restore_backup(file, folder / "new", address)
    told = str(caught.value)
    for fragment in fragments:
        assert fragment in told
    assert not (folder / "new").exists()
    assert files_in(folder) == before
    return told


def test_every_damaged_byte_is_found_and_its_member_named(whole: Path) -> None:
    with tarfile.open(whole) as tar:
        places = [(entry.name, entry.offset_data, entry.size) for entry in tar]
    data = whole.read_bytes()
    for name, start, size in places:
        for place in {start, start + size // 2, start + size - 1}:
            whole.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            with pytest.raises(WorkspaceError, match="damaged at") as caught:
                check_backup(whole)
            assert caught.value.what == f"is damaged at {name}"
            assert caught.value.where == str(whole)
    for (before, *_), (_, start, _) in itertools.pairwise(places):
        place = start - tarfile.BLOCKSIZE  # of the header
        whole.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(WorkspaceError, match="cut off or damaged after") as caught:
            check_backup(whole)
        assert caught.value.what.endswith(f"after {before}")
    whole.write_bytes(data)
    check_backup(whole)


def test_a_damaged_member_is_not_restored(whole: Path, database_address: str | None) -> None:
    data = whole.read_bytes()
    place = data.index(b"DROP TABLE journal -- journal")
    whole.write_bytes(data[:place] + b"d" + data[place + 1 :])
    refused(whole, "damaged at tables/journal/000001.jsonl", address=database_address)


def unpacked(data: bytes) -> bytes:
    """As much as the beginning of a gzip file tells."""
    return zlib.decompressobj(31).decompress(data)


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz"])
def test_a_backup_that_is_cut_off_is_refused(whole: Path, name: str) -> None:
    file = whole.with_name(name)
    data = file.read_bytes()
    # What closes a tar is of no use; before it, every byte is.
    last = file.with_name("all.tar").read_bytes().rindex(b"}\n") + 2
    if name.endswith("gz"):
        last = next(n for n in range(len(data)) if len(unpacked(data[:n])) >= last)
    for length in [*range(0, last, last // 60), last - 1]:
        file.write_bytes(data[:length])
        with pytest.raises(WorkspaceError, match=r"cut off|damaged|not a backup") as caught:
            check_backup(file)
        assert str(caught.value).startswith(str(file))


def test_a_damaged_packed_backup_is_refused_or_the_same(whole: Path) -> None:
    file = whole.with_name("all.tar.gz")
    data = file.read_bytes()
    expected, found = check_backup(file), 0
    for place in range(10, len(data), len(data) // 150):
        file.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        try:
            assert check_backup(file) == expected
        except WorkspaceError:
            found += 1
    assert found > 140


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text", b"hello"),
        ("nothing", b""),
        ("zeros", bytes(4096)),
        ("gzip", gzip.compress(b"x", mtime=0)),
    ],
)
def test_what_is_no_backup(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, str(tmp_path / name))
    refused(pack(tmp_path / "other", [named("notes.txt", b"x")]), "is not a backup")
    refused(tmp_path / "missing", "missing: cannot be read: No such file")
    refused(tmp_path, "cannot be read")


HOSTILE_ENTRIES: dict[str, tuple[tarfile.TarInfo, bytes]] = {
    "absolute": named("/tmp/evil", b"x"),  # noqa: S108
    "absolute artifact": named("/artifacts/evil", b"x"),
    "parent": named("../evil", b"x"),
    "parent of the artifacts": named("artifacts/../evil", b"x"),
    "far parent": named("artifacts/a/../../../evil", b"x"),
    "over the marker": named("workspace.json", b"{}"),
    "over the database": named("backflip.db", b"x"),
    "the artifacts themselves": named("artifacts", b"x"),
    "no name": named("artifacts/", b"x"),
    "empty part": named("artifacts//etc/evil", b"x"),
    "dot": named("artifacts/./evil", b"x"),
    "link": named("artifacts/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "link beside": named("artifacts/link", type=tarfile.SYMTYPE, linkname="reports"),
    "hard link": named("artifacts/link", type=tarfile.LNKTYPE, linkname="artifacts/reports"),
    "hard link outside": named("artifacts/link", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "folder": named("artifacts/folder", type=tarfile.DIRTYPE),
    "pipe": named("artifacts/pipe", type=tarfile.FIFOTYPE),
    "device": named("artifacts/device", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "unknown type": named("artifacts/odd", type=b"Z"),
    "table of another form": named("tables/journal/1.jsonl", b""),
    "parent table": named("tables/../000001.jsonl", b""),
    "something else": named("notes.txt", b"x"),
}


@pytest.mark.parametrize("name", HOSTILE_ENTRIES)
def test_a_hostile_member_lands_nowhere(whole: Path, name: str) -> None:
    """In the middle of a backup whose manifest says that all is well."""
    entry, data = HOSTILE_ENTRIES[name]
    forged = forge(whole, lambda members: [*members[:-2], (entry, data), *members[-2:]])
    told = refused(forged, "which has no place in a backup", "Do not trust")
    assert repr(entry.name.rstrip("/") if entry.isdir() else entry.name) in told
    with pytest.raises(WorkspaceError, match="no place in a backup"):
        check_backup(forged)


def test_a_link_and_a_file_through_it(whole: Path, tmp_path: Path) -> None:
    link = named("artifacts/out", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    through = named("artifacts/out/evil", b"x")
    refused(forge(whole, lambda members: [*members, link, through]), "artifacts/out")
    assert not (tmp_path / "evil").exists()
    both = [named("artifacts/out", b"x"), through]
    refused(forge(whole, lambda members: [*members, *both]), "cannot be written")


def test_a_member_twice(whole: Path) -> None:
    refused(forge(whole, lambda m: [*m, m[-1]]), "is damaged at")
    members = unpack(whole)
    refused(pack(whole, [*members, named("artifacts/late", b"x")]), "damaged at artifacts/late")
    refused(pack(whole, members[:-2] + members[-1:]), f"damaged at {members[-2][0].name}")
    more = [*members[:-1], named("artifacts/more", b"x"), members[-1]]
    refused(pack(whole, more), "damaged at artifacts/more")
    refused(pack(whole, members[:-1]), "cut off or damaged after")


def heading(**fields: Any) -> Callable[[Members], Members]:
    def forged(members: Members) -> Members:
        content = {**content_of(members[0][1]), **fields}
        return [named("backup.json", seal(content)), *members[1:]]

    return forged


def test_a_newer_backup_is_refused(whole: Path, database_address: str | None) -> None:
    known = f"newer Backflip: its schema is 9999, this program knows schemas up to {schema.HEAD}"
    for forgery, told in (
        (heading(revision="9999"), known),
        (heading(format=2), "newer Backflip: its format is 2, this program knows 1"),
    ):
        refused(forge(whole, forgery), told, "Install the newer Backflip", address=database_address)
    refused(forge(whole, heading(extra=1)), "damaged at backup.json")


def test_a_manifest_that_does_not_add_up(whole: Path) -> None:
    *members, (_, data) = unpack(whole)
    told = content_of(data)
    for change in (
        {"tables": {**told["tables"], "journal": told["tables"]["journal"] + 1}},
        {"members": [*told["members"], told["members"][0]]},
        {"members": "none"},
        {"extra": 1},
    ):
        forged = pack(whole, [*members, named("manifest.json", seal({**told, **change}))])
        refused(forged, "damaged at manifest.json")
    told["heading"]["backflip"] = "9"
    forged = pack(whole, [*members, named("manifest.json", seal(told))])
    refused(forged, "damaged at backup.json")
    for data in (b"[]", b"nothing", b"{}", b"[" * 100_000):
        refused(pack(whole, [*members, named("manifest.json", data)]), "damaged at manifest.json")


ROWS: dict[str, tuple[str, Callable[[list[Any]], Any], str]] = {
    "no sample of that name": (
        "assignments",
        lambda rows: rows[0].update(task_id="none"),
        "a row of assignments that does not fit",
    ),
    "a retraction of nothing": (
        "journal",
        lambda rows: rows[-1].update(retracts="none"),
        "journal",
    ),
    "the same row twice": ("journal", lambda rows: rows.append(rows[-1]), "journal"),
    "another row of the same number": (
        "journal",
        lambda rows: rows.append({**rows[-1], "id": "other", "retracts": None}),
        "journal",
    ),
    "no value": ("prompts", lambda rows: rows[0].update(split=None), "prompts"),
    "a column too few": ("prompts", lambda rows: rows[0].pop("split"), "other columns"),
    "a column too many": ("prompts", lambda rows: rows[0].update(more=1), "other columns"),
    "a number for a text": ("prompts", lambda rows: rows[0].update(split=7), "7 is no text"),
    "a list for a text": ("prompts", lambda rows: rows[0].update(split=[]), "[] is no text"),
    "a text for a number": ("prompts", lambda rows: rows[0].update(number="7"), "whole number"),
    "a large number": ("prompts", lambda rows: rows[0].update(number=2**63), "whole number"),
    "a boolean for a number": ("prompts", lambda rows: rows[0].update(number=True), "number"),
    "a number for a boolean": ("tasks", lambda rows: rows[0].update(closed=1), "true nor false"),
    "a text for a float": ("metrics", lambda rows: rows[0].update(value="nan"), "no number"),
    "bytes that are none": ("samples", lambda rows: rows[0].update(arrays="a-b"), "samples"),
    "a list for a row": ("prompts", lambda rows: rows.append([]), "other columns"),
}


def test_forged_rows_are_refused(whole: Path, database_address: str | None) -> None:
    """Though their manifest fits them; and nothing of them stays in the database."""
    for table, change, told in ROWS.values():
        forged = forge(whole, change_rows(table, change))
        check_backup(forged)
        refused(forged, told, address=database_address)
        forged.unlink()
    restore_backup(whole, whole.parent / "new", database_address)


def test_rows_of_other_tables_are_refused(whole: Path) -> None:
    extra = named("tables/alembic_version/000001.jsonl", b'{"version_num":"x"}\n')
    refused(forge(whole, lambda members: [*members, extra]), "other tables than schema")
    *members, (_, data) = unpack(whole)
    told = content_of(data)
    del told["tables"]["journal"]
    told["members"] = [m for m in told["members"] if "/journal/" not in m["name"]]
    rest = [(e, d) for e, d in members if "/journal/" not in e.name]
    forged = pack(whole, [*rest, named("manifest.json", seal(told))])
    refused(forged, "other tables than schema", "journal")


def test_a_file_that_changes_while_it_is_restored(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between being checked and being loaded."""
    from backflip.workspace.transfer import restore

    forged = forge(whole, change_rows("prompts", lambda rows: rows[0].update(split="other")))
    load = restore._load

    def exchanged(*arguments: Any) -> None:
        shutil.copy(forged, whole)
        load(*arguments)

    monkeypatch.setattr(restore, "_load", exchanged)
    with pytest.raises(WorkspaceError, match=r"damaged at tables/prompts/000001\.jsonl"):
        restore_backup(whole, whole.parent / "new")
    assert not (whole.parent / "new").exists()


def test_only_a_new_workspace_is_made(whole: Path, workspace: Workspace) -> None:
    for folder in (workspace.root, workspace.artifacts.parent):
        with pytest.raises(WorkspaceError, match="is a workspace already"):
            restore_backup(whole, folder)
    (whole.parent / "full").mkdir()
    (whole.parent / "full" / "notes.txt").write_text("mine")
    with pytest.raises(WorkspaceError, match=r"is not empty: it holds notes\.txt"):
        restore_backup(whole, whole.parent / "full")
    with pytest.raises(WorkspaceError, match=r"notes\.txt: cannot be read"):
        restore_backup(whole, whole.parent / "full" / "notes.txt")
    assert (whole.parent / "full" / "notes.txt").read_text() == "mine"
    if not workspace.database.is_sqlite:
        address = json.loads((workspace.root / "workspace.json").read_text())["database"]
        refused(whole, "the database is not empty", "Name an empty database", address=address)
        assert workspace.journal.count() == 0
    refused(whole, "database", "postgresql://", address="mysql://host/db")
    (whole.parent / "bare").mkdir()
    restore_backup(whole, whole.parent / "bare")


def test_bytes_that_are_no_text_are_not_written_down_as_others(
    sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copytree(sqlite_template, tmp_path / "work")
    with Workspace.open(tmp_path / "work") as workspace:
        live(workspace)
        with workspace.database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER journal_no_update")
            connection.exec_driver_sql("UPDATE journal SET body = CAST(x'7bff7d' AS TEXT)")
        with pytest.raises(DamageError):
            write_backup(workspace, tmp_path / "b.tar")
        assert not (tmp_path / "b.tar").exists()
        with workspace.database.read() as connection:  # a page may be shown all the same
            assert connection.exec_driver_sql("SELECT body FROM journal").first() == ("{\ufffd}",)

"""A workspace beside a backup of it: what the backup holds and the workspace does not."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from backflip.files.manifest import hash_file
from backflip.plain_text import counted
from backflip.records import Record
from backflip.workspace.database import schema
from backflip.workspace.database.engine import workspace_id
from backflip.workspace.doctor.reading import Finding, name_of
from backflip.workspace.transfer.backup import ARTIFACTS, lines_of
from backflip.workspace.transfer.bounds import Bounds
from backflip.workspace.transfer.reading import read_backup, read_row

LASTING = (
    *("prompts", "samples", "journal", "snapshots", "snapshot_entries", "models"),
    *("model_annotators", "runs", "stages", "metrics", "tasks", "batches", "guidelines"),
)
"""Tables from which Backflip never takes a row."""
_Known = dict[bytes, bytes]


class BackupComparison(Record):
    """What a backup would bring back.

    Attributes:
        file: the backup.
        of: id of its workspace; None where it was made before ids were kept.
        created: when it was written.
        rows: number of rows by table that are in it and not in the workspace.
        files: artifacts that are in it and are gone from the workspace, or are another there.
        changed: number of rows by table that are another in the workspace; most change with use.
        findings: those of them that are damage.
    """

    file: Path
    of: str | None
    created: datetime
    rows: dict[str, int]
    files: tuple[str, ...]
    changed: dict[str, int]
    findings: tuple[Finding, ...] = ()


def compare(
    file: Path,
    root: Path,
    connection: Connection | None,
    bounds: Bounds,
    *,
    rows: bool = True,
    told: Collection[str] = (),
) -> BackupComparison:
    """Hold a workspace to a backup.

    Args:
        file: the backup; it is read from end to end.
        root: the workspace.
        connection: to its database; None where that cannot be read.
        bounds: what the backup may ask of this machine.
        rows: whether they are compared, or only the files.
        told: names of rows (see `name_of`) of which it is told already that they are lost: they
            would come back, and are in no finding.

    Raises:
        WorkspaceError: the backup cannot be used.
    """
    here = {table.name: _known(connection, table) for table in schema.metadata.sorted_tables}
    lost: Counter[str] = Counter()
    untold: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    named: list[str] = []

    def hold(table: str, lines: Iterator[bytes]) -> int:
        number = 0
        for line in lines:
            number += 1
            key, row = _key(table, line)
            if table == "secrets" and row.get("name") == "workspace":
                named.extend(filter(None, [workspace_id(row.get("value"))]))
            if not rows:
                continue
            known = here.get(table, {}).get(key)
            lost[table] += known is None
            untold[table] += known is None and _name(table, row) not in told
            changed[table] += known is not None and known != _digest(line)
        return number

    manifest = read_backup(file, None, None, bounds, hold)
    same = manifest.heading.revision == schema.HEAD  # rows of an older one are spelt otherwise
    prefix = f"{ARTIFACTS}/"
    files = [m for m in manifest.members if m.name.startswith(prefix)]
    other = [m.name.removeprefix(prefix) for m in files if not _is_there(root / m.name, m.sha256)]
    gone = {name: lost[name] for name in lost if lost[name]}
    return BackupComparison(
        file=file,
        of=named[0] if named else None,
        created=manifest.heading.created,
        rows=gone,
        files=tuple(other),
        changed={name: changed[name] for name in changed if changed[name]} if same else {},
        findings=tuple(_findings(root, +untold, other)),
    )


def _findings(root: Path, rows: Mapping[str, int], files: list[str]) -> Iterator[Finding]:
    for table, number in rows.items():
        if table in LASTING:
            is_ = "is" if number == 1 else "are"
            what = f"{counted(number, 'row')} {is_} in the backup and not here"
            yield Finding(state="lost", what=what, where=f"table {table}")
    for name in files:
        path = root / ARTIFACTS / name
        if not path.exists():
            yield Finding(state="lost", what="is in the backup and not here", where=str(path))
        elif name.startswith(("models/", "media/")):  # which are made once and never changed
            yield Finding(state="damaged", what="is not what the backup holds", where=str(path))


def _known(connection: Connection | None, table: sa.Table) -> _Known:
    """Hashes of the rows that there are, each by its key; those that can be read, where it breaks.

    What breaks is told of by `check_rows`; the rows behind it count as lost.
    """
    found: _Known = {}
    if connection is None:
        return found
    try:
        for line in lines_of(connection, table):
            line = line.removesuffix(b"\n")
            found[_key(table.name, line)[0]] = _digest(line)
    except (DBAPIError, ValueError, TypeError):
        pass
    return found


def _name(table: str, row: dict[str, Any]) -> str:
    known = schema.metadata.tables.get(table)
    return table if known is None else name_of(known, row)


def _key(table: str, line: bytes) -> tuple[bytes, dict[str, Any]]:
    """What tells a row from the others of its table, and the row; a key of no row for no row."""
    try:
        row = read_row(line)
    except (ValueError, RecursionError):
        return b"", {}
    known = schema.metadata.tables.get(table)
    if known is None or not isinstance(row, dict):
        return b"", {}
    return _digest(repr([row.get(c.name) for c in known.primary_key.columns]).encode()), row


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=12).digest()


def _is_there(path: Path, sha256: str) -> bool:
    try:
        return path.is_file() and hash_file(path) == sha256
    except OSError:  # it cannot be read, so that it would come back
        return False

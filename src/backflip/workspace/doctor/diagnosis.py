"""What of a workspace is damaged or lost, and what a backup would bring back.

A workspace is read from end to end and never changed, in whatever state it is: its marker, its
database, every row that is named by what it holds, every file that a row speaks of. A database
keeps no hash of what has none of its own (a metric, a user's name): there only a backup can tell.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from backflip.errors import BackflipError, WorkspaceError, reaching
from backflip.records import Record
from backflip.workspace.database import columns, migrations, schema
from backflip.workspace.database.addresses import postgresql_url
from backflip.workspace.doctor.backup import BackupComparison, compare
from backflip.workspace.doctor.files import check_files, check_strays
from backflip.workspace.doctor.media import check_media
from backflip.workspace.doctor.reading import Finding, reading, telling
from backflip.workspace.doctor.rows import check_rows
from backflip.workspace.transfer.bounds import BOUNDS, Bounds
from backflip.workspace.workspace import DATABASE, MARKER, Marker, read_marker

State = Literal["whole", "damaged"]


class Diagnosis(Record):
    """What a workspace is like.

    Attributes:
        workspace: its folder.
        state: "damaged" where something is damaged or lost.
        findings: what is.
        backup: what a backup would bring back; None where none was compared.
    """

    workspace: Path
    state: State
    findings: tuple[Finding, ...]
    backup: BackupComparison | None = None


@reaching(WorkspaceError)
def diagnose(
    folder: str | Path, backup: str | Path | None = None, *, bounds: Bounds = BOUNDS
) -> Diagnosis:
    """Examine a workspace, and compare it with a backup.

    Nothing of the workspace is changed. Where another process works in it, or was killed, SQLite
    may put its index, `backflip.db-shm`, beside the database.

    Args:
        folder: of the workspace.
        backup: a file of `write_backup`.
        bounds: what the backup may ask of this machine.

    Raises:
        WorkspaceError: there is no trace of a workspace, it may not be read, or the backup cannot
            be used: it is damaged, or of another workspace.
    """
    root = Path(folder).resolve()
    if not (root / MARKER).exists() and not (root / DATABASE).exists():
        raise WorkspaceError(
            "no workspace here", where=str(root), hint="Name the folder of a workspace."
        )
    findings: list[Finding] = []
    marker = _marker(root, findings)
    names = {marker.id} if marker is not None and marker.id is not None else set[str]()
    compared = None
    try:
        with reading(root, marker and marker.database) as connection:
            kind = _examine(root, marker, connection, findings, names)
            if backup is not None:
                rows = kind != "older"
                read = connection if kind == "known" else None
                lost = {finding.where for finding in findings if finding.state == "lost"}
                compared = compare(Path(backup), root, read, bounds, rows=rows, told=lost)
    except (DBAPIError, OSError, UnicodeError, _UnreadableError) as error:
        findings.append(telling("damaged", error, where=_place(root, marker)))
    if backup is not None and compared is None:
        compared = compare(Path(backup), root, None, bounds)
    if compared is not None:
        if compared.of is not None and names and compared.of not in names:
            raise WorkspaceError(
                f"is a backup of another workspace, {compared.of}", where=str(backup)
            )
        findings += _further(findings, compared.findings)
    state: State = "damaged" if any(f.state != "note" for f in findings) else "whole"
    return Diagnosis(workspace=root, state=state, findings=tuple(findings), backup=compared)


def _further(findings: list[Finding], compared: Iterable[Finding]) -> list[Finding]:
    """What only the backup tells: of a file or its folder, a row may have told the same."""
    told = {finding.where for finding in findings if finding.state != "note"}
    return [f for f in compared if not told & {f.where, *map(str, Path(f.where).parents)}]


class _UnreadableError(Exception):
    """A database in which there is nothing to examine."""


def _place(root: Path, marker: Marker | None) -> str:
    return str(root / DATABASE) if marker is None or marker.database is None else "the database"


def _marker(root: Path, findings: list[Finding]) -> Marker | None:
    """The marker; None where it cannot be read: the database is looked for in the folder then."""
    try:
        marker = read_marker(root / MARKER)
        if marker.database is not None:
            postgresql_url(marker.database)
        return marker
    except BackflipError as error:
        if isinstance(error.__cause__, PermissionError):  # nothing is known to be wrong with it
            raise
        findings.append(Finding(state="damaged", what=error.what, where=str(root / MARKER)))
        return None


def _examine(
    root: Path,
    marker: Marker | None,
    connection: Connection,
    findings: list[Finding],
    names: set[str],
) -> Literal["known", "older", "strange"]:
    """Look at the database and at the files; returns of what kind its schema is.

    `names` gets what the database calls the workspace.
    """
    where = _place(root, marker)
    revision = _revision(connection)
    if revision not in migrations.revisions():
        told = f"its schema is {revision}, which this program does not know"
        findings.append(Finding(state="damaged", what=told, where=where))
        return "strange"
    if revision != schema.HEAD:
        told = "is of an older schema: open the workspace once, so that its rows can be examined"
        findings.append(Finding(state="note", what=told, where=where))
        findings.extend(_guarded(check_files(connection, root / "artifacts"), where))
        return "older"
    _check_identity(connection, marker, where, findings, names)
    findings.extend(check_rows(connection, where))
    findings.extend(_guarded(check_files(connection, root / "artifacts"), where))
    findings.extend(_guarded(check_media(connection, root / "artifacts"), where))
    findings.extend(_guarded(check_strays(connection, root / "artifacts"), where))
    return "known"


def _revision(connection: Connection) -> str:
    try:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as error:
        if "no such table" in str(error) or "does not exist" in str(error):
            raise _UnreadableError("it holds no tables") from error
        raise
    return str(found)


def _check_identity(
    connection: Connection,
    marker: Marker | None,
    where: str,
    findings: list[Finding],
    names: set[str],
) -> None:
    value = schema.secrets.c.value
    query = sa.select(sa.type_coerce(value, sa.Text)).where(schema.secrets.c.name == "workspace")
    try:
        found = connection.execute(query).scalar()
    except (DBAPIError, UnicodeError) as error:
        findings.append(telling("damaged", error, where=where))
        return
    if found is not None:
        names.add(str(found).strip('"'))
    if marker is not None and marker.id is not None and found != columns.canonical(marker.id):
        told = f"says that it is of {found}, and {MARKER} that it is of {marker.id}"
        findings.append(Finding(state="damaged", what=told, where=where))


def _guarded(found: Iterator[Finding], where: str) -> Iterator[Finding]:
    """What was found before the database could not be read on."""
    try:
        yield from found
    except (DBAPIError, ValueError, TypeError, RecursionError) as error:
        yield telling("damaged", error, where=where)

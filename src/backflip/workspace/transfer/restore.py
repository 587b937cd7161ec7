"""The way back from `backflip.workspace.transfer.backup`: a new workspace made of a backup."""

import base64
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.types import TypeEngine

from backflip.errors import FREE_SPACE, WorkspaceError, reaching, why_not_written
from backflip.files.durable import flush_folder
from backflip.workspace.database import migrations, schema
from backflip.workspace.database.addresses import postgresql_url, sqlite_url
from backflip.workspace.database.artifacts import unreadable
from backflip.workspace.database.engine import Database
from backflip.workspace.transfer.backup import ARTIFACTS, HEADING, PART_BYTES, WORDS, Manifest
from backflip.workspace.transfer.bounds import BOUNDS, Bounds, require_room
from backflip.workspace.transfer.reading import (
    OTHER_COPY,
    PART,
    Content,
    damaged,
    read_backup,
    read_members,
    read_row,
)
from backflip.workspace.workspace import DATABASE, MARKER, Workspace

_DRAFT = ".restore-"
_NEW_FOLDER = "Name a folder that is not there yet."
_CACHE_KIB = 64 << 10
_HEAP_ROWS = 1000
_SHOWN = 500
_LIMIT = 2**63  # of whole numbers, in both databases
_GUARDS = (
    "SELECT DISTINCT tgfoid::regprocedure::text FROM pg_trigger JOIN pg_class ON tgrelid = "
    "pg_class.oid WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace"
)
"""Functions of the triggers on the tables, which stay when those go."""
_PASSING = (schema.sessions, schema.login_failures, schema.workers, schema.servers)


@reaching(WorkspaceError)
def restore_backup(
    file: str | Path,
    folder: str | Path,
    database: str | None = None,
    *,
    advance: Callable[[int], None] | None = None,
    bounds: Bounds = BOUNDS,
) -> Manifest:
    """Make a workspace of a backup, on either database, wherever the backup came from.

    Rows of an older schema are brought up to date. Nobody is signed in to the new workspace, and
    nothing is told to webhooks that waited to be told when the backup was written. Cut off at any
    instant, it leaves no workspace in the folder, and may be done again; on PostgreSQL the rows
    come in one transaction.

    Args:
        file: the backup.
        folder: is made; or is there and empty.
        database: a `postgresql://` address of an empty database; None for SQLite in the folder.
        advance: called with the number of rows written since the last call.
        bounds: what the backup may ask of this machine.

    Raises:
        WorkspaceError: as `check_backup`; or the folder or database is not empty or cannot be
            written, or the rows do not fit together.
    """
    path, root = Path(file), Path(folder).resolve()
    _require_new(root)
    made = [each for each in (root, *root.parents) if not each.exists()]
    draft = root / f"{_DRAFT}{secrets.token_hex(4)}"
    url = sqlite_url(draft / DATABASE) if database is None else postgresql_url(database)
    try:
        (draft / ARTIFACTS).mkdir(parents=True)
        with closing(Database(url)) as opened:
            with opened.read() as connection:
                _require_empty(connection, opened)
            manifest = read_backup(path, draft, None, bounds)
            _load(_Source(path, manifest, draft, bounds), opened, advance)
        try:
            _put_in_place(draft, root, database)
        except BaseException:
            if database is not None and not (root / MARKER).exists():
                _empty(url)
            raise
    except OSError as error:
        raise WorkspaceError(why_not_written(error), where=str(root), hint=FREE_SPACE) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):  # there is a workspace in it now
            for folder in made:
                folder.rmdir()
    return manifest


@dataclass(frozen=True)
class _Source:
    """A backup that was read to its end, and where what it holds is put together."""

    file: Path
    manifest: Manifest
    draft: Path
    bounds: Bounds


def _empty(url: URL) -> None:
    """Take the rows of a workspace that was not made out of a database that was empty before."""
    with closing(Database(url)) as opened, opened.write("schema") as connection:
        guards = connection.exec_driver_sql(_GUARDS).scalars().all()
        found = sa.MetaData()
        found.reflect(connection)
        found.drop_all(connection)
        for guard in guards:
            connection.exec_driver_sql(f"DROP FUNCTION {guard}")


def _require_new(root: Path, draft: str = "") -> None:
    """Refuse a folder that holds more than `draft` and what restores that were killed left."""
    if (root / MARKER).exists():
        raise WorkspaceError("is a workspace already", where=str(root), hint=_NEW_FOLDER)
    try:
        found = {path.name for path in root.iterdir()} if root.exists() else set()
    except OSError as error:
        raise unreadable(error, str(root)) from error
    found.discard(draft)
    if any(name.startswith(_DRAFT) for name in found):
        found = {name for name in found if not (name.startswith(_DRAFT) or _is_placed(name))}
    if found:
        raise WorkspaceError(
            f"the folder is not empty: it holds {min(found)}", where=str(root), hint=_NEW_FOLDER
        )


def _put_in_place(draft: Path, root: Path, database: str | None) -> None:
    """Move what was made to where a workspace has it; the marker, which makes it one, is last."""
    for place, _, _ in os.walk(draft / ARTIFACTS):
        flush_folder(Path(place))
    _require_new(root, draft.name)
    _clear(root)
    try:
        for name in (ARTIFACTS,) if database is not None else (DATABASE, ARTIFACTS):
            (draft / name).rename(root / name)
        flush_folder(root)
        Workspace.create(root, database).close()
    except BaseException:
        if not (root / MARKER).exists():
            _clear(root)
        raise
    for left in root.glob(f"{_DRAFT}*"):  # also those of processes that were killed
        shutil.rmtree(left, ignore_errors=True)


def _is_placed(name: str) -> bool:
    """Whether it is something that `_put_in_place` makes, but for the marker itself."""
    made = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", ARTIFACTS)
    return name in made or (
        name.removeprefix(".").startswith(f"{MARKER}.") and name.endswith(".draft")
    )


def _clear(root: Path) -> None:
    """Take away what was put in place and became no workspace."""
    for path in [path for path in root.iterdir() if _is_placed(path.name)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _load(source: _Source, database: Database, advance: Callable[[int], None] | None) -> None:
    """Make the tables and fill them, all or nothing."""
    manifest, file = source.manifest, source.file
    revision = manifest.heading.revision
    with database.write("schema") as connection:
        _require_empty(connection, database)
        if database.is_sqlite:  # ids come in no order: with 2 MB, each page is written many times
            connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
        migrations.upgrade(connection, revision)
        tables = _tables(connection)
        if odd := tables.keys() ^ manifest.tables.keys():
            raise _unfit(file, f"other tables than schema {revision} has: {min(odd)}")
        _load_rows(connection, source, tables, advance)
        for name, table in tables.items():
            number = sa.select(sa.func.count()).select_from(table)
            if connection.execute(number).scalar() != manifest.tables[name]:
                raise _unfit(file, f"a row of {name} twice")
            if not database.is_sqlite:
                _advance_sequences(connection, table)
        migrations.upgrade(connection)
        _end_what_was_going_on(connection)


def _end_what_was_going_on(connection: Connection) -> None:
    """Leave behind what was true of the moment and of the servers that there were then.

    Here and not in the backup: no file, whoever wrote it and when, signs anybody in. A delivery
    that waited may have been made since by the workspace that was backed up, so the copy does not
    make it, and says so.
    """
    for table in _PASSING:
        connection.execute(sa.delete(table))
    deliveries = schema.deliveries
    waiting = sa.update(deliveries).where(deliveries.c.state == "waiting")
    told = "not sent: the workspace was restored from a backup"
    connection.execute(waiting.values(state="failed", told=told))


def _load_rows(
    connection: Connection,
    source: _Source,
    tables: Mapping[str, sa.TableClause],
    advance: Callable[[int], None] | None,
) -> None:
    """Insert the rows of all parts, which come before the artifacts."""
    file = source.file
    members = {member.name: member for member in source.manifest.members}
    with closing(read_members(file, source.bounds)) as contents:
        for content in contents:
            if part := PART.fullmatch(content.name):
                known = members.get(content.name)
                rows = _load_part(connection, tables[part[1]], content, source) if known else 0
                if content.member(rows) != known:
                    raise damaged(file, content.name)  # it was changed since it was checked
                if advance is not None:
                    advance(rows)
            elif content.name != HEADING:
                return
            else:
                content.whole(content.size)


def _require_empty(connection: Connection, database: Database) -> None:
    if found := sa.inspect(connection).get_table_names():
        raise WorkspaceError(
            f"the database is not empty: it has a table {min(found)}",
            where=database.where,
            hint="Name an empty database.",
        )


def _tables(connection: Connection) -> dict[str, sa.TableClause]:
    """The tables that there are now: those of the backup's schema, not of this program's."""
    inspector = sa.inspect(connection)
    return {
        name: sa.table(
            name, *(sa.column(c["name"], c["type"]) for c in inspector.get_columns(name))
        )
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def _unfit(file: Path, what: str) -> WorkspaceError:
    return WorkspaceError(f"holds {what}", where=str(file), hint=OTHER_COPY)


def _load_part(
    connection: Connection, table: sa.TableClause, content: Content, source: _Source
) -> int:
    """Insert the rows of a part; returns how many."""
    readers = {column.name: _reader(column.type) for column in table.columns}
    statement, total = sa.insert(table), 0
    if connection.dialect.name == "sqlite":
        require_room(source.draft, content.size, source.bounds)
    for lines in _heaps(content.lines(source.bounds.line)):
        try:
            rows = [_row(line, readers) for line in lines]
            connection.execute(statement, rows)
        except (ValueError, TypeError, RecursionError, IntegrityError) as error:
            told = str(error.orig if isinstance(error, IntegrityError) else error).splitlines()
            what = f"a row of {table.name} that does not fit: {told[0][:_SHOWN]}"
            raise _unfit(source.file, what) from error
        total += len(rows)
    return total


def _heaps(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lines to be inserted together: not many, and not large."""
    heap: list[bytes] = []
    size = 0
    for line in lines:
        heap.append(line)
        size += len(line)
        if len(heap) == _HEAP_ROWS or size >= PART_BYTES:
            yield heap
            heap, size = [], 0
    if heap:
        yield heap


def _row(line: bytes, readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    values = read_row(line)
    if not isinstance(values, dict) or values.keys() != readers.keys():
        raise ValueError("it has other columns")
    return {name: None if value is None else readers[name](value) for name, value in values.items()}


def _reader(kind: TypeEngine[Any]) -> Callable[[Any], Any]:
    """What makes a value of a column out of JSON; raises `ValueError` for one of another type."""
    for known, reader in (
        (sa.LargeBinary, _read_bytes),
        (sa.Boolean, _read_bool),
        (sa.Integer, _read_integer),
        (sa.Float, _read_float),
        (sa.String, _read_text),
    ):
        if isinstance(kind, known):
            return reader
    raise TypeError(f"no reader for {kind!r}")


def _read_text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{value!r} is no text")
    return value


def _read_bytes(value: Any) -> bytes:
    return base64.b64decode(_read_text(value), validate=True)


def _read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _read_integer(value: Any) -> int:
    if type(value) is not int or not -_LIMIT <= value < _LIMIT:
        raise ValueError(f"{value!r} is no whole number of 64 bits")
    return value


def _read_float(value: Any) -> float:
    if type(value) is str and value in WORDS:
        return WORDS[value]
    if type(value) not in (int, float):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _advance_sequences(connection: Connection, table: sa.TableClause) -> None:
    """Have PostgreSQL number the next row of a table after those that there are."""
    quoted = connection.dialect.identifier_preparer.quote(table.name)
    for column in table.columns:
        found = sa.func.pg_get_serial_sequence(quoted, column.name)
        sequence = connection.execute(sa.select(found)).scalar()
        highest = connection.execute(sa.select(sa.func.max(column))).scalar() if sequence else None
        if highest is not None:
            connection.execute(sa.select(sa.func.setval(sequence, highest)))

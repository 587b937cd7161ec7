"""How the doctor reads a database that may be damaged: without changing it, and row by row."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from backflip.records import Record
from backflip.workspace.database import columns, schema
from backflip.workspace.database.addresses import has_log, postgresql_url, require_readable
from backflip.workspace.database.engine import Database
from backflip.workspace.workspace import DATABASE


class Finding(Record):
    """Something of a workspace that is not as it should be.

    Attributes:
        state: "damaged": is there, but is not what was written; "lost": is not there; "note":
            nothing is wrong, but somebody may want to know.
        what: in words.
        where: the file, folder, table or row.
    """

    state: Literal["damaged", "lost", "note"]
    what: str
    where: str


def telling(state: Literal["damaged", "lost"], error: Exception, *, where: str) -> Finding:
    """A finding of what a reader raised."""
    raw = error.orig if isinstance(error, DBAPIError) else error
    first = (str(raw).strip().splitlines() or [type(raw).__name__])[0]
    return Finding(state=state, what=f"cannot be read: {first}", where=where)


@contextmanager
def reading(root: Path, address: str | None) -> Iterator[Connection]:
    """A transaction that sees one state of the database and cannot change it.

    Args:
        root: the workspace.
        address: None for SQLite in the folder.

    Raises:
        DBAPIError: there is no such database, or it is none.
        WorkspaceError: it cannot be read where it is.
    """
    engine = _sqlite(root / DATABASE) if address is None else _postgresql(address)
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


def _sqlite(path: Path) -> sa.Engine:
    require_readable(path)
    # Without a log nobody is at work, and SQLite need not make one to read.
    options = {"mode": "ro", "uri": "true", **({} if has_log(path) else {"immutable": "1"})}
    engine = sa.create_engine(
        URL.create("sqlite+pysqlite", database=f"file:{quote(str(path))}", query=options)
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Bytes that are no text are read all the same, to be told of with their row.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")

    return engine


def _postgresql(address: str) -> sa.Engine:
    still = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return Database(postgresql_url(address)).engine.execution_options(**still)


def name_of(table: sa.Table, row: Mapping[str, Any]) -> str:
    """What a row goes by in a finding: its table and its id, or what stands in its place."""
    if table is schema.stages:  # whose number says nothing to a reader
        names = ["run", "key"]
    else:
        names = ["id"] if "id" in table.columns else [c.name for c in table.primary_key.columns]
    return " ".join([table.name, *(str(row.get(name)) for name in names)])


class BadRowError(Exception):
    """A row that does not hold what its columns say."""


def rows_of(connection: Connection, table: sa.Table) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Rows of a table as the program reads them, each with what is wrong with it."""
    key = list(table.primary_key.columns)
    columns = [sa.type_coerce(column, _bare(column)).label(column.name) for column in table.columns]
    query = sa.select(*columns).order_by(*key)
    bulky = any(isinstance(column.type, sa.LargeBinary) for column in table.columns)
    step = 16 if bulky else 500
    for row in connection.execute(query, execution_options={"yield_per": step}).mappings():
        values = dict(row)
        try:
            for column in table.columns:
                values[column.name] = _value(column, values[column.name])
        except BadRowError as error:
            yield values, str(error)
            continue
        yield values, None


def _bare(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    """A type that hands on whatever the database holds."""
    return sa.types.NullType() if not isinstance(column.type, sa.LargeBinary) else column.type


def _value(column: sa.Column[Any], value: Any) -> Any:
    if value is None:
        if not column.nullable:
            raise BadRowError(f"{column.name} holds nothing")
        return None
    kind = column.type
    try:
        if isinstance(kind, columns.Json):
            value.encode("ascii")
            return json.loads(value)
        if isinstance(kind, columns.Moment):
            return datetime.fromisoformat(value)
        _require_type(kind, value)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BadRowError(f"{column.name} holds what it cannot") from None
    return value


def _require_type(kind: sa.types.TypeEngine[Any], value: Any) -> None:
    if isinstance(kind, sa.LargeBinary):
        known: tuple[type, ...] = (bytes, memoryview)
    elif isinstance(kind, sa.Boolean | sa.Integer):
        known = (int,)
    elif isinstance(kind, sa.Float | columns.Real):
        known = (int, float)
    else:
        known = (str,)
        if isinstance(value, str):
            value.encode("utf-8")
    if not isinstance(value, known):
        raise TypeError(f"{value!r}")

"""One database behind a workspace: connections, transactions, schema, and errors people can mend.

Writers take turns. SQLite has one write lock (`BEGIN IMMEDIATE`); on PostgreSQL each group of
tables has an advisory lock that lasts for the transaction. Taking turns makes what was read in a
transaction still true when it writes, keeps two bulk inserts from deadlocking over the same ids,
and lets the journal's numbers be committed in order.
"""

import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    OperationalError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from backflip.errors import FREE_SPACE, BusyError, DamageError, WorkspaceError
from backflip.records import door
from backflip.workspace.database import columns, schema

Item = TypeVar("Item")

# In the order in which a transaction that needs several takes them: no two can wait in a ring.
LOCKS = (
    "schema",
    "projects",
    "prompts",
    "samples",
    "queue",
    "annotators",
    "journal",
    "models",
    "runs",
    "people",
    "generations",
    "webhooks",
)
NUM_CONNECTIONS = 10
"""Connections of a process to PostgreSQL."""
TRUST_SECONDS = 1.0
"""A connection that was used so lately is used again without asking whether it still is one."""
_WALK = [
    sa.func.set_config(name, "off", True).label(name)
    for name in ("enable_sort", "enable_seqscan", "enable_bitmapscan")
]
"""What keeps queries walking along an index: PostgreSQL knows too little of tables that grow by the
second, and would rather read and sort one whole."""
_NAME = "workspace"
_IDENTITY = sa.select(sa.type_coerce(schema.secrets.c.value, sa.Text)).where(
    schema.secrets.c.name == _NAME
)
_ID = re.compile(r'"([^"\\]{1,200})"')
_LOCK_FAMILY = 0x6261636B  # "back": keeps the advisory locks apart from other programs'


_DAMAGE = re.compile(
    r"not a database|malformed|no such (table|column)|Could not decode|invalid page|"
    r"(relation|column) .* does not exist|missing chunk|could not read block"
)
"""What SQLite and PostgreSQL say of a database that is not whole."""
_DANGLING = re.compile(r"FOREIGN KEY constraint failed|violates foreign key constraint")
"""What both say of a key that leads nowhere: what is written was made of rows that were there."""
_REFUSED = re.compile(r"is full|I/O error|unable to open")
"""What SQLite says where the system would not write."""


class Database:
    """Short transactions on SQLite or PostgreSQL.

    Args:
        url: of `backflip.workspace.database.addresses`.
        timeout: seconds to wait for another process's lock before giving up.
    """

    def __init__(self, url: URL, *, timeout: float = 30.0):
        # Options may hold a password, too.
        self.where = url.set(query={}).render_as_string(hide_password=True)
        if url.get_backend_name() == "sqlite":
            self.where = unquote((url.database or ":memory:").removeprefix("file:"))
        self._read_only = "mode" in url.query
        self._timeout = timeout
        self._turn = threading.Lock()
        try:
            self.engine = sa.create_engine(url, **self._pool(url))
        except ModuleNotFoundError:
            raise WorkspaceError(
                "PostgreSQL needs psycopg",
                where=self.where,
                hint="pip install 'backflip[postgres]'",
            ) from None
        if self._is_sqlite(url):
            event.listen(self.engine, "connect", self._prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "connect", self._prepare_postgresql)
            event.listen(self.engine, "checkin", _note_use)
            event.listen(self.engine, "checkout", self._check_connection)

    @staticmethod
    def _is_sqlite(url: URL) -> bool:
        return url.get_backend_name() == "sqlite"

    @classmethod
    def _pool(cls, url: URL) -> dict[str, Any]:
        """How connections are kept: a new one to PostgreSQL costs more than what it is made for."""
        if cls._is_sqlite(url):
            return {}
        return {"pool_size": NUM_CONNECTIONS, "max_overflow": 0}

    @property
    def is_sqlite(self) -> bool:
        return self._is_sqlite(self.engine.url)

    def _prepare_sqlite(self, connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun by `_begin_sqlite` alone
        # Bytes that are no text spoil the value that they stand in, and not all that is read too.
        connection.text_factory = _as_text
        cursor = connection.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")
            if not self._read_only:
                cursor.execute("PRAGMA journal_mode = WAL")
            # An answer that was acknowledged outlives a power cut, not only a crash.
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("PRAGMA foreign_keys = ON")
        finally:
            cursor.close()

    def _prepare_postgresql(self, connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(self._timeout * 1000)}")
        connection.commit()

    def _check_connection(self, connection: Any, record: Any, _proxy: Any) -> None:
        """Make sure that the server is still there, where that was not seen a moment ago."""
        if time.monotonic() - record.info.get("used", 0.0) < TRUST_SECONDS:
            return
        try:
            self.engine.dialect.do_ping(connection)
        except self.engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool tries a new one

    @contextmanager
    def read(self, *, snapshot: bool = False, exact: bool = False) -> Iterator[Connection]:
        """Queries that change nothing and wait for nobody.

        Args:
            snapshot: all of them see the same state, whatever is written meanwhile; on SQLite they
                always do.
            exact: bytes that are no text are damage, and not told as a text beside them: for what
                writes down what it reads.

        Raises:
            DamageError: see `exact`; or the database is damaged.
        """
        with self._explained(), self.engine.connect() as connection:
            if not self.is_sqlite:
                # A transaction would be two more trips to the database, for nothing: at its usual
                # level each statement sees what is committed by then.
                level = "REPEATABLE READ" if snapshot else "AUTOCOMMIT"
                connection.execution_options(isolation_level=level)
            raw = connection.connection.driver_connection
            if exact and self.is_sqlite and raw is not None:
                raw.text_factory = str
            try:
                with connection.begin():
                    yield connection
            finally:
                if exact and self.is_sqlite and raw is not None:
                    raw.text_factory = _as_text

    @contextmanager
    def write(self, *locks: str, walks: bool = False) -> Iterator[Connection]:
        """A transaction that is written whole when the block ends, or not at all.

        Args:
            locks: names out of `LOCKS`, for the tables that it reads before it writes them.
            walks: whether each of its queries looks for a row or two along an index, and must not
                be planned otherwise.
        """
        with self._explained(), self._my_turn(), self.engine.connect() as connection:
            connection.execution_options(backflip_write=True)
            with connection.begin():
                if locks and not self.is_sqlite:
                    # One after the other, from left to right, and in one trip to the database.
                    numbers = sorted(map(LOCKS.index, locks))
                    take = [sa.func.pg_advisory_xact_lock(_LOCK_FAMILY, n) for n in numbers]
                    connection.execute(sa.select(*take, *(_WALK if walks else [])))
                yield connection

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        """Writers of this process in a row, each waiting here and not in the database.

        SQLite would have each look again, less and less often; on PostgreSQL each would hold a
        connection, and all who wait would slow down the one who has the lock. Other processes'
        writers are waited for in the database.
        """
        if not self._turn.acquire(timeout=self._timeout):
            raise BusyError(
                f"the database stayed locked for {self._timeout:g} s",
                where=self.where,
                hint="Try again; something large may be on its way into it.",
            )
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what a user can mend into a `WorkspaceError`; faults of ours pass through."""
        try:
            yield
        except UnicodeEncodeError as error:
            raise WorkspaceError("a name holds half a character", where=self.where) from error
        except UnicodeDecodeError as error:  # SQLite's words on a table whose name is none
            raise damaged_database("it holds bytes that are no text", self.where) from error
        except OverflowError as error:
            raise WorkspaceError(
                "a number has more than 64 bits, which the database cannot hold", where=self.where
            ) from error
        except DataError as error:
            raise WorkspaceError(
                f"the database cannot hold a value: {str(error.orig).strip()}", where=self.where
            ) from error
        except PoolTimeoutError as error:
            raise BusyError(
                f"{NUM_CONNECTIONS} connections are in use, and none came free", where=self.where
            ) from error
        except DBAPIError as error:
            if told := self._in_words(error):
                raise told from error
            raise
        except StatementError as error:
            if isinstance(error.orig, columns.UnfitError):
                raise WorkspaceError(str(error.orig)) from None
            raise

    def _in_words(self, error: DBAPIError) -> WorkspaceError | None:
        """What to say of an error of the database's own; None for a fault of ours."""
        raw = str(error.orig).strip()
        first = raw.splitlines()[0] if raw else type(error.orig).__name__
        if "locked" in raw or "lock timeout" in raw:
            return BusyError(
                f"the database stayed locked by another process for {self._timeout:g} s",
                where=self.where,
                hint="Wait for it to end, or stop it.",
            )
        if "readonly" in raw:
            told = f"the workspace can be read and not written: {first}"
            return BusyError(told, where=self.where, hint=FREE_SPACE)
        if _DANGLING.search(raw):
            return damaged_database("a row speaks of another that is not there", self.where)
        if _DAMAGE.search(raw):
            return damaged_database(first, self.where)
        if isinstance(error, OperationalError):
            hint = FREE_SPACE if _REFUSED.search(raw) else None
            return BusyError(f"the database cannot be used: {first}", where=self.where, hint=hint)
        return None

    def revision(self) -> str | None:
        """Revision of the schema in the database; None when it is empty."""
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def migrate(self, *, new: bool = False) -> None:
        """Bring the schema to the newest revision, in one transaction.

        Args:
            new: whether tables are made where there are none: a workspace that lost its tables
                must not look like one in which nothing happened yet.

        Raises:
            WorkspaceError: the schema is newer than this program, or there is none.
        """
        revision = self.revision()
        if revision == schema.HEAD:
            return
        if revision is None and not new:
            raise damaged_database("it holds no tables", self.where)
        from backflip.workspace.database import migrations

        if self._read_only:
            raise WorkspaceError(
                "written by an older Backflip, and cannot be brought up to date: it can only be "
                "read",
                where=self.where,
                hint=FREE_SPACE,
            )
        if revision is not None and revision not in migrations.revisions():
            raise WorkspaceError(
                f"written by a newer Backflip: its schema is {revision}, "
                f"this program knows schemas up to {schema.HEAD}",
                where=self.where,
                hint="Install the newer Backflip: pip install --upgrade backflip",
            )
        with self.write("schema") as connection:
            migrations.upgrade(connection)

    def identity(self) -> str | None:
        """The id of the workspace whose rows these are; None where none was given."""
        with self.read() as connection:
            return self._named(connection)

    def identify(self) -> str:
        """The same, given now where none was: all who make a workspace of a database get one."""
        row = {"name": _NAME, "value": f"workspace-{secrets.token_hex(10)}"}
        with self.write("people") as connection:
            connection.execute(insert(connection, schema.secrets).on_conflict_do_nothing(), row)
            return self._named(connection) or row["value"]

    def _named(self, connection: Connection) -> str | None:
        held = connection.execute(_IDENTITY).scalar()
        named = None if held is None else workspace_id(held)
        if held is not None and named is None:
            raise damaged_database("what it calls the workspace is no name", self.where)
        return named

    def close(self) -> None:
        self.engine.dispose()


def workspace_id(held: Any) -> str | None:
    """The id of a workspace, of the JSON that its row holds; None where that is none."""
    found = _ID.fullmatch(held) if isinstance(held, str) else None
    return found[1] if found else None


def damaged_database(what: str, where: str) -> DamageError:
    """What to say of a database that is not as Backflip left it."""
    return DamageError(f"the database is damaged: {what}", where=where, hint=columns.DOCTOR)


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _as_text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another process wrote
    # in between; an immediate one waits its turn.
    write = connection.get_execution_options().get("backflip_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def insert(connection: Connection, table: sa.Table) -> Any:
    """An INSERT of this database's dialect: it knows `on_conflict_do_nothing` and `_do_update`."""
    return insert_of(connection.dialect.name, table)


def insert_of(dialect: str, table: sa.Table) -> Any:
    """The same by the dialect's name, for a statement that is kept."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def insert_new(
    connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]
) -> list[str]:
    """Insert rows whose id is not there yet; returns the ids of those."""
    if not rows:
        return []
    statement = insert(connection, table).on_conflict_do_nothing().returning(table.c.id)
    new = set(connection.execute(statement, list(rows)).scalars())
    return list(dict.fromkeys(row["id"] for row in rows if row["id"] in new))


def chunks(items: Iterable[Item], size: int = 1000) -> Iterator[list[Item]]:
    """Lists of at most `size` items: below every database's limit of parameters."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def damage(what: str) -> DamageError:
    """The error for something that is stored and cannot be read."""
    return DamageError(f"{what} is damaged and cannot be read", hint=columns.DOCTOR)


def check_name(value: str, what: str) -> str:
    """Refuse a name that a database's text cannot hold or that would hide what it says."""
    try:
        return door.check_name(value)
    except ValueError as error:
        shown = value if len(value) <= 60 else f"{value[:60]}..."
        raise WorkspaceError(
            f"{what} {shown!r} {error}", hint="Use letters, digits and punctuation."
        ) from None

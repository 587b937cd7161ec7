"""Where a workspace's database is."""

import os
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from backflip.errors import WorkspaceError

_HINT = "Give postgresql://user@host:5432/database, or no address for SQLite."


def sqlite_url(path: Path) -> URL:
    """Address of a SQLite file; for reading only, where it or its folder cannot be written."""
    if all(os.access(each, os.W_OK) for each in (path, path.parent) if each.exists()):
        return URL.create("sqlite+pysqlite", database=str(path))
    query = {"uri": "true", "mode": "ro"}
    journal = path.with_name(f"{path.name}-wal")
    if not (journal.exists() and journal.stat().st_size):
        # Nobody writes it and nothing is left to take in: no files need be made beside it.
        query["immutable"] = "1"
    return URL.create("sqlite+pysqlite", database=f"file:{quote(str(path))}", query=query)


def postgresql_url(address: str) -> URL:
    """Address of a PostgreSQL database, read with psycopg 3.

    Raises:
        WorkspaceError: it is none, is of another database, or says what cannot be. Nothing of it
            is told: it may hold a password.
    """
    try:
        address.encode()
        url = make_url(address)
    except (ArgumentError, ValueError):  # ValueError: of a port that is no number
        raise _unreadable("") from None
    if url.get_backend_name() != "postgresql":
        raise WorkspaceError(
            f"a database of type {url.get_backend_name()!r} is not supported", hint=_HINT
        )
    if "@" in (url.host or ""):  # what stands before it is of the password
        raise _unreadable(": in a password, @ is spelt %40")
    url = url.set(drivername="postgresql+psycopg")
    if not _has_known_options(url):
        raise _unreadable(": it has options that PostgreSQL does not know")
    return url


def _has_known_options(url: URL) -> bool:
    try:
        _, options = url.get_dialect()().create_connect_args(url)
    except (ArgumentError, ValueError, TypeError):  # several hosts, of which one has no port
        return False
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import make_conninfo
    except ImportError:  # whoever connects is told
        return True
    try:
        make_conninfo(**options)
    except (ProgrammingError, ValueError):
        return False
    return True


def _unreadable(why: str) -> WorkspaceError:
    return WorkspaceError(f"the database address cannot be read{why}", hint=_HINT)

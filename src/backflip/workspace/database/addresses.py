"""Addresses of databases: where one is, and whether it can be written there, or read at all."""

import errno
import os
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from backflip.errors import RIGHTS, WorkspaceError

_HINT = "Give postgresql://user@host:5432/database, or no address for SQLite."


def sqlite_url(path: Path) -> URL:
    """Address of a SQLite file; for reading only, where it or its folder cannot be written.

    Raises:
        WorkspaceError: as `require_readable` and `has_log`.
    """
    require_readable(path)
    if all(os.access(each, os.W_OK) for each in (path, path.parent) if each.exists()):
        return URL.create("sqlite+pysqlite", database=str(path))
    query = {"uri": "true", "mode": "ro"}
    if not has_log(path):
        # Nobody writes it and nothing is left to take in: no files need be made beside it.
        query["immutable"] = "1"
    return URL.create("sqlite+pysqlite", database=f"file:{quote(str(path))}", query=query)


def require_readable(path: Path) -> None:
    """Refuse a file of which only others can say whether it is whole, by a `WorkspaceError`."""
    if path.exists() and not os.access(path, os.R_OK):
        told = f"cannot be read: {os.strerror(errno.EACCES)}"
        raise WorkspaceError(told, where=str(path), hint=RIGHTS)


def has_log(path: Path) -> bool:
    """Whether a SQLite file has a log of what is not in it yet.

    Raises:
        WorkspaceError: it has one without the index, which nobody may make beside it.
    """
    log, index = (path.with_name(f"{path.name}-{part}") for part in ("wal", "shm"))
    if not (log.exists() and log.stat().st_size):
        return False
    if not index.exists() and not os.access(path.parent, os.W_OK):
        raise WorkspaceError(
            f"cannot be read where it is: its last rows are in {log.name}, and the index that "
            "SQLite needs to read that cannot be made in the folder, which is not to be written",
            where=str(path),
            hint="Copy the whole folder to a place where you may write, and name the copy.",
        )
    return True


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

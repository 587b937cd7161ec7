"""Invitations as they are kept, and the first and the last administrator.

All within a transaction of the caller, who holds the lock "people".
"""

import hashlib
import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import ConflictError
from backflip.workspace.database import columns, schema
from backflip.workspace.projects.projects import Role

_users, _invites = schema.users, schema.invites


def hash_of(key: str) -> str:
    """What is kept of a key."""
    # Keys are random and long: a slow hash, which short passwords need, would gain nothing.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def insert_invite(
    connection: Connection,
    project: str | None,
    role: Role,
    uses: int,
    expires: float,
    author: str | None,
) -> str:
    """Make an invitation, as `People.invite` says, until a moment; returns its key."""
    key = secrets.token_urlsafe(24)
    row = {
        "hash": hash_of(key),
        "project": project,
        "role": role,
        "uses": uses,
        "expires": expires,
        "author": author,
        "created": columns.now(),
    }
    connection.execute(sa.insert(_invites), row)
    return key


def has_administrator(connection: Connection) -> bool:
    """Whether there is anybody who may do everything, signing in or not."""
    return (
        connection.execute(sa.select(_users.c.id).where(_users.c.admin).limit(1)).first()
        is not None
    )


def note_administrator(connection: Connection) -> None:
    """Void every link that makes one, where the first is about to be made.

    Each server that was started before has told such a link; from now on administrators invite.
    """
    if not has_administrator(connection):
        connection.execute(sa.delete(_invites).where(_invites.c.project.is_(None)))


def require_administrator(connection: Connection) -> None:
    """Refuse what leaves nobody who may do everything; raises `ConflictError`."""
    left = sa.select(_users.c.id).where(_users.c.admin, _users.c.active).limit(1)
    if connection.execute(left).scalar() is None:
        raise ConflictError("the last administrator must stay one")

"""People who sign in: their sessions, tokens and invitations.

What a person says stands in the journal under a pseudonym, `User.annotator`. Only here is it told
whose it is: once the user is forgotten, nobody can tell any more. Sessions, tokens and invitations
are kept as hashes: who reads the database cannot sign in with what it holds.
"""

import secrets
import time
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.engine import Connection

from backflip.errors import ConflictError, NotFoundError
from backflip.records import Record
from backflip.workspace.accounts.invitations import (
    has_administrator,
    hash_of,
    insert_invite,
    note_administrator,
    require_administrator,
)
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, insert
from backflip.workspace.material.annotators import insert_annotators
from backflip.workspace.projects.projects import ROLES, Role, get_project, set_role

_users, _sessions, _tokens = schema.users, schema.sessions, schema.tokens
_invites, _failures, _members = schema.invites, schema.login_failures, schema.memberships
TOKEN_PREFIX = "bf_"  # noqa: S105  (what all tokens begin with)


class User(Record):
    """Somebody who may sign in.

    Attributes:
        id, name: the name is what the person signs in with.
        annotator: the pseudonym in the journal.
        password: its hash; None for who signs in elsewhere.
        subject: who that is there, as "issuer subject"; None for who does not.
        admin: may do everything; others may do what their roles in projects let them.
        active: may sign in.
        preferences: language and colours.
    """

    id: str
    name: str
    annotator: str
    password: str | None = Field(repr=False)
    subject: str | None
    admin: bool
    active: bool
    preferences: dict[str, Any]
    created: datetime


class Session(Record):
    """A signed-in browser: whose it is, and the token that its forms must carry."""

    user: User
    csrf: str


class Token(Record):
    """A key for programs, as it is listed: the key itself is told only once."""

    number: int
    name: str
    created: datetime


class Invite(Record):
    """A link that makes a user or gives one a role in a project; None for no project.

    `uses` is how many people may still take it, `expires` when it ends, in seconds since 1970, and
    `author` the id of the user who made it; None for one who was forgotten, or no user.
    """

    number: int
    project: str | None
    role: Role
    uses: int
    expires: float
    author: str | None
    created: datetime


# Asked with every request, and so built once.
_SESSION = (
    sa.select(_users, _sessions.c.csrf)
    .join(_sessions, _sessions.c.user == _users.c.id)
    .where(
        _sessions.c.hash == sa.bindparam("hash"),
        _sessions.c.expires > sa.bindparam("now"),
        _users.c.active,
    )
)


class People:
    """Every user."""

    def __init__(self, database: Database):
        self._database = database
        self.clock = time.time

    def add(
        self,
        name: str,
        *,
        password: str | None = None,
        subject: str | None = None,
        admin: bool = False,
    ) -> User:
        """Make a user; a `WorkspaceError` for a name that is taken."""
        with self._database.write("annotators", "people") as connection:
            return _add(connection, name, password, subject, admin)

    def get(self, id: str) -> User:  # noqa: A002
        """A user by id; a `WorkspaceError` when there is none."""
        found = self._find(_users.c.id == id)
        if found is None:
            raise NotFoundError(f"no user {id!r}")
        return found

    def named(self, name: str) -> User | None:
        """A user by name."""
        return self._find(_users.c.name == name)

    def known_as(self, subject: str) -> User | None:
        """A user by who it is at another place of signing in."""
        return self._find(_users.c.subject == subject)

    def all(self) -> list[User]:
        """All users, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(_users).order_by(_users.c.number))
            return [_user(row) for row in rows]

    def change(self, id: str, **values: Any) -> User:  # noqa: A002
        """Change `password` (its hash), `admin`, `active` or `preferences`.

        A new password, and to be made inactive, ends the user's sessions.

        Raises:
            WorkspaceError: no such user, or nobody would be left who may do everything.
        """
        if strange := set(values) - {"password", "admin", "active", "preferences"}:
            raise TypeError(f"a user has no {min(strange)} to change")
        with self._database.write("people") as connection:
            if values.get("admin"):
                note_administrator(connection)
            connection.execute(sa.update(_users).where(_users.c.id == id).values(**values))
            row = connection.execute(sa.select(_users).where(_users.c.id == id)).first()
            if row is None:
                raise NotFoundError(f"no user {id!r}")
            if {"admin", "active"} & set(values):
                require_administrator(connection)
            if "password" in values or values.get("active") is False:
                connection.execute(sa.delete(_sessions).where(_sessions.c.user == id))
            return _user(row)

    def start_session(self, user: str, seconds: float) -> tuple[str, Session]:
        """Sign a user in for so many seconds; returns the key that a browser keeps."""
        key, now = secrets.token_urlsafe(32), self.clock()
        row = {
            "hash": hash_of(key),
            "user": user,
            "csrf": secrets.token_urlsafe(24),
            "expires": now + seconds,
            "created": columns.now(),
        }
        with self._database.write("people") as connection:
            connection.execute(sa.delete(_sessions).where(_sessions.c.expires < now))
            connection.execute(sa.insert(_sessions), row)
        return key, Session(user=self.get(user), csrf=row["csrf"])

    def session(self, key: str) -> Session | None:
        """The session of a key; None for one that has ended or whose user may not sign in."""
        with self._database.read() as connection:
            row = connection.execute(_SESSION, {"hash": hash_of(key), "now": self.clock()}).first()
        return None if row is None else Session(user=_user(row), csrf=row.csrf)

    def end_session(self, key: str) -> None:
        """Sign out."""
        with self._database.write("people") as connection:
            connection.execute(sa.delete(_sessions).where(_sessions.c.hash == hash_of(key)))

    def add_token(self, user: str, name: str) -> str:
        """Make a key for a user's programs; it is told here and never again."""
        key = TOKEN_PREFIX + secrets.token_urlsafe(32)
        row = {"hash": hash_of(key), "user": user, "name": name, "created": columns.now()}
        with self._database.write("people") as connection:
            connection.execute(sa.insert(_tokens), row)
        return key

    def tokens(self, user: str) -> list[Token]:
        """The keys of a user's programs, oldest first."""
        query = sa.select(_tokens).where(_tokens.c.user == user).order_by(_tokens.c.number)
        with self._database.read() as connection:
            rows, text = connection.execute(query), columns.as_text
            return [Token(number=r.number, name=text(r.name), created=r.created) for r in rows]

    def drop_token(self, user: str, number: int) -> bool:
        """Make a key useless; returns whether the user had it."""
        this = sa.and_(_tokens.c.user == user, _tokens.c.number == number)
        with self._database.write("people") as connection:
            return bool(connection.execute(sa.delete(_tokens).where(this)).rowcount)

    def of_token(self, key: str) -> User | None:
        """The user of a key; None for a key that is not known or whose user may not sign in."""
        query = sa.select(_users).join(_tokens, _tokens.c.user == _users.c.id)
        query = query.where(_tokens.c.hash == hash_of(key), _users.c.active)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _user(row)

    def invite(
        self,
        project: str | None,
        role: Role,
        *,
        uses: int = 1,
        seconds: float = 7 * 86400.0,
        author: str | None = None,
    ) -> str:
        """Make an invitation and return its key.

        Args:
            project: to take part in; None makes somebody who may do everything.
            role: in the project.
            uses: people who may take it.
            seconds: for which it is good.
            author: id of who invites.
        """
        with self._database.write("projects", "people") as connection:
            if project is not None:
                get_project(connection, project)
            return insert_invite(connection, project, role, uses, self.clock() + seconds, author)

    def set_up(self, seconds: float) -> str | None:
        """The key of a link that makes the first administrator; None where there is one.

        It is good for so many seconds, and until somebody is administrator by another link.
        """
        with self._database.write("people") as connection:
            if has_administrator(connection):
                return None
            return insert_invite(connection, None, "lead", 1, self.clock() + seconds, None)

    def invitation(self, key: str) -> Invite | None:
        """An invitation that may still be taken."""
        with self._database.read() as connection:
            row = connection.execute(self._open().where(_invites.c.hash == hash_of(key))).first()
        return None if row is None else _invite(row)

    def invitations(self, project: str | None) -> list[Invite]:
        """Invitations to a project that may still be taken, oldest first; None for no project."""
        query = self._open().where(_invites.c.project == project).order_by(_invites.c.number)
        with self._database.read() as connection:
            return [_invite(row) for row in connection.execute(query)]

    def revoke(self, project: str | None, number: int) -> None:
        """End an invitation; a `NotFoundError` when it is none to this project."""
        this = sa.and_(_invites.c.project == project, _invites.c.number == number)
        with self._database.write("people") as connection:
            if not connection.execute(sa.delete(_invites).where(this)).rowcount:
                raise NotFoundError(f"no invitation {number} to this project")

    def join(
        self, key: str, *, user: str | None = None, name: str = "", password: str | None = None
    ) -> User:
        """Take an invitation: as a user that is there, or as a new one of this name.

        Raises:
            WorkspaceError: the invitation is used up or too old, or the name is taken.
        """
        with self._database.write("projects", "annotators", "people") as connection:
            row = connection.execute(self._open().where(_invites.c.hash == hash_of(key))).first()
            if row is None:
                raise NotFoundError(
                    "this invitation is used up or too old", hint="Ask for a new one."
                )
            if user is None:
                admin = row.project is None
                user = _add(connection, name, password, None, admin).id
            elif row.project is None:
                note_administrator(connection)
                promote = sa.update(_users).where(_users.c.id == user)
                connection.execute(promote.values(admin=True))
            if row.project is not None:
                set_role(connection, row.project, user, row.role)
            used = sa.update(_invites).where(_invites.c.number == row.number)
            connection.execute(used.values(uses=row.uses - 1))
        return self.get(user)

    def note_failure(self, *keys: str) -> None:
        """Remember a failed attempt to sign in under each of these keys."""
        now = self.clock()
        with self._database.write("people") as connection:
            connection.execute(sa.delete(_failures).where(_failures.c.at < now - 86400))
            connection.execute(sa.insert(_failures), [{"key": hash_of(k), "at": now} for k in keys])

    def failures(self, key: str, seconds: float) -> int:
        """Failed attempts under a key in the last so many seconds."""
        query = sa.select(sa.func.count()).select_from(_failures)
        query = query.where(
            _failures.c.key == hash_of(key), _failures.c.at > self.clock() - seconds
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def secret(self, name: str) -> str:
        """A random key that all servers of the workspace share, made where it is missing."""
        row = {"name": name, "value": secrets.token_urlsafe(48)}
        query = sa.select(schema.secrets.c.value).where(schema.secrets.c.name == name)
        with self._database.read() as connection:
            known = connection.execute(query).scalar()
        if known is not None:
            return known
        with self._database.write("people") as connection:
            connection.execute(insert(connection, schema.secrets).on_conflict_do_nothing(), row)
            return connection.execute(query).scalar_one()

    def _find(self, condition: sa.ColumnElement[bool]) -> User | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(_users).where(condition)).first()
        return None if row is None else _user(row)

    def _open(self) -> sa.Select[Any]:
        """Invitations that may still be taken."""
        good = sa.and_(
            _invites.c.uses > 0,
            _invites.c.expires > self.clock(),
            _invites.c.role.in_(ROLES),
        )
        return sa.select(_invites).where(good)


def _add(
    connection: Connection, name: str, password: str | None, subject: str | None, admin: bool
) -> User:
    check_name(name, "the user's name")
    taken = sa.select(_users.c.id).where(_users.c.name == name)
    if connection.execute(taken).scalar() is not None:
        raise ConflictError(f"the name {name!r} is taken", hint="Choose another one.")
    pseudonym = f"person-{secrets.token_hex(5)}"
    insert_annotators(connection, {pseudonym: "people"})
    if admin:
        note_administrator(connection)
    row = {
        "id": f"user-{secrets.token_hex(10)}",
        "name": name,
        "annotator": pseudonym,
        "password": password,
        "subject": subject,
        "admin": admin,
        "active": True,
        "preferences": {},
        "created": columns.now(),
    }
    connection.execute(sa.insert(_users), row)
    return User(**row)


def get_user(connection: Connection, id: str) -> User:  # noqa: A002
    """A user within a transaction; a `WorkspaceError` when there is none."""
    row = connection.execute(sa.select(_users).where(_users.c.id == id)).first()
    if row is None:
        raise NotFoundError(f"no user {id!r}")
    return _user(row)


def delete_user(connection: Connection, user: User) -> None:
    """Delete a user, who has no chats, and all that tells who it was, within a transaction.

    Needs the locks "projects", "people" and "generations".

    Raises:
        WorkspaceError: nobody would be left who may do everything.
    """
    for table in (_sessions, _tokens, _members, schema.unnamed, schema.generations):
        connection.execute(sa.delete(table).where(table.c.user == user.id))
    made = sa.update(_invites).where(_invites.c.author == user.id)
    connection.execute(made.values(author=None))
    connection.execute(sa.delete(_users).where(_users.c.id == user.id))
    if user.admin:
        require_administrator(connection)


def _user(row: sa.Row[Any]) -> User:
    kept = {k: v for k, v in columns.as_object(row.preferences).items() if isinstance(v, str)}
    values: dict[str, Any] = {name: getattr(row, name) for name in User.model_fields}
    values["preferences"] = kept
    return User(**values)


def _invite(row: sa.Row[Any]) -> Invite:
    return Invite(**{name: getattr(row, name) for name in Invite.model_fields})

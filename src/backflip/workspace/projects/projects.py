"""Projects: what people are asked to judge, by which instructions and rules, and who takes part."""

from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa
from pydantic import Field, ValidationError
from sqlalchemy.engine import Connection

from backflip.errors import ConflictError, NotFoundError
from backflip.records import Record, content_id
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, insert, insert_new

MAIN = "main"
"""The project of questions that name none; it is there as soon as it is needed."""
Role = Literal["annotator", "lead"]
ROLES: tuple[Role, ...] = get_args(Role)
"""A row with another one was damaged, and gives no right."""
_projects, _guidelines = schema.projects, schema.guidelines
_members, _unnamed = schema.memberships, schema.unnamed


class ProjectSettings(Record):
    """A project's rules.

    Attributes:
        reasons: short reasons that an annotator may tick.
        marks: what a marked stretch of text may be called.
        critique, correction, safety: whether an annotator may add these to any answer.
        overlap: people asked about each item of a new batch.
        check_every: one question in so many is a check, as long as there are checks; None: never.
        min_seconds: an answer that took less is counted as too fast.
        budget: answers after which nothing more is handed out; None for no end.
        budget_per_person: likewise for each person.
        chat_model: id of the model that people may chat with; None: there is no chat.
        chat_temperature, chat_top_p, chat_max_tokens: how its replies are drawn.
    """

    reasons: tuple[str, ...] = ("accurate", "helpful", "clear", "wrong", "off topic", "too long")
    marks: tuple[str, ...] = ("good", "wrong", "unsafe")
    critique: bool = True
    correction: bool = True
    safety: bool = True
    overlap: int = Field(default=1, ge=1, le=1000)
    check_every: int | None = Field(default=None, ge=2)
    min_seconds: float = Field(default=0.0, ge=0, le=3600)
    budget: int | None = Field(default=None, ge=1)
    budget_per_person: int | None = Field(default=None, ge=1)
    chat_model: str | None = None
    chat_temperature: float = Field(default=1.0, gt=0, le=10)
    chat_top_p: float = Field(default=1.0, gt=0, le=1)
    chat_max_tokens: int = Field(default=256, ge=1, le=4096)


class Project(Record):
    """A project. An archived one hands nothing out; what was said in it stays.

    One whose rules are `damaged` shows the defaults and counts as archived until it has new ones.
    """

    id: str
    name: str
    settings: ProjectSettings
    archived: bool
    created: datetime
    damaged: bool = False


class Guideline(Record):
    """One version of a project's instructions; versions count from 1 and never change."""

    project: str
    version: int
    text: str
    author: str
    created: datetime


class Projects:
    """Every project, its instructions and its members."""

    def __init__(self, database: Database):
        self._database = database

    def create(self, name: str, settings: ProjectSettings | None = None) -> Project:
        """Make a project; a `WorkspaceError` for a name that is taken."""
        check_name(name, "the project's name")
        with self._database.write("projects") as connection:
            if name == _main_row()["name"]:
                require_project(connection, MAIN)
            taken = sa.select(_projects.c.id).where(_projects.c.name == name)
            if connection.execute(taken).scalar() is not None:
                raise ConflictError(f"there is a project {name!r} already")
            return _insert(connection, name, settings)

    def ensure(self, name: str) -> Project:
        """The project of a name, made where it is missing."""
        check_name(name, "the project's name")
        with self._database.write("projects") as connection:
            if name == _main_row()["name"]:
                return require_project(connection, MAIN)
            query = sa.select(_projects.c.id).where(_projects.c.name == name)
            known = connection.execute(query).scalar()
            if known is None:
                return _insert(connection, name, None)
            return get_project(connection, known)

    def find(self, name: str) -> Project | None:
        """The project that `ensure` gives for a name; None where it would have to be made."""
        chosen = _projects.c.id == MAIN if name == _main_row()["name"] else _projects.c.name == name
        with self._database.read() as connection:
            row = connection.execute(sa.select(_projects).where(chosen)).first()
        return None if row is None else _project(row)

    def get(self, id: str) -> Project:  # noqa: A002
        """A project by its id; a `WorkspaceError` when there is none."""
        with self._database.read() as connection:
            return get_project(connection, id)

    def all(self) -> list[Project]:
        """All projects, oldest first."""
        with self._database.read() as connection:
            query = sa.select(_projects).order_by(_projects.c.number)
            return [_project(row) for row in connection.execute(query)]

    def change(
        self,
        id: str,  # noqa: A002
        *,
        name: str | None = None,
        settings: ProjectSettings | None = None,
        archived: bool | None = None,
    ) -> Project:
        """Change a project's name, rules or whether it is archived; None leaves them.

        Raises:
            WorkspaceError: no such project, or a name that is taken.
        """
        values: dict[str, Any] = {}
        if name is not None:
            values["name"] = check_name(name, "the project's name")
        if settings is not None:
            values["settings"] = settings.model_dump(mode="json")
        if archived is not None:
            values["archived"] = archived
        with self._database.write("projects") as connection:
            get_project(connection, id)
            taken = sa.select(_projects.c.id).where(_projects.c.name == name, _projects.c.id != id)
            if name is not None and connection.execute(taken).scalar() is not None:
                raise ConflictError(f"there is a project {name!r} already")
            if values:
                connection.execute(
                    sa.update(_projects).where(_projects.c.id == id).values(**values)
                )
            return get_project(connection, id)

    def add_guideline(self, project: str, text: str, author: str) -> Guideline:
        """Keep a new version of the instructions; the same text again is no new version."""
        with self._database.write("projects") as connection:
            get_project(connection, project)
            known = _newest_guideline(connection, project)
            if known is not None and known.text == text:
                return known
            row = {
                "project": project,
                "version": 1 if known is None else known.version + 1,
                "text": text,
                "author": author,
                "created": columns.now(),
            }
            connection.execute(sa.insert(_guidelines), row)
        return Guideline(**row)

    def guidelines(self, project: str) -> list[Guideline]:
        """All versions of the instructions, newest first."""
        query = sa.select(_guidelines).where(_guidelines.c.project == project)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_guidelines.c.version.desc()))
            return [_guideline(row) for row in rows]

    def set_role(self, project: str, user: str, role: Role | None) -> None:
        """Make a user a member with this role, or no member with None."""
        this = sa.and_(_members.c.project == project, _members.c.user == user)
        with self._database.write("projects") as connection:
            get_project(connection, project)
            if role is None:
                connection.execute(sa.delete(_members).where(this))
            else:
                set_role(connection, project, user, role)

    def change_role(self, project: str, user: str, role: Role) -> None:
        """Change what a member may do; a `WorkspaceError` for somebody who is none."""
        this = _members.c.project == project, _members.c.user == user
        with self._database.write("projects") as connection:
            changed = connection.execute(sa.update(_members).where(*this).values(role=role))
            if not changed.rowcount:
                raise NotFoundError(f"no member {user!r} in this project")

    def role(self, project: str, user: str) -> Role | None:
        """A user's role in a project; None for no member."""
        with self._database.read() as connection:
            return connection.execute(_ROLE, {"project": project, "user": user}).scalar()

    def roles(self, *, project: str | None = None, user: str | None = None) -> dict[str, Role]:
        """The roles in a project by user, or of a user by project."""
        key = _members.c.user if project is not None else _members.c.project
        query = sa.select(key, _members.c.role).where(_members.c.role.in_(ROLES)).order_by(key)
        if project is not None:
            query = query.where(_members.c.project == project)
        if user is not None:
            query = query.where(_members.c.user == user)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def unnamed(self, project: str) -> set[str]:
        """Ids of the users who have left a project and are not named in it any more."""
        query = sa.select(_unnamed.c.user).where(_unnamed.c.project == project)
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())


# Asked with every request, and so built once.
_ROLE = sa.select(_members.c.role).where(
    _members.c.project == sa.bindparam("project"),
    _members.c.user == sa.bindparam("user"),
    _members.c.role.in_(ROLES),
)


def set_role(connection: Connection, project: str, user: str, role: Role) -> None:
    """Give a user a role within a transaction, in place of the old one; it is named again."""
    again = _unnamed.c.project == project, _unnamed.c.user == user
    connection.execute(sa.delete(_unnamed).where(*again))
    statement = insert(connection, _members).on_conflict_do_update(
        index_elements=["project", "user"], set_={"role": role}
    )
    connection.execute(statement, {"project": project, "user": user, "role": role})


def require_role(connection: Connection, project: str, user: str, role: Role) -> None:
    """Refuse whoever has no such role in a project, within the transaction that needs it.

    A route has looked before, but somebody may have been taken out of the project since.
    """
    found = connection.execute(_ROLE, {"project": project, "user": user}).scalar()
    admin = sa.select(schema.users.c.admin).where(schema.users.c.id == user)
    if found not in (role, "lead") and not connection.execute(admin).scalar():
        raise NotFoundError(f"no {role} {user!r} in this project")


def get_project(connection: Connection, id: str) -> Project:  # noqa: A002
    """A project within a transaction; a `WorkspaceError` when there is none."""
    row = connection.execute(sa.select(_projects).where(_projects.c.id == id)).first()
    if row is None:
        raise NotFoundError(f"no project {id!r}")
    return _project(row)


def require_project(connection: Connection, id: str) -> Project:  # noqa: A002
    """The same, but the main project is made where it is missing."""
    if id == MAIN:
        insert_new(connection, _projects, [_main_row()])
    return get_project(connection, id)


def _insert(connection: Connection, name: str, settings: ProjectSettings | None) -> Project:
    created = columns.now()
    row = {
        "id": content_id("project", name, created.isoformat()),
        "name": name,
        "settings": (settings or ProjectSettings()).model_dump(mode="json"),
        "archived": False,
        "created": created,
    }
    connection.execute(sa.insert(_projects), row)
    return get_project(connection, row["id"])


def _main_row() -> dict[str, Any]:
    settings = ProjectSettings().model_dump(mode="json")
    row = {"id": MAIN, "name": "Main", "settings": settings, "archived": False}
    return row | {"created": columns.now()}


def _newest_guideline(connection: Connection, project: str) -> Guideline | None:
    query = sa.select(_guidelines).where(_guidelines.c.project == project)
    row = connection.execute(query.order_by(_guidelines.c.version.desc()).limit(1)).first()
    return None if row is None else _guideline(row)


def _guideline(row: sa.Row[Any]) -> Guideline:
    return Guideline(
        project=row.project,
        version=row.version,
        text=columns.as_text(row.text),
        author=row.author,
        created=row.created,
    )


def _project(row: sa.Row[Any]) -> Project:
    damaged = False
    try:
        settings = ProjectSettings.model_validate(row.settings)
    except ValidationError:
        settings, damaged = ProjectSettings(), True
    return Project(
        id=row.id,
        name=row.name,
        settings=settings,
        archived=row.archived or damaged,
        created=row.created,
        damaged=damaged,
    )

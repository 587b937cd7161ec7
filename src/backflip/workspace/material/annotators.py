"""Annotators of a workspace: people, simulated teachers, judges, authors of imported files."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.engine import Connection

from backflip.records import Record
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, insert


class Annotator(Record):
    """Who gives feedback. `group` is "people", "teachers", "judge" or "import"."""

    name: str
    group: str = "people"
    settings: dict[str, Any] = Field(default_factory=dict)
    created: datetime


class Annotators:
    """Who gives feedback, and with which settings when it is a program."""

    def __init__(self, database: Database):
        self._database = database

    def add(
        self, name: str, *, group: str = "people", settings: dict[str, Any] | None = None
    ) -> bool:
        """Make an annotator known; returns whether the name was new.

        Other settings under a known name are kept as its newest version, beside the old one: see
        `history`.

        Raises:
            WorkspaceError: a name that is empty or holds control characters.
        """
        check_name(name, "the annotator's name")
        check_name(group, "the annotator's group")
        with self._database.write("annotators") as connection:
            if insert_annotators(connection, {name: group}, settings):
                return True
            latest = _versions(connection, name)[-1]
            wanted = latest.settings if settings is None else settings
            if latest.group != group or columns.canonical(latest.settings) != columns.canonical(
                wanted
            ):
                _insert_version(connection, name, group, wanted)
            return False

    def all(self) -> list[Annotator]:
        """Every annotator's newest version, by first appearance."""
        with self._database.read() as connection:
            latest = {version.name: version for version in _versions(connection)}
        return list(latest.values())

    def history(self, name: str) -> list[Annotator]:
        """All versions of an annotator's settings, oldest first."""
        with self._database.read() as connection:
            return _versions(connection, name)


def insert_annotators(
    connection: Connection, groups: dict[str, str], settings: dict[str, Any] | None = None
) -> int:
    """Insert names that are not known yet, each with its group; returns how many were new."""
    table = schema.annotators
    new = 0
    for name, group in groups.items():
        statement = insert(connection, table).on_conflict_do_nothing().returning(table.c.name)
        row = {"name": check_name(name, "the annotator's name"), "created": columns.now()}
        if connection.execute(statement, [row]).scalars().all():
            _insert_version(connection, name, group, settings or {})
            new += 1
    return new


def groups_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The group of each annotator in (annotator, origin) pairs: "import:FILE" is of "import"."""
    return {annotator: origin.partition(":")[0] for annotator, origin in pairs}


def _insert_version(
    connection: Connection, name: str, group: str, settings: dict[str, Any]
) -> None:
    row = {"annotator": name, "group": group, "settings": settings, "created": columns.now()}
    connection.execute(sa.insert(schema.annotator_versions), row)


def _versions(connection: Connection, name: str | None = None) -> list[Annotator]:
    table = schema.annotator_versions
    query = sa.select(table).order_by(table.c.number)
    if name is not None:
        query = query.where(table.c.annotator == name)
    return [
        Annotator(name=row.annotator, group=row.group, settings=row.settings, created=row.created)
        for row in connection.execute(query)
    ]

"""Reports on the quality of a project's feedback: asked for by a page, made by somebody else.

Half a million answers take seconds to read and count. A page shows the report that was made last
and asks for a new one; a server makes it in a process of its own.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from backflip.records import Record
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, insert
from backflip.workspace.projects.projects import get_project

_reports = schema.reports


class Report(Record):
    """What was measured last. `body` is None until there is a first; `wanted` while one is due."""

    project: str
    wanted: bool
    body: dict[str, Any] | None
    made: datetime | None


class Reports:
    """The newest report of each project."""

    def __init__(self, database: Database):
        self._database = database

    def get(self, project: str) -> Report:
        """The newest report of a project; an empty one before the first."""
        with self._database.read() as connection:
            row = connection.execute(
                sa.select(_reports).where(_reports.c.project == project)
            ).first()
        if row is None:
            return Report(project=project, wanted=False, body=None, made=None)
        body = None if isinstance(row.body, columns.Damaged) else row.body
        return Report(project=project, wanted=row.wanted, body=body, made=row.made)

    def want(self, project: str) -> None:
        """Ask for a new report of a project."""
        self._put(project, {"wanted": True})

    def wanted(self) -> list[str]:
        """Projects of which a report is asked for."""
        query = sa.select(_reports.c.project).where(_reports.c.wanted)
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(_reports.c.project)).scalars())

    def keep(self, project: str, body: dict[str, Any]) -> None:
        """Keep a new report of a project in place of the old one."""
        self._put(project, {"wanted": False, "body": body, "made": columns.now()})

    def _put(self, project: str, values: dict[str, Any]) -> None:
        row = {"project": project, "wanted": False, "body": None, "made": None} | values
        with self._database.write("projects") as connection:
            get_project(connection, project)
            statement = insert(connection, _reports).on_conflict_do_update(
                index_elements=["project"], set_=values
            )
            connection.execute(statement, row)

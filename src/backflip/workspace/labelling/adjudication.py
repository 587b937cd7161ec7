"""A lead's word on a pair on which people part."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import NotFoundError
from backflip.records.feedback import Comparison, FeedbackBase
from backflip.workspace.database import schema
from backflip.workspace.database.engine import Database
from backflip.workspace.material.entries import (
    IS_ACTIVE,
    about,
    anew,
    append,
    entry_of,
    retract,
    rows_with_erased,
)
from backflip.workspace.projects.projects import require_role

ADJUDICATED = "adjudicated"
"""Marks an entry that settles a conflict, and is the reason of the retractions that go with it."""


class Adjudications:
    """What leads rule where people part."""

    def __init__(self, database: Database):
        self._database = database

    def rule(
        self, project: str, user: str, ruling: Comparison, *, withdraw: bool
    ) -> tuple[str, int]:
        """Add a lead's word on a pair, in place of what the same lead has ruled on it before.

        It belongs to the run and round of the first answer.

        Args:
            project: whose answers are looked at; those of its checks are not.
            user: id of the lead.
            ruling: marked as `ADJUDICATED`.
            withdraw: whether to take back the answers that say otherwise.

        Returns:
            Id of the entry that counts now, and the number of those that were taken back.

        Raises:
            NotFoundError: nobody has compared these samples in the project, or the user does not
                lead it.
        """
        with self._database.write("projects", "annotators", "journal") as connection:
            require_role(connection, project, user, "lead")
            before = _said_before(connection, project, ruling)
            if not before:
                raise NotFoundError("nobody compared these two samples in this project")
            said = anew(connection, ruling)
            append(connection, [said], run=before[0].run, round=before[0].round)
            gone = [
                row.id
                for row in before
                if row.id != said.id and _goes(entry_of(row), ruling, withdraw)
            ]
            return said.id, len(retract(connection, gone, ADJUDICATED, ruling.annotator))


def _goes(entry: FeedbackBase, ruling: Comparison, withdraw: bool) -> bool:
    """Whether an entry on the same pair gives way to a ruling."""
    if entry.annotator == ruling.annotator and ADJUDICATED in entry.tags:
        return True  # a lead has one word on a pair: the newest
    if not withdraw or not isinstance(entry, Comparison):
        return False
    seen = entry if entry.samples == ruling.samples else entry.swap()
    return seen.choice != ruling.choice


def _said_before(connection: Connection, project: str, ruling: Comparison) -> list[sa.Row[Any]]:
    """Comparisons of the same pair that count, oldest first."""
    journal, batches = schema.journal, schema.batches
    labels = batches.c.project == project, batches.c.purpose != "checks"
    rounds = connection.execute(sa.select(batches.c.run, batches.c.round).where(*labels))
    query = rows_with_erased().where(
        IS_ACTIVE, journal.c.kind == "comparison", journal.c.axis == ruling.axis
    )
    found: list[sa.Row[Any]] = []
    for run, number in rounds.all():  # an index holds the rows of a round
        here = query.where(journal.c.run == run, journal.c.round == number)
        found += about(connection, here, ruling.samples)
    return sorted(found, key=lambda row: row.number)

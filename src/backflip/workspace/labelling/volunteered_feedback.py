"""What people say without being asked, in chats and the playground: counted and told like answers.

It stands in the journal in a batch of the project's own, whose round is 0, and is no part of what a
run waits for.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from backflip.records.feedback import FeedbackBase
from backflip.workspace.database import schema
from backflip.workspace.database.engine import Database
from backflip.workspace.labelling.batches import count, ensure_batch
from backflip.workspace.material.entries import (
    IS_ACTIVE,
    about,
    anew,
    append,
    retract,
    rows_with_erased,
)
from backflip.workspace.projects.projects import require_role
from backflip.workspace.projects.webhooks import note_event

_journal = schema.journal


@dataclass(frozen=True)
class VolunteeredIn:
    """Where asides are kept.

    Attributes:
        project: to which they belong.
        run: that stands for them.
        name: of their batch, on pages.
    """

    project: str
    run: str
    name: str


class VolunteeredFeedback:
    """What is said of replies beside all questions."""

    def __init__(self, database: Database):
        self._database = database
        self.clock = time.time

    def put(self, place: VolunteeredIn, entry: FeedbackBase, user: str) -> str:
        """Keep what somebody says of some samples, in place of what the person said of them before.

        Args:
            place: where.
            entry: what is said.
            user: id of the person, who leads the project.

        Returns:
            Id of the entry that counts now.

        Raises:
            NotFoundError: the person does not lead the project.
        """
        with self._database.write("projects", "queue", "annotators", "journal") as connection:
            require_role(connection, place.project, user, "lead")
            entry = anew(connection, entry)
            old = _said_before(connection, place, entry)
            for name, moment in old.items():
                take_back(connection, place, [name], entry.annotator, "said anew", moment)
            keep(connection, place, [entry], self.clock())
            return entry.id


def keep(
    connection: Connection, place: VolunteeredIn, entries: Sequence[FeedbackBase], moment: float
) -> None:
    """Write what one person said or did into the journal; the same again counts once.

    Within a transaction that holds the locks "queue", "annotators" and "journal".
    """
    new = append(connection, entries, run=place.run, round=0)
    for entry in entries:
        if entry.id in new:
            kind = type(entry).model_fields["kind"].default
            told = {"entry": entry.id, "kind": kind, "run": place.run, "round": 0}
            note_event(connection, place.project, "answer", told)
    if entries:
        _count(connection, place, entries[0].annotator, len(new), moment)


def take_back(
    connection: Connection,
    place: VolunteeredIn,
    ids: Sequence[str],
    annotator: str,
    reason: str,
    moment: float,
) -> None:
    """Take back what a person said, at the `moment` at which it was counted."""
    taken_back = retract(connection, ids, reason, annotator)
    _count(connection, place, annotator, -len(taken_back), moment)


def _count(
    connection: Connection, place: VolunteeredIn, annotator: str, by: int, moment: float
) -> None:
    batch = {"project": place.project, "run": place.run, "round": 0, "name": place.name}
    known = ensure_batch(connection, {**batch, "purpose": "asides"})
    count(connection, known.number, annotator, "done", by, moment)


def _said_before(
    connection: Connection, place: VolunteeredIn, entry: FeedbackBase
) -> dict[str, float]:
    """What else the person said of the same samples there, and when."""
    mine = _journal.c.annotator == entry.annotator, _journal.c.run == place.run
    query = rows_with_erased().where(IS_ACTIVE, *mine, _journal.c.id != entry.id)
    found = about(connection, query, entry.sample_ids)
    return {row.id: row.created.timestamp() for row in found}

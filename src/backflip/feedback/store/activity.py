"""What goes on in a project at this time: who holds questions, and how many answers an hour has."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.feedback.store import schema
from backflip.feedback.store.database import Database

HOUR = 3600
_places, _tasks, _batches = schema.assignments, schema.tasks, schema.batches
_shares = schema.contributions


@dataclass(frozen=True)
class Activity:
    """What goes on in a project.

    Attributes:
        held: questions that an annotator holds now, by the number of the batch and the name.
        by_hour: answers that stand, checks included, by the hour in which they were given, counted
            from 1970; hours without an answer are left out.
    """

    held: dict[tuple[int, str], int]
    by_hour: dict[int, int]


def read_activity(database: Database, project: str, *, now: float, hours: int = 24) -> Activity:
    """What goes on in a project.

    Args:
        database: of the workspace.
        project: id of the project.
        now: seconds since 1970.
        hours: how many are counted, the present one included.
    """
    since = (int(now) // HOUR - hours + 1) * HOUR
    with database.read() as connection:
        return Activity(
            held=_held(connection, project, now), by_hour=_by_hour(connection, project, since)
        )


def _held(connection: Connection, project: str, now: float) -> dict[tuple[int, str], int]:
    query = (
        sa.select(_batches.c.number, _places.c.annotator, sa.func.count())
        .select_from(_of_project())
        .where(_places.c.state == "leased", _places.c.expires > now, _batches.c.project == project)
        .group_by(_batches.c.number, _places.c.annotator)
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def _by_hour(connection: Connection, project: str, since: float) -> dict[int, int]:
    # By way of the annotators, whose answers an index has in the order of time.
    who = sa.select(_shares.c.annotator).join(_batches, _batches.c.number == _shares.c.batch)
    hours = _places.c.ended / HOUR
    # SQLite may have no floor(), and its cast cuts off; that of PostgreSQL rounds.
    cuts_off = connection.dialect.name == "sqlite"
    hour = sa.cast(hours if cuts_off else sa.func.floor(hours), sa.BigInteger)
    query = (
        sa.select(hour, sa.func.count())
        .select_from(_of_project())
        .where(
            _places.c.annotator.in_(who.where(_batches.c.project == project)),
            _places.c.state == "done",
            _places.c.ended >= since,
            _batches.c.project == project,
        )
        .group_by(hour)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _of_project() -> sa.Join:
    return _places.join(_tasks, _tasks.c.id == _places.c.task_id).join(
        _batches, _batches.c.number == _tasks.c.batch
    )

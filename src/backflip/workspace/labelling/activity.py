"""What goes on in a project at this time: who holds questions, and how many answers an hour has."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.workspace.database import schema
from backflip.workspace.database.engine import Database
from backflip.workspace.labelling.batches import HOUR

_places, _tasks, _batches = schema.assignments, schema.tasks, schema.batches
_hours = schema.batch_hours


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
    since = int(now) // HOUR - hours + 1
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


def _by_hour(connection: Connection, project: str, since: int) -> dict[int, int]:
    query = (
        sa.select(_hours.c.hour, sa.func.sum(_hours.c.done))
        .join(_batches, _batches.c.number == _hours.c.batch)
        .where(_batches.c.project == project, _hours.c.hour >= since)
        .group_by(_hours.c.hour)
    )
    return {row[0]: row[1] for row in connection.execute(query) if row[1]}


def _of_project() -> sa.Join:
    return _places.join(_tasks, _tasks.c.id == _places.c.task_id).join(
        _batches, _batches.c.number == _tasks.c.batch
    )

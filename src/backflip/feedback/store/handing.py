"""Which question a person is handed next.

A person gets back what it holds, oldest first. Else, in the order in which batches and questions
were put up, the first with a free place that this person was not asked yet. Every query walks an
index and stops at the first row, so that a hundred thousand open questions cost no more than ten.
"""

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.feedback.store import schema
from backflip.feedback.store.batches import Batch, batches_of
from backflip.feedback.store.projects import Project, get_project

_batches, _tasks, _places = schema.batches, schema.tasks, schema.assignments
_shares = schema.contributions
_mine = _places.alias("mine")


@dataclass(frozen=True)
class Wish:
    """Who asks for a question, and for which.

    Attributes:
        annotator: who asks.
        now: seconds since 1970.
        run, project, kinds: only of these; None for any.
        besides: ids of questions that the person has on the screen already.
    """

    annotator: str
    now: float
    run: str | None = None
    project: str | None = None
    kinds: Collection[str] | None = None
    besides: Collection[str] = ()

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """What a question must be."""
        found: list[sa.ColumnElement[bool]] = []
        if self.kinds is not None:
            found.append(_tasks.c.kind.in_(list(self.kinds)))
        if self.besides:
            found.append(_tasks.c.id.not_in(list(self.besides)))
        return found


def pick(connection: Connection, wish: Wish) -> str | None:
    """Id of the question to hand to a person; None when there is nothing to ask."""
    held = _held_by(connection, wish)
    if held is not None:
        return held
    batches = batches_of(connection, run=wish.run, project=wish.project)
    for project_id in dict.fromkeys(batch.project for batch in batches):
        project = get_project(connection, project_id)
        of_project = [batch for batch in batches if batch.project == project_id]
        if project.archived or _spent(connection, project, wish):
            continue
        for batch in _in_order(connection, project, of_project, wish):
            found = connection.execute(_free_in(batch, wish)).scalar()
            if found is not None:
                return found
    return None


def taken(now: float, *, besides: str, task_id: Any) -> sa.ScalarSelect[int]:
    """Number of places of a task that others have used or hold now."""
    live = sa.or_(_places.c.state != "leased", _places.c.expires > now)
    query = sa.select(sa.func.count()).select_from(_places)
    query = query.where(_places.c.task_id == task_id, _places.c.annotator != besides, live)
    return query.correlate(_tasks).scalar_subquery()


def num_open(connection: Connection, wish: Wish) -> int:
    """How many questions a person holds or may be handed, a project's limits aside."""
    total = 0
    for batch in batches_of(connection, run=wish.run, project=wish.project):
        if batch.purpose == "labels":
            query = _open_in(batch, wish).with_only_columns(sa.func.count())
            total += connection.execute(query).scalar_one()
    return total


def _held_by(connection: Connection, wish: Wish) -> str | None:
    query = (
        sa.select(_tasks.c.id)
        .join(_places, _places.c.task_id == _tasks.c.id)
        .where(
            _places.c.annotator == wish.annotator,
            _places.c.state == "leased",
            _places.c.expires > wish.now,
            *wish.conditions(),
        )
        .order_by(_places.c.number)
        .limit(1)
    )
    if wish.run is not None:
        query = query.where(_tasks.c.run == wish.run)
    if wish.project is not None:
        query = query.join(_batches, _batches.c.number == _tasks.c.batch)
        query = query.where(_batches.c.project == wish.project)
    return connection.execute(query).scalar()


def _in_order(
    connection: Connection, project: Project, batches: list[Batch], wish: Wish
) -> list[Batch]:
    """Batches to look into: those to learn from, and a check before them when one is due."""
    labels = [
        batch
        for batch in batches
        if batch.purpose == "labels" and batch.done + batch.skipped < batch.wanted
    ]
    every = project.settings.check_every
    if every is None:
        return labels
    given = _given(connection, project.id, wish.annotator)
    # Not the same place in everybody's row of questions, or people would tell each other.
    offset = blake2b(f"{project.id}\n{wish.annotator}".encode(), digest_size=4).digest()
    if (given + int.from_bytes(offset, "big")) % every:
        return labels
    return [batch for batch in batches if batch.purpose == "checks"] + labels


def _spent(connection: Connection, project: Project, wish: Wish) -> bool:
    """Whether the project's or the person's budget is used up; what is held now counts."""
    rules = project.settings
    if rules.budget is not None:
        held = sa.select(sa.func.count()).select_from(
            _places.join(_tasks, _tasks.c.id == _places.c.task_id).join(
                _batches, _batches.c.number == _tasks.c.batch
            )
        )
        held = held.where(
            _places.c.state == "leased",
            _places.c.expires > wish.now,
            _batches.c.project == project.id,
            _batches.c.purpose == "labels",
        )
        done = sa.select(sa.func.coalesce(sa.func.sum(_batches.c.done), 0)).where(
            _batches.c.project == project.id, _batches.c.purpose == "labels"
        )
        used = connection.execute(done).scalar_one() + connection.execute(held).scalar_one()
        if used >= rules.budget:
            return True
    if rules.budget_per_person is None:
        return False
    mine = _given(connection, project.id, wish.annotator) + len(wish.besides)
    return mine >= rules.budget_per_person


def _given(connection: Connection, project: str, annotator: str) -> int:
    query = (
        sa.select(sa.func.coalesce(sa.func.sum(_shares.c.done), 0))
        .join(_batches, _batches.c.number == _shares.c.batch)
        .where(_batches.c.project == project, _shares.c.annotator == annotator)
    )
    return connection.execute(query).scalar_one()


def _free_in(batch: Batch, wish: Wish) -> sa.Select[Any]:
    return _open_in(batch, wish).order_by(_tasks.c.number).limit(1)


def _open_in(batch: Batch, wish: Wish) -> sa.Select[Any]:
    """The questions of a batch that a person holds or may be handed."""
    mine = sa.and_(_mine.c.task_id == _tasks.c.id, _mine.c.annotator == wish.annotator)
    free = taken(wish.now, besides=wish.annotator, task_id=_tasks.c.id) < _tasks.c.overlap
    return (
        sa.select(_tasks.c.id)
        .select_from(_tasks.outerjoin(_mine, mine))
        .where(
            _tasks.c.batch == batch.number,
            _tasks.c.closed.is_(False),
            sa.or_(_mine.c.state.is_(None), _mine.c.state == "leased"),
            free,
            *wish.conditions(),
        )
    )

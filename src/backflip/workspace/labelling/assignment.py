"""Which question a person is handed next.

A person gets back what it holds, oldest first. Else, in the order in which batches and questions
were put up, the first with a free place that this person was not asked yet. Every query walks an
index and stops at the first row, so that a hundred thousand open questions cost no more than ten.

Nothing in the store is asked more often, and everybody who answers waits for it: the queries are
built once and filled in.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.records.feedback import DAMAGED
from backflip.workspace.database import schema
from backflip.workspace.labelling.batches import TaskBatch, batches_of, count, given_by
from backflip.workspace.projects.projects import Project, get_project

_batches, _tasks, _places = schema.batches, schema.tasks, schema.assignments
_guidelines = schema.guidelines
TASK_COLUMNS = ("run", "round", "kind", "axis", "sample_ids", "overlap", "expected", "batch")
"""What a task tells of its question."""
Candidate = Mapping[Any, Any]
"""A question that may be handed out: its "task_id", `TASK_COLUMNS`, "project", and "newest", the
version of the instructions in force."""


@dataclass(frozen=True)
class TaskQuery:
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

    @property
    def values(self) -> dict[str, Any]:
        """What the queries are filled in with."""
        kinds = None if self.kinds is None else list(self.kinds)
        besides = list(self.besides) or None
        given = {"run": self.run, "project": self.project, "kinds": kinds, "besides": besides}
        found = {name: value for name, value in given.items() if value is not None}
        return {"annotator": self.annotator, "now": self.now, **found}


def pick(connection: Connection, wish: TaskQuery) -> Candidate | None:
    """The question to hand to a person; None when there is nothing to ask.

    One that somebody damaged in the database is closed: whoever was handed it could not go on.
    """
    while (picked := _first(connection, wish)) is not None and not _can_be_asked(picked):
        this = _tasks.c.id == picked["task_id"]
        connection.execute(sa.update(_tasks).where(this).values(closed=True))
        mine = _places.c.task_id == picked["task_id"], _places.c.annotator == wish.annotator
        ended = sa.update(_places).where(*mine, _places.c.state == "leased")
        values = {"state": "skipped", "ended": wish.now, "reason": DAMAGED, "draft": None}
        if connection.execute(ended.values(values)).rowcount:
            count(connection, picked["batch"], wish.annotator, "skipped", 1, wish.now)
    return picked


def _can_be_asked(picked: Candidate) -> bool:
    names, right = picked["sample_ids"], picked["expected"]
    whole = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return whole and len(names) > 0 and (right is None or isinstance(right, dict))


def _first(connection: Connection, wish: TaskQuery) -> Candidate | None:
    values = wish.values
    asked = frozenset(values)
    held = connection.execute(_held(asked), values).mappings().first()
    if held is not None:
        return held
    batches = batches_of(connection, run=wish.run, project=wish.project)
    for project in dict.fromkeys(batch.project for batch in batches):
        known = get_project(connection, project)
        of_project = [batch for batch in batches if batch.project == project]
        if known.archived or _spent(connection, known, wish):
            continue
        for batch in _in_order(connection, known, of_project, wish):
            place = {**values, "batch": batch.number, "project": project}
            found = connection.execute(_free(asked), place).mappings().first()
            if found is not None:
                return found
    return None


def taken(now: Any, *, besides: Any, task_id: Any) -> sa.ScalarSelect[int]:
    """Number of places of a task that others have used or hold now."""
    live = sa.or_(_places.c.state != "leased", _places.c.expires > now)
    query = sa.select(sa.func.count()).select_from(_places)
    query = query.where(_places.c.task_id == task_id, _places.c.annotator != besides, live)
    return query.correlate(_tasks).scalar_subquery()


def num_open(connection: Connection, wish: TaskQuery) -> int:
    """How many questions a person holds or may be handed, a project's limits aside."""
    total = 0
    values = wish.values
    for batch in batches_of(connection, run=wish.run, project=wish.project):
        if batch.purpose == "labels":
            query = sa.select(sa.func.count()).where(*_is_open(frozenset(values)))
            total += connection.execute(query, {**values, "batch": batch.number}).scalar_one()
    return total


def _value(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name)


def _wished(asked: frozenset[str]) -> list[sa.ColumnElement[bool]]:
    """What a question must be, by what is asked for."""
    found: list[sa.ColumnElement[bool]] = []
    if "kinds" in asked:
        found.append(_tasks.c.kind.in_(sa.bindparam("kinds", expanding=True)))
    if "besides" in asked:
        found.append(_tasks.c.id.not_in(sa.bindparam("besides", expanding=True)))
    return found


def _columns(project: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
    newest = sa.select(sa.func.max(_guidelines.c.version)).where(_guidelines.c.project == project)
    return [
        _tasks.c.id.label("task_id"),
        *(_tasks.c[name] for name in TASK_COLUMNS),
        sa.type_coerce(project, sa.Text).label("project"),
        newest.scalar_subquery().label("newest"),
    ]


@cache
def _held(asked: frozenset[str]) -> sa.Select[Any]:
    """What a person holds, oldest first."""
    query = (
        sa.select(*_columns(_batches.c.project))
        .select_from(_places)
        .join(_tasks, _tasks.c.id == _places.c.task_id)
        .join(_batches, _batches.c.number == _tasks.c.batch)
        .where(
            _places.c.annotator == _value("annotator"),
            _places.c.state == "leased",
            _places.c.expires > _value("now"),
            *_wished(asked),
        )
        # A sum is in no index: along that of the numbers lies all that was ever answered.
        .order_by(_places.c.number + 0)
        .limit(1)
    )
    if "run" in asked:
        query = query.where(_tasks.c.run == _value("run"))
    if "project" in asked:
        query = query.where(_batches.c.project == _value("project"))
    return query


@cache
def _free(asked: frozenset[str]) -> sa.Select[Any]:
    """The first question of a batch that a person holds or may be handed.

    By its place in the batch and not by its number: only the index of open questions is in that
    order, so that none that is closed is looked at.
    """
    query = sa.select(*_columns(_value("project"))).where(*_is_open(asked))
    return query.order_by(_tasks.c.position).limit(1)


def _is_open(asked: frozenset[str]) -> list[sa.ColumnElement[bool]]:
    """That a question of a batch is held by a person or may be handed to it.

    What the person did with a question is looked up question by question, in a query of its own:
    over a join PostgreSQL may read the whole batch to find its first question. Nor may it look
    through all that the person ever answered: `annotator || ''` is in no index.
    """
    annotator, now = _value("annotator"), _value("now")
    mine = sa.select(_places.c.state).where(
        _places.c.task_id == _tasks.c.id, _places.c.annotator + "" == annotator
    )
    state = sa.func.coalesce(mine.correlate(_tasks).scalar_subquery(), "leased")
    return [
        _tasks.c.batch == _value("batch"),
        _tasks.c.closed.is_(False),
        state == "leased",
        taken(now, besides=annotator, task_id=_tasks.c.id) < _tasks.c.overlap,
        *_wished(asked),
    ]


def _in_order(
    connection: Connection, project: Project, batches: list[TaskBatch], wish: TaskQuery
) -> list[TaskBatch]:
    """Batches to look into: those to learn from, and a check before them when one is due."""
    labels = [
        batch
        for batch in batches
        if batch.purpose == "labels" and batch.done + batch.skipped < batch.wanted
    ]
    every = project.settings.check_every
    if every is None:
        return labels
    given = given_by(connection, project.id, wish.annotator)
    # Not the same place in everybody's row of questions, or people would tell each other.
    offset = blake2b(f"{project.id}\n{wish.annotator}".encode(), digest_size=4).digest()
    if (given + int.from_bytes(offset, "big")) % every:
        return labels
    return [batch for batch in batches if batch.purpose == "checks"] + labels


def _spent(connection: Connection, project: Project, wish: TaskQuery) -> bool:
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
    mine = given_by(connection, project.id, wish.annotator) + len(wish.besides)
    return mine >= rules.budget_per_person

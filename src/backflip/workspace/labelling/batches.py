"""Batches: the questions that were put up together, and how many of them are answered.

The counts are kept with every answer, skip and undo, in the same transaction, so that a page or a
waiting run need not count half a million rows to know how far a round is.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import NotFoundError, WorkspaceError
from backflip.records import Record, content_id
from backflip.records.feedback import KINDS
from backflip.records.feedback_checks import of_one_prompt
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, chunks, insert_new, insert_of
from backflip.workspace.labelling.tasks import Task
from backflip.workspace.material.samples import about_samples
from backflip.workspace.projects.projects import require_project

Purpose = Literal["labels", "checks", "asides"]
State = Literal["open", "paused", "closed"]
HOUR = 3600
EVERYONE = 1_000_000_000
"""Overlap of a check: everybody may be asked, each person once."""
_batches, _tasks, _shares = schema.batches, schema.tasks, schema.contributions
_places, _hours = schema.assignments, schema.batch_hours


class TaskBatch(Record):
    """Questions that were put up together.

    Attributes:
        number, id: name it.
        project: that it belongs to.
        run, round: where its answers belong; a batch that a lead made has a run of its own name.
        name: for people to read.
        purpose: "labels" to learn from; "checks", whose answers are known; or "asides": what people
            say without being asked, in chats and the playground, and what comes from files. Asides
            are learned from too, and count against no budget.
        state: "open"; "paused" hands out nothing for now; "closed" for good.
        items, wanted, done, skipped: questions, places, and those answered and skipped.
        created: when it was put up.
    """

    number: int
    id: str
    project: str
    run: str
    round: int
    name: str
    purpose: Purpose
    state: State
    items: int
    wanted: int
    done: int
    skipped: int
    created: datetime


class Batches:
    """Every batch, and what each person did in it."""

    def __init__(self, database: Database):
        self._database = database

    def get(self, id: str) -> TaskBatch:  # noqa: A002
        """A batch by its id; a `WorkspaceError` when there is none."""
        with self._database.read() as connection:
            for batch in _select(connection, _batches.c.id == id):
                return batch
        raise NotFoundError(f"no batch {id!r}")

    def all(self, project: str | None = None) -> list[TaskBatch]:
        """All batches, or those of a project, oldest first."""
        conditions = [] if project is None else [_batches.c.project == project]
        with self._database.read() as connection:
            return _select(connection, *conditions)

    def set_state(self, id: str, state: State) -> None:  # noqa: A002
        """Open, pause or close a batch; a `WorkspaceError` when there is none."""
        with self._database.write("queue") as connection:
            changed = sa.update(_batches).where(_batches.c.id == id).values(state=state)
            if not connection.execute(changed).rowcount:
                raise NotFoundError(f"no batch {id!r}")

    def checks(self, project: str) -> list[Task]:
        """The questions of a project whose answers are known."""
        checks = _batches.c.purpose == "checks", _tasks.c.expected.is_not(None)
        return self._questions(_batches.c.project == project, *checks)

    def questions(self, run: str, round: int) -> list[Task]:  # noqa: A002
        """What was asked in a round, in the order in which it was put up."""
        return self._questions(_batches.c.run == run, _batches.c.round == round)

    def _questions(self, *conditions: sa.ColumnElement[bool]) -> list[Task]:
        query = sa.select(_tasks).join(_batches, _batches.c.number == _tasks.c.batch)
        query = query.where(*conditions).order_by(_tasks.c.number)
        with self._database.read() as connection:
            return [
                Task(
                    kind=row.kind,
                    sample_ids=row.sample_ids,
                    axis=row.axis,
                    expected=row.expected,
                    id=row.id,
                )
                for row in connection.execute(query)
            ]

    def given(self, project: str, annotator: str) -> int:
        """How many of a person's answers to questions of a project stand, checks included."""
        with self._database.read() as connection:
            return given_by(connection, project, annotator)

    def is_about(self, project: str, sample: str) -> bool:
        """Whether a question of a project, or something that was said in it, names a sample."""
        runs = sa.select(_batches.c.run).where(_batches.c.project == project)
        numbers = sa.select(_batches.c.number).where(_batches.c.project == project)
        named = {"other": sample, "autoescape": True}
        asked = _tasks.c.batch.in_(numbers), _tasks.c.sample_ids.cast(sa.Text).contains(**named)
        journal = schema.journal
        told = journal.c.run.in_(runs), journal.c.body.cast(sa.Text).contains(**named)
        with self._database.read() as connection:
            return any(
                connection.execute(sa.select(sa.literal(1)).where(*which).limit(1)).first()
                for which in (asked, told)
            )

    def shares(self, project: str) -> dict[str, tuple[int, int]]:
        """Answers and skips of each annotator in a project, checks included."""
        query = (
            sa.select(
                _shares.c.annotator, sa.func.sum(_shares.c.done), sa.func.sum(_shares.c.skipped)
            )
            .join(_batches, _batches.c.number == _shares.c.batch)
            .where(_batches.c.project == project)
            .group_by(_shares.c.annotator)
            .order_by(_shares.c.annotator)
        )
        with self._database.read() as connection:
            return {name: (done, skipped) for name, done, skipped in connection.execute(query)}


def put_batch(
    connection: Connection, batch: dict[str, Any], items: Sequence[Task], overlap: int
) -> int:
    """Add questions to a batch within a transaction that holds the lock "queue".

    Args:
        connection: of the transaction.
        batch: project, run, round, name and purpose of the batch, which is made if it is new.
        items: the questions; those that are there already change nothing.
        overlap: places of each.

    Returns:
        Number of new questions.
    """
    for item in items:
        _check_item(item)
    require_project(connection, batch["project"])
    about = about_samples(connection, (each for item in items for each in item.sample_ids))
    for item in items:
        if not of_one_prompt(about[each] for each in item.sample_ids):
            raise WorkspaceError(f"a {item.kind} is about replies to different prompts")
    known = ensure_batch(connection, batch)
    places = EVERYONE if known.purpose == "checks" else overlap
    rows = (
        {
            "id": content_id("task", known.run, known.round, item.kind, item.sample_ids, item.axis),
            "run": known.run,
            "round": known.round,
            "kind": item.kind,
            "axis": item.axis,
            "sample_ids": item.sample_ids,
            "overlap": places,
            "closed": False,
            "created": columns.now(),
            "batch": known.number,
            "expected": item.expected,
            "position": position,
        }
        for position, item in enumerate(items, known.items)
    )
    new = sum(len(insert_new(connection, _tasks, chunk)) for chunk in chunks(rows))
    wanted = 0 if known.purpose == "checks" else new * overlap
    _add(connection, known.number, items=new, wanted=wanted)
    return new


def ensure_batch(connection: Connection, batch: dict[str, Any]) -> TaskBatch:
    """The batch of a run's round, made where it is missing."""
    run, round_ = batch["run"], batch["round"]
    row = {
        "id": f"{run}/{round_}",
        "name": f"{run}, round {round_}",
        "purpose": "labels",
        "state": "open",
        **dict.fromkeys(("items", "wanted", "done", "skipped"), 0),
        "created": columns.now(),
    }
    insert_new(connection, _batches, [row | {k: v for k, v in batch.items() if v != ""}])
    (known,) = _select(connection, _batches.c.run == run, _batches.c.round == round_)
    return known


def count(
    connection: Connection, batch: int, annotator: str, state: str, by: int, moment: float
) -> None:
    """Count a person's answer or skip in a batch.

    Args:
        connection: of a transaction that holds the lock "queue".
        batch: number of the batch.
        annotator: whose it is.
        state: "done" or "skipped".
        by: 1; -1 takes it back.
        moment: when it was given, in seconds since 1970.
    """
    shared, by_hour = _counted(connection.dialect.name, state)
    connection.execute(_ADDED[state], {"batch": batch, "by": by})
    row = {"batch": batch, "annotator": annotator, "done": 0, "skipped": 0, state: by}
    connection.execute(shared, row)
    if state == "done":
        connection.execute(by_hour, {"batch": batch, "hour": int(moment // HOUR), "done": by})


def given_by(connection: Connection, project: str, annotator: str) -> int:
    """`Batches.given` within a transaction."""
    return connection.execute(_GIVEN, {"project": project, "annotator": annotator}).scalar_one()


def batches_of(
    connection: Connection, *, run: str | None = None, project: str | None = None
) -> list[TaskBatch]:
    """Batches that may hand something out, oldest first."""
    conditions = [_batches.c.state == "open"]
    if run is not None:
        conditions.append(_batches.c.run == run)
    if project is not None:
        conditions.append(_batches.c.project == project)
    return _select(connection, *conditions)


def batch_of_round(connection: Connection, run: str, round: int) -> TaskBatch | None:  # noqa: A002
    """The batch of a run's round; None when nothing was put up."""
    found = _select(connection, _batches.c.run == run, _batches.c.round == round)
    return found[0] if found else None


# Built once: whoever answers waits for them.
_GIVEN = (
    sa.select(sa.func.coalesce(sa.func.sum(_shares.c.done), 0))
    .join(_batches, _batches.c.number == _shares.c.batch)
    .where(
        _batches.c.project == sa.bindparam("project"),
        _batches.c.purpose != "asides",
        _shares.c.annotator == sa.bindparam("annotator"),
    )
)
_ADDED = {
    state: sa.update(_batches)
    .where(_batches.c.number == sa.bindparam("batch"))
    .values({state: _batches.c[state] + sa.bindparam("by")})
    for state in ("done", "skipped")
}


@cache
def _counted(dialect: str, state: str) -> tuple[Any, Any]:
    """Statements that add to what a person gave, and to what was given in an hour."""
    shared, by_hour = insert_of(dialect, _shares), insert_of(dialect, _hours)
    return (
        shared.on_conflict_do_update(
            index_elements=["batch", "annotator"],
            set_={state: _shares.c[state] + shared.excluded[state]},
        ),
        by_hour.on_conflict_do_update(
            index_elements=["batch", "hour"], set_={"done": _hours.c.done + by_hour.excluded.done}
        ),
    )


def _add(connection: Connection, number: int, **by: int) -> None:
    values = {name: _batches.c[name] + amount for name, amount in by.items()}
    connection.execute(sa.update(_batches).where(_batches.c.number == number).values(values))


def _select(connection: Connection, *conditions: Any) -> list[TaskBatch]:
    query = sa.select(_batches).where(*conditions).order_by(_batches.c.number)
    rows = connection.execute(query).mappings()
    return [_batch(row) for row in rows]


def _batch(row: sa.RowMapping) -> TaskBatch:
    """A batch as it is kept; one whose purpose or state is none of ours is closed."""
    values = {**row, "name": columns.as_text(row["name"])}
    if row["purpose"] not in get_args(Purpose) or row["state"] not in get_args(State):
        purpose = row["purpose"] if row["purpose"] in get_args(Purpose) else "labels"
        values |= {"purpose": purpose, "state": "closed"}
    return TaskBatch(**values)


def _check_item(item: Task) -> None:
    check_name(item.axis, "the axis")
    if item.kind not in KINDS:
        raise WorkspaceError(
            f"no kind of feedback {item.kind!r}", hint=f"Kinds: {', '.join(sorted(KINDS))}"
        )
    if len(set(item.sample_ids)) != len(item.sample_ids):
        raise WorkspaceError(f"a {item.kind} names the same sample twice: {item.sample_ids[0]}")

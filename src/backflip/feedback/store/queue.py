"""Tasks for people: who is asked what, in which order it is shown, and what came of it.

An item has `overlap` places. A person takes a place for a while (a lease), then answers or skips;
an answer or a skip uses the place up for good, a lease that ran out gives it back. Nobody is asked
twice about the same item. The order in which samples are shown is drawn here, so that no form can
forget to shuffle: it depends on the item and the person only, and a page that is opened again
shows what it showed before.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import WorkspaceError
from backflip.feedback.kinds import KINDS, FeedbackBase
from backflip.feedback.store import schema
from backflip.feedback.store.annotators import insert_annotators
from backflip.feedback.store.database import Database, check_name, chunks, insert_new
from backflip.feedback.store.journal import append, retract
from backflip.feedback.store.samples import require_samples
from backflip.feedback.store.tasks import Progress, Standing, Task
from backflip.records import content_id

LEASE_SECONDS = 1800.0
_tasks, _places = schema.tasks, schema.assignments
_mine = _places.alias("mine")


class Queue:
    """Hands out tasks and takes the answers.

    Args:
        database: of the workspace.
        lease_seconds: how long a person may take over one task.
    """

    def __init__(self, database: Database, lease_seconds: float = LEASE_SECONDS):
        self._database = database
        self.lease_seconds = lease_seconds
        self.clock = time.time

    def put(
        self,
        run: str,
        round: int,  # noqa: A002
        items: Iterable[Task],
        overlap: int = 1,
    ) -> int:
        """Ask `overlap` people about each item; what was asked in this round is not asked again.

        Returns:
            Number of new items.

        Raises:
            WorkspaceError: an unknown kind, or a sample that is not in the workspace.
        """
        if overlap < 1:
            raise WorkspaceError(f"overlap is {overlap}; it must be at least 1")
        check_name(run, "the run's id")
        items = list(items)
        for item in items:
            _check_item(item)
        rows = (
            {
                "id": content_id("task", run, round, item.kind, item.sample_ids, item.axis),
                "run": run,
                "round": round,
                "kind": item.kind,
                "axis": item.axis,
                "sample_ids": item.sample_ids,
                "overlap": overlap,
                "closed": False,
                "created": schema.now(),
            }
            for item in items
        )
        with self._database.write("queue") as connection:
            require_samples(connection, (name for item in items for name in item.sample_ids))
            return sum(len(insert_new(connection, _tasks, chunk)) for chunk in chunks(rows))

    def next(
        self,
        annotator: str,
        *,
        run: str | None = None,
        kinds: Collection[str] | None = None,
    ) -> Task | None:
        """The next task for a person; None when there is nothing to ask this person now.

        A task that the person holds already comes first, with its lease renewed.
        """
        now = self.clock()
        with self._database.write("queue", "annotators") as connection:
            insert_annotators(connection, {annotator: "people"})
            conditions = [] if run is None else [_tasks.c.run == run]
            if kinds is not None:
                conditions.append(_tasks.c.kind.in_(list(kinds)))
            task_id = connection.execute(_pick(annotator, now, conditions)).scalar()
            return None if task_id is None else self._lease(connection, task_id, annotator)

    def answer(self, task_id: str, annotator: str, entry: FeedbackBase) -> str:
        """Write a person's answer into the journal and end the task, both or neither.

        `shown` and `key` of the entry are set here: the order that the task was shown in, and a
        key that makes the same answer sent twice count once, and an answer after `undo` a new one.

        Returns:
            Id of the entry in the journal.

        Raises:
            WorkspaceError: the task was not handed to this person, was answered already or has
                gone to others in the meantime; or the entry does not answer the task.
        """
        with self._database.write("queue", "annotators", "journal") as connection:
            place = _place(connection, task_id, annotator)
            task = _task(place)
            entry = _fitted(task, entry, place.attempt)
            if place.state == "done" and place.entry_id == entry.id:
                return entry.id
            self._require_held(connection, place)
            append(connection, [entry], round=task.round, run=task.run)
            self._end(connection, place, state="done", entry_id=entry.id)
            return entry.id

    def skip(self, task_id: str, annotator: str, reason: str = "") -> None:
        """End a person's task without an answer; the place is used up.

        Raises:
            WorkspaceError: as `answer`.
        """
        with self._database.write("queue") as connection:
            place = _place(connection, task_id, annotator)
            if place.state != "skipped":
                self._require_held(connection, place)
                self._end(connection, place, state="skipped", reason=reason)

    def undo(self, annotator: str) -> Task | None:
        """Take a person's last answer or skip back and hand the task out again.

        The answer's entry is retracted in the journal. None when there is nothing to take back.
        """
        query = _joined().where(_places.c.annotator == annotator)
        query = query.where(_places.c.state.in_(["done", "skipped"]))
        query = query.order_by(_places.c.ended.desc(), _places.c.number.desc()).limit(1)
        with self._database.write("queue", "annotators", "journal") as connection:
            place = connection.execute(query).first()
            if place is None:
                return None
            if place.entry_id is not None:
                retract(connection, [place.entry_id], "undone", annotator)
            values = {
                "state": "leased",
                "attempt": place.attempt + 1,
                "entry_id": None,
                "reason": None,
                "ended": None,
            }
            this = _places.c.number == place.number
            connection.execute(sa.update(_places).where(this).values(values))
            opened = sa.update(_tasks).where(_tasks.c.id == place.task_id).values(closed=False)
            connection.execute(opened)
            return self._lease(connection, place.task_id, annotator)

    def progress(self, run: str, round: int) -> Progress:  # noqa: A002
        """How many of a round's questions are asked, answered and skipped."""
        of_round = sa.and_(_tasks.c.run == run, _tasks.c.round == round)
        totals = sa.select(sa.func.count(), sa.func.sum(_tasks.c.overlap)).where(of_round)
        live = sa.or_(_places.c.state != "leased", _places.c.expires > self.clock())
        states = (
            sa.select(_places.c.state, _places.c.annotator, sa.func.count())
            .join(_tasks, _tasks.c.id == _places.c.task_id)
            .where(of_round, live)
            .group_by(_places.c.state, _places.c.annotator)
            .order_by(_places.c.annotator)
        )
        counts = {"done": 0, "skipped": 0, "leased": 0}
        by_annotator: dict[str, int] = {}
        with self._database.read() as connection:
            items, wanted = connection.execute(totals).one()
            for state, annotator, number in connection.execute(states):
                counts[state] += number
                if state == "done":
                    by_annotator[annotator] = number
        return Progress(items=items, wanted=wanted or 0, by_annotator=by_annotator, **counts)

    def standing(self, annotator: str, *, run: str | None = None) -> Standing:
        """What a person has answered so far and may still be asked, in a run or in all."""
        of_run = [] if run is None else [_tasks.c.run == run]
        done = sa.and_(_places.c.annotator == annotator, _places.c.state == "done", *of_run)
        answered = _places.join(_tasks, _tasks.c.id == _places.c.task_id)
        given = sa.select(sa.func.count()).select_from(answered).where(done)
        waiting = _open_to(annotator, self.clock(), of_run).with_only_columns(sa.func.count())
        with self._database.read() as connection:
            return Standing(
                given=connection.execute(given).scalar_one(),
                open=connection.execute(waiting).scalar_one(),
            )

    def _lease(self, connection: Connection, task_id: str, annotator: str) -> Task:
        """Take or renew a place; the caller has made sure that there is one."""
        expires = self.clock() + self.lease_seconds
        this = sa.and_(_places.c.task_id == task_id, _places.c.annotator == annotator)
        renewed = connection.execute(sa.update(_places).where(this).values(expires=expires))
        if not renewed.rowcount:
            ids = connection.execute(
                sa.select(_tasks.c.sample_ids).where(_tasks.c.id == task_id)
            ).scalar_one()
            row = {
                "task_id": task_id,
                "annotator": annotator,
                "state": "leased",
                "attempt": 0,
                "shown": shown_order(task_id, annotator, len(ids)),
                "expires": expires,
            }
            connection.execute(sa.insert(_places), row)
        return _task(_place(connection, task_id, annotator))

    def _require_held(self, connection: Connection, place: sa.Row[Any]) -> None:
        if place.state != "leased":
            raise WorkspaceError(
                f"{place.annotator} has already {_SAID[place.state]} {place.task_id}",
                hint="Undo it first to answer again.",
            )
        if place.expires <= self.clock():
            # A late answer still counts as long as nobody has been given the place.
            others = _taken(self.clock(), besides=place.annotator, task_id=place.task_id)
            if connection.execute(sa.select(others)).scalar_one() >= place.overlap:
                raise WorkspaceError(
                    f"the time for {place.task_id} ran out and others have been asked instead"
                )

    def _end(self, connection: Connection, place: sa.Row[Any], **values: Any) -> None:
        this = _places.c.number == place.number
        connection.execute(sa.update(_places).where(this).values(ended=self.clock(), **values))
        used = sa.select(sa.func.count()).where(
            _places.c.task_id == place.task_id, _places.c.state != "leased"
        )
        if connection.execute(used).scalar_one() >= place.overlap:
            closed = sa.update(_tasks).where(_tasks.c.id == place.task_id).values(closed=True)
            connection.execute(closed)


_SAID = {"done": "answered", "skipped": "skipped"}


def shown_order(task_id: str, annotator: str, num_samples: int) -> tuple[int, ...]:
    """A random order of the samples that is always the same for an item and a person."""
    digest = blake2b(f"{task_id}\n{annotator}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
    return tuple(int(i) for i in generator.permutation(num_samples))


def _check_item(item: Task) -> None:
    check_name(item.axis, "the axis")
    if item.kind not in KINDS:
        raise WorkspaceError(
            f"no kind of feedback {item.kind!r}", hint=f"Kinds: {', '.join(sorted(KINDS))}"
        )
    if len(set(item.sample_ids)) != len(item.sample_ids):
        raise WorkspaceError(f"a {item.kind} names the same sample twice: {item.sample_ids[0]}")


def _taken(now: float, *, besides: str, task_id: Any) -> sa.ScalarSelect[int]:
    """Number of places of a task that others have used or hold now."""
    live = sa.or_(_places.c.state != "leased", _places.c.expires > now)
    query = sa.select(sa.func.count()).select_from(_places)
    query = query.where(_places.c.task_id == task_id, _places.c.annotator != besides, live)
    return query.correlate(_tasks).scalar_subquery()


def _pick(annotator: str, now: float, conditions: Sequence[Any]) -> sa.Select[Any]:
    """The task to hand to a person: one that it holds, else the oldest with a free place."""
    held = sa.case((_held(now), 0), else_=1)
    return _open_to(annotator, now, conditions).order_by(held, _tasks.c.number).limit(1)


def _open_to(annotator: str, now: float, conditions: Sequence[Any]) -> sa.Select[Any]:
    """The tasks that a person holds or may be handed."""
    mine = sa.and_(_mine.c.task_id == _tasks.c.id, _mine.c.annotator == annotator)
    free = sa.and_(
        sa.or_(_mine.c.state.is_(None), _mine.c.state == "leased"),
        _taken(now, besides=annotator, task_id=_tasks.c.id) < _tasks.c.overlap,
    )
    query = sa.select(_tasks.c.id).select_from(_tasks.outerjoin(_mine, mine))
    return query.where(_tasks.c.closed.is_(False), *conditions, sa.or_(_held(now), free))


def _held(now: float) -> sa.ColumnElement[bool]:
    return sa.and_(_mine.c.state == "leased", _mine.c.expires > now)


def _joined() -> sa.Select[Any]:
    task_columns = [c for c in _tasks.c if c.name in _TASK_COLUMNS]
    return sa.select(_places, *task_columns).join(_tasks, _tasks.c.id == _places.c.task_id)


_TASK_COLUMNS = ("run", "round", "kind", "axis", "sample_ids", "overlap")


def _place(connection: Connection, task_id: str, annotator: str) -> sa.Row[Any]:
    query = _joined().where(_places.c.task_id == task_id, _places.c.annotator == annotator)
    place = connection.execute(query).first()
    if place is None:
        raise WorkspaceError(f"task {task_id!r} was not handed to {annotator!r}")
    return place


def _task(place: sa.Row[Any]) -> Task:
    return Task(
        kind=place.kind,
        sample_ids=place.sample_ids,
        axis=place.axis,
        id=place.task_id,
        run=place.run,
        round=place.round,
        annotator=place.annotator,
        shown=place.shown,
        expires=place.expires,
    )


def _fitted(task: Task, entry: FeedbackBase, attempt: int) -> FeedbackBase:
    """The entry with the order shown and its key; a `WorkspaceError` if it answers another task."""
    asked, said = set(task.sample_ids), set(entry.sample_ids)
    kind = entry.model_dump()["kind"]
    # A correction brings a sample of its own; a demonstration need not stand above any.
    about_it = kind == "demonstration" or (asked <= said if kind == "correction" else asked == said)
    faults = {
        f"a {kind}, not a {task.kind}": kind != task.kind,
        f"by {entry.annotator}, not {task.annotator}": entry.annotator != task.annotator,
        f"on the axis {entry.axis!r}, not {task.axis!r}": entry.axis != task.axis,
        "about other samples": not about_it,
    }
    for fault, found in faults.items():
        if found:
            raise WorkspaceError(f"the answer to {task.id} is {fault}")
    update: dict[str, Any] = {"key": f"{task.id}/{attempt}"}
    if asked == said and len(asked) > 1:
        update["shown"] = tuple(entry.sample_ids.index(name) for name in task.shown_ids)
    return entry.model_copy(update=update)

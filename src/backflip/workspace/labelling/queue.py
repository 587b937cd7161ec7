"""Tasks for people: who is asked what, in which order it is shown, and what came of it.

An item has `overlap` places. A person takes a place for a while (a lease), then answers or skips;
an answer or a skip uses the place up for good, a lease that ran out gives it back. Nobody is asked
twice about the same item. The order in which samples are shown is drawn here, so that no form can
forget to shuffle: it depends on the item and the person only, and a page that is opened again
shows what it showed before.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np
import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from backflip.errors import ConflictError, NotFoundError, WorkspaceError
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, damage, insert_of
from backflip.workspace.labelling.answer_validation import fit_entry, fit_extra
from backflip.workspace.labelling.assignment import (
    TASK_COLUMNS,
    Candidate,
    TaskQuery,
    num_open,
    pick,
    taken,
)
from backflip.workspace.labelling.batches import Purpose, batch_of_round, count, put_batch
from backflip.workspace.labelling.tasks import Progress, Standing, Task, as_draft
from backflip.workspace.material.annotators import insert_annotators
from backflip.workspace.material.entries import append, retract
from backflip.workspace.material.samples import insert_samples
from backflip.workspace.projects.projects import MAIN
from backflip.workspace.projects.webhooks import note_event

LEASE_SECONDS = 1800.0
_tasks, _places, _batches = schema.tasks, schema.assignments, schema.batches
_shares, _extras = schema.contributions, schema.answer_extras


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
        self._known: set[str] = set()  # annotators, none of which is ever removed

    def put(
        self,
        run: str,
        round: int,  # noqa: A002
        items: Iterable[Task],
        overlap: int = 1,
        *,
        project: str = MAIN,
        name: str = "",
        purpose: Purpose = "labels",
    ) -> int:
        """Ask `overlap` people about each item; what was asked in this round is not asked again.

        Args:
            run: where the answers belong.
            round: likewise; the two together are one batch.
            items: the questions.
            overlap: people asked about each; a check goes to everybody, whatever this says.
            project: that the batch belongs to, when it is new.
            name: of the batch, likewise; its run and round when empty.
            purpose: of the batch, likewise; see `Batch`.

        Returns:
            Number of new items.

        Raises:
            WorkspaceError: an unknown kind or project, or a sample that is not in the workspace.
        """
        if overlap < 1:
            raise WorkspaceError(f"overlap is {overlap}; it must be at least 1")
        check_name(run, "the run's id")
        batch = {"project": project, "run": run, "round": round, "name": name, "purpose": purpose}
        with self._database.write("projects", "queue") as connection:
            return put_batch(connection, batch, list(items), overlap)

    def next(
        self,
        annotator: str,
        *,
        run: str | None = None,
        project: str | None = None,
        kinds: Collection[str] | None = None,
        besides: Collection[str] = (),
    ) -> Task | None:
        """The next task for a person; None when there is nothing to ask this person now.

        A task that the person holds already comes first, with its lease renewed.

        Args:
            annotator: who asks.
            run: only tasks of this run.
            project: only tasks of this project.
            kinds: only tasks of these kinds.
            besides: ids of tasks that are on the person's screen already: another one is meant.
        """
        with self._database.write("queue", "annotators", walks=True) as connection:
            if annotator not in self._known:
                insert_annotators(connection, {annotator: "people"})
            wish = TaskQuery(annotator, self.clock(), run, project, kinds, besides)
            picked = pick(connection, wish)
            task = None if picked is None else self._lease(connection, picked, annotator)
        self._known.add(annotator)
        return task

    def held(self, task_id: str, annotator: str) -> Task:
        """A task as it was handed to a person; a `WorkspaceError` when it was not."""
        with self._database.read() as connection:
            return _task_at(_place(connection, task_id, annotator))

    def answer(
        self,
        task_id: str,
        annotator: str,
        entry: FeedbackBase,
        extras: Sequence[FeedbackBase] = (),
        written: Sequence[Sample] = (),
    ) -> str:
        """Write a person's answer into the journal and end the task, both or neither.

        `shown`, `key` and `guideline` of the entry are set here: the order that the task was shown
        in, a key that makes the same answer sent twice count once and an answer after `undo` a new
        one, and the version of the instructions that the person had.

        Args:
            task_id: the task.
            annotator: who answers.
            entry: the answer.
            extras: what the person said beside it, such as a critique of one of the samples.
            written: samples of the person's own; no words are kept of an answer that is not.

        Returns:
            Id of the entry in the journal.

        Raises:
            WorkspaceError: the task was not handed to this person, was answered already or has
                gone to others in the meantime; or the entry does not answer the task.
        """
        locks = ("prompts", "samples") if written else ()
        locks = (*locks, "queue", "annotators", "journal")
        with self._database.write(*locks, walks=True) as connection:
            place = _place(connection, task_id, annotator)
            task = _task_at(place)
            entry = fit_entry(task, entry, place.attempt)
            if place.state == "done" and place.entry_id == entry.id:
                return entry.id
            self._require_held(connection, place)
            insert_samples(connection, written)
            beside = [fit_extra(task, each, entry.key, i) for i, each in enumerate(extras)]
            # The samples of the task are there, and so is the person who holds it.
            known = {*task.sample_ids}.issuperset(i for e in (entry, *beside) for i in e.sample_ids)
            append(connection, [entry, *beside], round=task.round, run=task.run, known=known)
            for each in beside:
                row = {"entry_id": each.id, "assignment": place.number}
                connection.execute(sa.insert(_extras), row)
            if place.told:
                told = {"entry": entry.id, "kind": task.kind, "run": task.run, "round": task.round}
                note_event(connection, task.project, "answer", told)
            self._end(connection, place, "done", entry_id=entry.id)
            return entry.id

    def skip(self, task_id: str, annotator: str, reason: str = "") -> None:
        """End a person's task without an answer; the place is used up.

        Raises:
            WorkspaceError: as `answer`.
        """
        with self._database.write("queue", walks=True) as connection:
            place = _place(connection, task_id, annotator)
            if place.state != "skipped":
                self._require_held(connection, place)
                self._end(connection, place, "skipped", reason=reason)

    def save_draft(self, task_id: str, annotator: str, draft: dict[str, Any] | None) -> None:
        """Keep what a person has entered so far; it comes back with the task.

        The lease is renewed with it: somebody who writes is at work.

        Raises:
            WorkspaceError: as `answer`.
        """
        with self._database.write("queue", walks=True) as connection:
            place = _place(connection, task_id, annotator)
            self._require_held(connection, place)
            values = {"draft": draft, "expires": self.clock() + self.lease_seconds}
            this = _places.c.number == place.number
            connection.execute(sa.update(_places).where(this).values(values))

    def undo(self, annotator: str, *, project: str | None = None) -> Task | None:
        """Take a person's last answer or skip back and hand the task out again.

        What it said is retracted in the journal. None when there is nothing to take back.
        """
        query = _joined().where(_places.c.annotator == annotator)
        if project is not None:
            query = query.where(_batches.c.project == project)
        query = query.where(_places.c.state.in_(["done", "skipped"]))
        query = query.order_by(_places.c.ended.desc(), _places.c.number.desc()).limit(1)
        with self._database.write("queue", "annotators", "journal", walks=True) as connection:
            place = connection.execute(query).first()
            if place is None:
                return None
            if place.entry_id is not None:
                beside = sa.select(_extras.c.entry_id).where(_extras.c.assignment == place.number)
                said = [place.entry_id, *connection.execute(beside).scalars()]
                retract(connection, said, "undone", annotator)
            count(connection, place.batch, annotator, place.state, -1, place.ended)
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
            asked = {name: getattr(place, name) for name in ("task_id", *TASK_COLUMNS, "project")}
            return self._lease(connection, {**asked, "newest": place.guideline}, annotator)

    def progress(self, run: str, round: int) -> Progress:  # noqa: A002
        """How many of a round's questions are asked, answered and skipped."""
        shares = sa.select(_shares.c.annotator, _shares.c.done).order_by(_shares.c.annotator)
        held = sa.select(sa.func.count()).select_from(_places)
        held = held.join(_tasks, _tasks.c.id == _places.c.task_id)
        held = held.where(_places.c.state == "leased", _places.c.expires > self.clock())
        with self._database.read() as connection:
            batch = batch_of_round(connection, run, round)
            if batch is None:
                counts = dict.fromkeys(("items", "wanted", "done", "skipped", "leased"), 0)
                return Progress(**counts, by_annotator={})
            mine = _shares.c.batch == batch.number, _shares.c.done > 0
            leased = connection.execute(held.where(_tasks.c.batch == batch.number)).scalar_one()
            by_annotator = {row[0]: row[1] for row in connection.execute(shares.where(*mine))}
        return Progress(
            items=batch.items,
            wanted=batch.wanted,
            done=batch.done,
            skipped=batch.skipped,
            leased=leased,
            by_annotator=by_annotator,
        )

    def standing(self, annotator: str, *, run: str | None = None) -> Standing:
        """What a person has answered so far and may still be asked, in a run or in all."""
        given = sa.select(sa.func.coalesce(sa.func.sum(_shares.c.done), 0))
        given = given.where(_shares.c.annotator == annotator)
        if run is not None:
            given = given.join(_batches, _batches.c.number == _shares.c.batch)
            given = given.where(_batches.c.run == run)
        with self._database.read() as connection:
            return Standing(
                given=connection.execute(given).scalar_one(),
                open=num_open(connection, TaskQuery(annotator, self.clock(), run)),
            )

    def _lease(self, connection: Connection, picked: Candidate, annotator: str) -> Task:
        """Take or renew a place; the caller has made sure that there is one."""
        task_id = picked["task_id"]
        row = {
            "task_id": task_id,
            "annotator": annotator,
            "state": "leased",
            "attempt": 0,
            "shown": shown_order(task_id, annotator, len(picked["sample_ids"])),
            "expires": self.clock() + self.lease_seconds,
            "began": self.clock(),
            "guideline": picked["newest"],
        }
        place = connection.execute(_take(connection.dialect.name), row).mappings().one()
        return _task({**picked, **place})

    def _require_held(self, connection: Connection, place: sa.Row[Any]) -> None:
        if place.state != "leased":
            raise ConflictError(
                f"{place.annotator} has already {_SAID[place.state]} {place.task_id}",
                hint="Undo it first to answer again.",
            )
        if place.expires <= self.clock():
            # A late answer still counts as long as nobody has been given the place.
            others = taken(self.clock(), besides=place.annotator, task_id=place.task_id)
            if connection.execute(sa.select(others)).scalar_one() >= place.overlap:
                raise ConflictError(
                    f"the time for {place.task_id} ran out and others have been asked instead"
                )

    def _end(
        self,
        connection: Connection,
        place: sa.Row[Any],
        state: str,
        *,
        entry_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        now = self.clock()
        ended = {"place": place.number, "to": state, "at": now, "entry": entry_id, "why": reason}
        connection.execute(_ENDED, ended)
        count(connection, place.batch, place.annotator, state, 1, now)
        if connection.execute(_CLOSED, {"task": place.task_id}).rowcount:
            batch = batch_of_round(connection, place.run, place.round)
            if batch is not None and batch.done + batch.skipped == batch.wanted:
                told = {"batch": batch.id, "answers": batch.done, "skipped": batch.skipped}
                note_event(connection, place.project, "batch.done", told)


_SAID = {"done": "answered", "skipped": "skipped"}


def shown_order(task_id: str, annotator: str, num_samples: int) -> tuple[int, ...]:
    """A random order of the samples that is always the same for an item and a person."""
    digest = blake2b(f"{task_id}\n{annotator}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
    return tuple(int(i) for i in generator.permutation(num_samples))


def _joined() -> sa.Select[Any]:
    """Places with their questions, and whether any webhook of the project is to be told."""
    hooks = schema.webhooks.c
    told = sa.exists().where(hooks.project == _batches.c.project, hooks.active)
    task_columns = [_tasks.c[name] for name in TASK_COLUMNS]
    return (
        sa.select(_places, *task_columns, _batches.c.project, told.label("told"))
        .join(_tasks, _tasks.c.id == _places.c.task_id)
        .join(_batches, _batches.c.number == _tasks.c.batch)
    )


# What everybody who answers waits for is built once and filled in.
_PLACE = _joined().where(
    _places.c.task_id == sa.bindparam("task"), _places.c.annotator == sa.bindparam("who")
)
_ENDED = (
    sa.update(_places)
    .where(_places.c.number == sa.bindparam("place"))
    .values(
        state=sa.bindparam("to"),
        ended=sa.bindparam("at"),
        entry_id=sa.bindparam("entry"),
        reason=sa.bindparam("why", type_=columns.Json),
        draft=None,
    )
)
_USED = sa.select(sa.func.count()).where(
    _places.c.task_id == sa.bindparam("task"), _places.c.state != "leased"
)
_CLOSED = (
    sa.update(_tasks)
    .where(_tasks.c.id == sa.bindparam("task"), _USED.scalar_subquery() >= _tasks.c.overlap)
    .values(closed=True)
)


@cache
def _take(dialect: str) -> Any:
    """Takes a place, or renews one that is the person's already, and tells how it is then."""
    statement = insert_of(dialect, _places)
    statement = statement.on_conflict_do_update(
        index_elements=["task_id", "annotator"], set_={"expires": statement.excluded.expires}
    )
    return statement.returning(_places)


def _place(connection: Connection, task_id: str, annotator: str) -> sa.Row[Any]:
    place = connection.execute(_PLACE, {"task": task_id, "who": annotator}).first()
    if place is None:
        raise NotFoundError(f"task {task_id!r} was not handed to {annotator!r}")
    return place


def _task(values: Mapping[str, Any]) -> Task:
    """The task of a place and its question, as their columns say."""
    fields = {name: values[name] for name in _FIELDS}
    draft = as_draft(fields.pop("draft"))
    lost = values["draft"] is not None and draft is None
    try:
        return Task(id=values["task_id"], draft=draft, draft_lost=lost, **fields)
    except ValidationError as error:
        raise damage(f"the question {values['task_id']}") from error


def _task_at(place: sa.Row[Any]) -> Task:
    return _task({name: getattr(place, name) for name in ("task_id", *_FIELDS)})


_FIELDS = tuple(name for name in Task.model_fields if name not in ("id", "draft_lost"))

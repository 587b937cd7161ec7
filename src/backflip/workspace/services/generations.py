"""Replies that people wait for: asked for by a page, drawn by a worker of its own.

The two share nothing but these rows: a page adds one and reads its text as it grows, a worker (see
`backflip.serving.worker`) takes it and writes. A worker says every few seconds that it is alive.
What a worker held that is not any more is taken again: the same model, prompt, settings, seed and
index give the same text.

    waiting -> running -> done, failed or cancelled
"""

import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from backflip.config import SamplingSettings
from backflip.errors import NotFoundError, WorkspaceError
from backflip.records import Dialogue, Prompt, Record, Sample
from backflip.records.feedback import DAMAGED
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, chunks, insert
from backflip.workspace.material.prompts import DAMAGED_PROMPT
from backflip.workspace.material.samples import insert_samples
from backflip.workspace.projects.projects import get_project, require_role

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ALIVE_SECONDS = 15.0
MOST_LOST = 3
"""A reply whose worker died so often is not tried again: it may be what kills them."""
TYPED_SOURCES = ("chat", "playground")
"""Sources of prompts that somebody typed, of whom they are then."""
_SEEDS = 2**63
_DAY = 86400.0
_table, _workers = schema.generations, schema.workers


class Generation(Record):
    """A reply that somebody waits for.

    Attributes:
        id: names it; the same thing asked for twice is two of them.
        user, project: who asked, and where; None for no project.
        purpose: of which page it is.
        model: id of the model that replies.
        prompt: what it replies to.
        settings: a `SamplingSettings`, without its batch size.
        seed, index: as in a sample.
        state: "waiting", "running", "done", "failed" or "cancelled".
        text: as far as it is; it never gets shorter while it runs.
        sample_id: of the finished sample.
        truncated: whether the model was cut off; None until it is done.
        error: why it failed.
        worker: who draws it now.
        created: when it was asked for.
    """

    id: str
    user: str
    project: str | None
    purpose: str
    model: str
    prompt: Prompt
    settings: dict[str, Any]
    seed: int
    index: int
    state: State
    text: str
    sample_id: str | None
    truncated: bool | None
    error: str | None
    worker: str | None
    created: datetime

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in ("waiting", "running")


class Generations:
    """Hands what pages ask for to workers, and what those write back.

    Args:
        database: of the workspace.
        alive_seconds: a worker that was not heard of for so long is taken for dead; the clocks of
            machines that share a database must agree much better than that.
    """

    def __init__(self, database: Database, alive_seconds: float = ALIVE_SECONDS):
        self._database = database
        self.alive_seconds = alive_seconds
        self.clock = time.time

    def ask(
        self,
        user: str,
        purpose: str,
        model: str,
        prompt: Prompt,
        settings: Mapping[str, Any],
        *,
        seed: int,
        index: int = 0,
        project: str | None = None,
    ) -> str:
        """Ask for a reply.

        Args:
            user: id of who asks.
            purpose: of which page it is.
            model: id of the model that shall reply.
            prompt: a dialogue.
            settings: of `SamplingSettings`; what is not given has its default.
            seed: from 0 to 2^63 - 1; the same one gives the same reply.
            index: tells several replies under one seed apart.
            project: where it is asked.

        Returns:
            The new generation's id.

        Raises:
            WorkspaceError: no such user, model or project, or a user who does not belong to the
                project; a prompt that is no dialogue; a seed or index out of range.
            SettingsError: settings that cannot be used.
        """
        check_name(purpose, "the purpose")
        resolved = SamplingSettings.parse(settings, where="settings")
        if not isinstance(prompt.content, Dialogue):
            raise WorkspaceError(f"{prompt.id} is a situation: only dialogues are replied to")
        if prompt.images:
            raise WorkspaceError("the dialogue holds an image, and models are given words alone")
        if not 0 <= seed < _SEEDS or not 0 <= index < 2**31:
            raise WorkspaceError(f"seed {seed}, index {index}: one of them is out of range")
        row = {
            "id": f"generation-{secrets.token_hex(10)}",
            "user": user,
            "project": project,
            "purpose": purpose,
            "model": model,
            "prompt_id": prompt.id,
            "prompt": prompt.model_dump(mode="json"),
            "settings": resolved.model_dump(mode="json", exclude={"batch_size"}),
            "seed": seed,
            "index": index,
            "state": "waiting",
            "text": "",
            "lost": 0,
            "created": columns.now(),
        }
        with self._database.write("projects", "people", "generations") as connection:
            _require(connection, schema.users, user, "user")
            _require(connection, schema.models, model, "model")
            if project is not None:
                get_project(connection, project)
                require_role(connection, project, user, "annotator")
            connection.execute(sa.insert(_table), row)
        return row["id"]

    def get(self, id: str) -> Generation:  # noqa: A002
        """A generation by id; a `NotFoundError` when there is none."""
        found = self.get_many([id])
        if not found:
            raise NotFoundError(f"no generation {id!r}")
        return found[id]

    def get_many(self, ids: Iterable[str]) -> dict[str, Generation]:
        """Generations by id, in the order asked for; unknown ids are left out."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Generation] = {}
        with self._database.read() as connection:
            for chunk in chunks(wanted):
                found |= {g.id: g for g in _select(connection, _table.c.id.in_(chunk))}
        return {name: found[name] for name in wanted if name in found}

    def cancel(self, id: str) -> bool:  # noqa: A002
        """End a generation that is not wanted any more; whatever its worker says later is ignored.

        Returns:
            Whether this ended it; False when it had ended before.
        """
        this = sa.and_(_table.c.id == id, _table.c.state.in_(["waiting", "running"]))
        with self._database.write("generations") as connection:
            return _end(connection, this, "cancelled")

    def take(
        self, worker: str, limit: int, *, beside: Generation | None = None
    ) -> list[Generation]:
        """Claim the oldest generation that waits, and others that can be drawn with it.

        Those have the same model and settings. What workers held that are dead now, or this one
        before, waits again; only what was lost with its worker `MOST_LOST` times has failed.

        Args:
            worker: who takes them.
            limit: as many at most.
            beside: what the worker is at already: only what can be drawn with it is claimed, and
                only what nothing else waits longer than.

        Returns:
            Oldest first; empty when nothing waits.
        """
        lost = self._lost() if beside else sa.or_(self._lost(), _held_by(worker))
        open_ = sa.or_(_table.c.state == "waiting", lost)
        with self._database.read() as connection:  # a look that holds up nobody
            if connection.execute(sa.select(_table.c.id).where(open_).limit(1)).first() is None:
                return []
        with self._database.write("generations") as connection:
            self._note(connection, worker)
            self._put_back(connection)
            if beside is None:
                _release(connection, worker)
            return _claim(connection, worker, limit, beside)

    def write(self, worker: str, texts: Mapping[str, str]) -> set[str]:
        """Show how far replies are; a text that is no longer than the known one changes nothing.

        Args:
            worker: who draws them.
            texts: the text so far of each, by id.

        Returns:
            Ids of those to go on with. The others were cancelled, or are another worker's now.
        """
        with self._database.write("generations") as connection:
            this = sa.and_(_table.c.id.in_(list(texts)), _held_by(worker))
            rows = connection.execute(sa.select(_table.c.id, _table.c.text).where(this)).all()
            grown = [
                {"of": row.id, "now": texts[row.id]}
                for row in rows
                if len(texts[row.id]) > len(row.text)
            ]
            if grown:
                show = sa.update(_table).where(_table.c.id == sa.bindparam("of"))
                connection.execute(show.values(text=sa.bindparam("now")), grown)
            return {row.id for row in rows}

    def finish(self, worker: str, made: Mapping[str, Sample]) -> set[str]:
        """Keep the samples that replies have become; their texts are the samples' from now on.

        Args:
            worker: who drew them.
            made: the sample of each reply, by the generation's id.

        Returns:
            Ids of those that were still wanted of this worker; of the others nothing is kept.
        """
        with self._database.write("prompts", "samples", "generations") as connection:
            this = sa.and_(_table.c.id.in_(list(made)), _held_by(worker))
            wanted = set(connection.execute(sa.select(_table.c.id).where(this)).scalars())
            kept = {name: sample for name, sample in made.items() if name in wanted}
            insert_samples(connection, kept.values())
            for name, sample in kept.items():
                ended = {"text": sample.text, "truncated": sample.completion.finish == "length"}
                _end(connection, _table.c.id == name, "done", sample_id=sample.id, **ended)
            return wanted

    def fail(self, worker: str, id: str, error: str) -> bool:  # noqa: A002
        """Say why there will be no reply; returns whether one was still wanted of this worker."""
        with self._database.write("generations") as connection:
            this = sa.and_(_table.c.id == id, _held_by(worker))
            return _end(connection, this, "failed", error=error)

    def note_worker(self, worker: str) -> None:
        """Say that a worker is alive."""
        check_name(worker, "the worker's name")
        with self._database.write("generations") as connection:
            self._note(connection, worker)

    def end_worker(self, worker: str) -> None:
        """Say that a worker ends; what it held waits for another one."""
        with self._database.write("generations") as connection:
            _release(connection, worker)
            connection.execute(sa.delete(_workers).where(_workers.c.name == worker))

    def worker_alive(self, seconds: float | None = None) -> bool:
        """Whether any worker was heard of in the last so many seconds; None: `alive_seconds`."""
        since = self.clock() - (self.alive_seconds if seconds is None else seconds)
        query = sa.select(_workers.c.name).where(_workers.c.beat > since).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def _note(self, connection: Connection, worker: str) -> None:
        now = self.clock()
        # Whatever one that died so long ago held is as lost without its row.
        connection.execute(sa.delete(_workers).where(_workers.c.beat < now - _DAY))
        entry = insert(connection, _workers).values(name=worker, beat=now)
        connection.execute(entry.on_conflict_do_update(index_elements=["name"], set_={"beat": now}))

    def _lost(self) -> sa.ColumnElement[bool]:
        """What a worker that is dead now held."""
        alive = sa.select(_workers.c.name).where(
            _workers.c.name == _table.c.worker,
            _workers.c.beat > self.clock() - self.alive_seconds,
        )
        return sa.and_(_table.c.state == "running", ~alive.exists())

    def _put_back(self, connection: Connection) -> None:
        """Let what was lost with its worker wait again; it fails the last time."""
        lost = self._lost()
        told = f"{MOST_LOST} workers ended while they drew this reply"
        _end(connection, sa.and_(lost, _table.c.lost >= MOST_LOST - 1), "failed", error=told)
        again = {"state": "waiting", "worker": None, "lost": _table.c.lost + 1}
        connection.execute(sa.update(_table).where(lost).values(again))


def _held_by(worker: str) -> sa.ColumnElement[bool]:
    return sa.and_(_table.c.state == "running", _table.c.worker == worker)


def _release(connection: Connection, worker: str) -> None:
    again = sa.update(_table).where(_held_by(worker))
    connection.execute(again.values(state="waiting", worker=None))


def _end(
    connection: Connection, which: sa.ColumnElement[bool], state: State, **values: Any
) -> bool:
    ended = sa.update(_table).where(which).values(state=state, worker=None, **values)
    return bool(connection.execute(ended).rowcount)


def _claim(
    connection: Connection, worker: str, limit: int, beside: Generation | None
) -> list[Generation]:
    """Give the worker the oldest that wait and go together; see `Generations.take`."""
    waits = _table.c.state == "waiting"
    oldest = sa.select(_table.c.model, _table.c.settings).where(waits).order_by(_table.c.number)
    first = beside or connection.execute(oldest.limit(1)).first()
    if first is None:
        return []
    fits = sa.and_(_table.c.model == first.model, _table.c.settings == first.settings)
    query = sa.select(_table.c.number).where(waits, fits).order_by(_table.c.number).limit(limit)
    if beside is not None:
        others = sa.select(sa.func.min(_table.c.number)).where(waits, ~fits)
        before = connection.execute(others).scalar()
        if before is not None:
            query = query.where(_table.c.number < before)
    numbers: Collection[int] = connection.execute(query).scalars().all()
    mine = _table.c.number.in_(numbers)
    taken = sa.update(_table).where(mine).values(state="running", worker=worker)
    connection.execute(taken)
    found = _select(connection, mine)
    for each in found:
        if each.ended:  # it cannot be read
            _end(connection, _table.c.id == each.id, "failed", error=DAMAGED)
    return [each for each in found if not each.ended]


def _require(connection: Connection, table: sa.Table, id: str, what: str) -> None:  # noqa: A002
    if connection.execute(sa.select(table.c.id).where(table.c.id == id)).scalar() is None:
        raise NotFoundError(f"no {what} {id!r}")


def _select(connection: Connection, condition: sa.ColumnElement[bool]) -> list[Generation]:
    query = sa.select(_table).where(condition).order_by(_table.c.number)
    return [_generation(row) for row in connection.execute(query).mappings()]


def _generation(row: sa.RowMapping) -> Generation:
    """A reply as it is kept; what of it cannot be read says so."""
    values = {name: row[name] for name in Generation.model_fields}
    values["text"] = columns.as_text(values["text"])
    values["error"] = values["error"] and columns.as_text(values["error"])
    try:
        return Generation(**values)
    except ValidationError:
        lost = {"prompt": DAMAGED_PROMPT, "settings": {}, "state": "failed", "error": DAMAGED}
        return Generation(**(values | lost))

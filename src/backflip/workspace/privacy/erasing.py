"""Erasing what a person wrote, everywhere or in one project, for somebody who asks for it.

All that the person said there is taken back, and a sign stands where their words were: in their
entries, in the reasons of what they took back or skipped, in the replies that they wrote and in
what they said to models in chats and the playground. Rows and ids stay, so that lineage and
snapshots still tell what an entry has shaped. Instructions and questions stay as they are: they
belong to the project.

A reply is one sample whoever writes it, and others may have been asked about it. It keeps its words
if another entry that is not erased, or a question that is still open, names it. A prompt keeps them
if that is so of a reply to it, or if it was said by somebody else or elsewhere too.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.records.feedback import ERASED, parse_feedback
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import chunks
from backflip.workspace.material.entries import IS_ERASED as ENTRY_IS_ERASED
from backflip.workspace.material.entries import RETRACTION, retract_all_of, runs_of
from backflip.workspace.material.prompts import IS_ERASED, without_words
from backflip.workspace.material.samples import ERASED_HEADER
from backflip.workspace.services.generations import TYPED_SOURCES
from backflip.workspace.workspace import Workspace

_journal, _samples, _erasures = schema.journal, schema.samples, schema.erasures
_places, _extras = schema.assignments, schema.answer_extras
FORGOTTEN = "forgotten"
LOCKS = ("prompts", "samples", "queue", "annotators", "journal", "people", "generations")


@dataclass(frozen=True)
class Erased:
    """What was erased.

    Attributes:
        retracted: ids of the entries that counted until now.
        texts: number of replies and prompts whose words are gone.
        texts_kept: number of those whose words stay, because others speak of them.
    """

    retracted: list[str]
    texts: int
    texts_kept: int


def erase(
    workspace: Workspace,
    annotator: str,
    *,
    by: str,
    reason: str = FORGOTTEN,
    project: str | None = None,
) -> Erased:
    """Take back all that somebody said, and take the words out of it; all of it or nothing.

    Images that only those words showed are deleted next; those of an erasure that was killed before
    that go with the next one. Done again, it erases what came since. What the person has going on
    is ended.

    Args:
        workspace: that holds it.
        annotator: whose words.
        by: who does it: the annotator of the retractions.
        reason: of the retractions.
        project: only what was said in this one; None for all.

    Raises:
        WorkspaceError: no such annotator.
    """
    with workspace.database.write(*LOCKS) as connection:
        erased = erase_within(connection, annotator, reason, by, project)
    workspace.media.sweep()
    return erased


def erase_within(
    connection: Connection, annotator: str, reason: str, by: str, project: str | None = None
) -> Erased:
    """`erase` within a transaction that holds `LOCKS`; images that only the words showed are still
    to be swept, once it is written.
    """
    retracted = retract_all_of(connection, annotator, reason, by, project)
    _permit(connection, annotator, project)
    written = _erase_entries(connection, annotator, project)
    typed, alike = _typed(connection, annotator, project)
    texts, kept = _erase_texts(connection, written, typed)
    release(connection, annotator, project)
    asked = sa.delete(schema.generations)
    connection.execute(asked.where(_is_by(schema.generations, annotator, project)))
    mine = _places.c.annotator == annotator, _places.c.reason != ""
    told = sa.update(_places).where(*mine, *_asked_in(project))
    connection.execute(told.values(reason=ERASED))
    return Erased(retracted, texts, kept + alike)


def release(connection: Connection, annotator: str, project: str | None = None) -> None:
    """End what somebody has going on, within a transaction.

    Questions that the person holds go to others, drafts and chats are gone, and no worker draws a
    reply for the person any more. An answer that is on its way finds its place gone.
    """
    chats, asked = schema.chats, schema.generations
    connection.execute(sa.delete(chats).where(_is_by(chats, annotator, project)))
    awaited = _is_by(asked, annotator, project), asked.c.state.in_(["waiting", "running"])
    connection.execute(sa.update(asked).where(*awaited).values(state="cancelled", worker=None))
    mine = _places.c.annotator == annotator, _places.c.state == "leased"
    held = sa.select(_places.c.number).where(*mine, *_asked_in(project))
    # Those of an answer that was undone; they are taken back as the answer is.
    connection.execute(sa.delete(_extras).where(_extras.c.assignment.in_(held)))
    connection.execute(sa.delete(_places).where(*mine, *_asked_in(project)))


def _is_by(table: sa.Table, annotator: str, project: str | None) -> sa.ColumnElement[bool]:
    """Whether a row of chats or generations is by this person, in the project."""
    users = schema.users
    mine = sa.select(users.c.id).where(users.c.annotator == annotator).scalar_subquery()
    if project is None:
        return table.c.user == mine
    return sa.and_(table.c.user == mine, table.c.project.is_not_distinct_from(project))


def _permit(connection: Connection, annotator: str, project: str | None) -> None:
    """Let the bodies of what the person has said so far be changed, and of nothing that comes."""
    mine = _journal.c.annotator == annotator
    query = sa.select(_journal.c.run).where(mine, ~ENTRY_IS_ERASED).distinct()
    if project is not None:
        query = query.where(_journal.c.run.in_(runs_of(project)))
    runs = connection.execute(query).scalars().all()
    if not runs:
        return
    before = sa.delete(_erasures).where(_erasures.c.annotator == annotator)
    if project is None:
        runs = [None]
    else:
        before = before.where(_erasures.c.run.in_(runs))
    connection.execute(before)
    through = connection.execute(sa.select(sa.func.max(_journal.c.number))).scalar_one()
    row = {"annotator": annotator, "through": through, "created": columns.now()}
    connection.execute(sa.insert(_erasures), [{**row, "run": run} for run in runs])


def _asked_in(project: str | None) -> list[sa.ColumnElement[bool]]:
    """Whether an assignment is of a question of the project."""
    if project is None:
        return []
    table, batches = schema.tasks, schema.batches
    asked = sa.select(table.c.id).join(batches, batches.c.number == table.c.batch)
    return [_places.c.task_id.in_(asked.where(batches.c.project == project))]


def _erase_entries(connection: Connection, annotator: str, project: str | None) -> set[str]:
    """Take the words out of the journal; returns ids of the replies that the person wrote."""
    query = sa.select(_journal.c.number, _journal.c.kind, _journal.c.body)
    query = query.where(_journal.c.annotator == annotator)
    if project is not None:
        query = query.where(_journal.c.run.in_(runs_of(project)))
    rows = connection.execute(query).all()
    named: set[str] = set()
    for row in rows:
        if row.kind == RETRACTION:
            body = {"reason": row.body["reason"] and ERASED}
        else:
            entry = parse_feedback(row.body)
            if entry.written is not None:
                named.add(entry.written)
            bare = entry.without_words()
            # A row without words stays as it is spelt: a snapshot's hash is of that.
            body = row.body if bare == entry else bare.model_dump(mode="json")
        if body != row.body:
            this = sa.update(_journal).where(_journal.c.number == row.number)
            connection.execute(this.values(body=body))
    return {name for chunk in chunks(named) for name in _by_hand(connection, chunk)}


def _by_hand(connection: Connection, ids: list[str]) -> Iterator[str]:
    """Those of the samples that hold words of a person: one may demonstrate by a model's reply."""
    query = sa.select(_samples.c.id, _samples.c.header)
    query = query.where(_samples.c.id.in_(ids), _samples.c.model.is_(None))
    for name, header in connection.execute(query.where(_samples.c.header != ERASED_HEADER)):
        if header.get("finish") == "human":
            yield name


def _spoken_of(connection: Connection, ids: Collection[str]) -> set[str]:
    """Those of the samples that entries which are not erased, or open questions, name."""
    if not ids:
        return set()
    wanted = set(ids)
    entries = sa.select(_journal.c.body).where(_journal.c.kind != RETRACTION, ~ENTRY_IS_ERASED)
    questions = sa.select(schema.tasks.c.sample_ids).where(schema.tasks.c.closed.is_(False))
    found: set[str] = set()
    for query in (entries, questions):
        rows = connection.execute(query, execution_options={"yield_per": 1000})
        for value in rows.scalars():
            found |= wanted.intersection(_texts(value))
    return found


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value; much quicker than to make an entry of each row of a journal."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _typed(connection: Connection, annotator: str, project: str | None) -> tuple[set[str], int]:
    """Prompts that the person has said to models.

    Returns:
        Ids of those that were said by nobody else and nowhere else, and the number of the others.
    """
    asked, prompts = schema.generations, schema.prompts
    mine = _is_by(asked, annotator, project)
    query = sa.select(asked.c.prompt_id).join(prompts, prompts.c.id == asked.c.prompt_id)
    query = query.where(mine, prompts.c.source.in_(TYPED_SOURCES), ~IS_ERASED)
    found = set(connection.execute(query).scalars())
    alike: set[str] = set()
    for chunk in chunks(found):
        others = sa.select(asked.c.prompt_id).where(~mine, asked.c.prompt_id.in_(chunk))
        alike.update(connection.execute(others).scalars())
    return found - alike, len(alike)


def _replies_to(connection: Connection, prompts: Collection[str]) -> dict[str, str]:
    """The prompt of each sample of these prompts."""
    table = schema.samples
    found: dict[str, str] = {}
    for chunk in chunks(prompts):
        query = sa.select(table.c.id, table.c.prompt_id).where(table.c.prompt_id.in_(chunk))
        found |= {row.id: row.prompt_id for row in connection.execute(query)}
    return found


def _erase_texts(connection: Connection, written: set[str], typed: set[str]) -> tuple[int, int]:
    """Take the words out of replies and prompts, but for those that others speak of.

    Returns:
        How many are gone, and how many stay.
    """
    replies = _replies_to(connection, typed)
    spoken = _spoken_of(connection, written | replies.keys())
    asked = {replies[name] for name in spoken & replies.keys()}
    for chunk in chunks(written - spoken):
        gone = sa.update(_samples).where(_samples.c.id.in_(chunk))
        connection.execute(gone.values(header=ERASED_HEADER))
    prompts = schema.prompts
    for chunk in chunks(typed - asked):
        query = sa.select(prompts.c.id, prompts.c.content).where(prompts.c.id.in_(chunk))
        for name, content in connection.execute(query).all():
            this = sa.update(prompts).where(prompts.c.id == name)
            connection.execute(this.values(content=without_words(content)))
    kept = len(written & spoken) + len(asked)
    return len(written) + len(typed) - kept, kept

"""Erasing what a person wrote, for somebody who asks for it when they are forgotten.

All that the person said is taken back, and a sign stands where their words were: in their entries,
in the reasons of what they took back or skipped, in the replies that they wrote and in what they
said to models in chats and the playground. Rows and ids stay, so that lineage and snapshots still
tell what an entry has shaped. Instructions and questions stay as they are: they belong to the
project.

A reply is one sample whoever writes it, and others may have been asked about it. It keeps its words
as long as somebody else's entry, or a question that is still open, names it. A prompt keeps them as
long as that is so of a reply to it, or somebody else has said the same.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.feedback.kinds import ERASED, WRITTEN_KINDS, parse_feedback
from backflip.feedback.store import schema
from backflip.feedback.store.database import chunks, insert
from backflip.feedback.store.generations import TYPED_SOURCES
from backflip.feedback.store.journal import RETRACTION, retract_all_of
from backflip.feedback.store.prompts import IS_ERASED, without_words
from backflip.feedback.store.samples import ERASED_HEADER
from backflip.feedback.store.workspace import Workspace

_journal, _samples, _erasures = schema.journal, schema.samples, schema.erasures
_places, _extras = schema.assignments, schema.answer_extras


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


def erase(workspace: Workspace, annotator: str, *, by: str) -> Erased:
    """Take back all that somebody said, and take the words out of it; all of it or nothing.

    Done again, it erases what came since. Questions that the person holds go to others.

    Args:
        workspace: that holds it.
        annotator: whose words.
        by: who does it: the annotator of the retractions.

    Raises:
        WorkspaceError: no such annotator.
    """
    locks = ("prompts", "samples", "queue", "annotators", "journal", "people", "generations")
    with workspace.database.write(*locks) as connection:
        retracted = retract_all_of(connection, annotator, "forgotten", by)
        # From here on the database lets the bodies of these rows be changed.
        row = {"annotator": annotator, "created": schema.now()}
        connection.execute(insert(connection, _erasures).on_conflict_do_nothing(), row)
        written = _erase_entries(connection, annotator)
        typed = _typed(connection, annotator)
        texts, kept = _erase_texts(connection, written, typed)
        _erase_places(connection, annotator)
    return Erased(retracted, texts, kept)


def _erase_entries(connection: Connection, annotator: str) -> set[str]:
    """Take the words out of the journal; returns ids of the replies that the person wrote."""
    query = sa.select(_journal.c.number, _journal.c.kind, _journal.c.body)
    rows = connection.execute(query.where(_journal.c.annotator == annotator)).all()
    named: set[str] = set()
    for row in rows:
        if row.kind == RETRACTION:
            body = {"reason": row.body["reason"] and ERASED}
        else:
            entry = parse_feedback(row.body)
            if row.kind in WRITTEN_KINDS:
                named.add(entry.sample_ids[0])
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
    """Those of the samples that entries of others, or open questions, name."""
    if not ids:
        return set()
    wanted = set(ids)
    gone = sa.select(_erasures.c.annotator)
    others = _journal.c.kind != RETRACTION, _journal.c.annotator.not_in(gone)
    entries = sa.select(_journal.c.body).where(*others)
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


def _erase_places(connection: Connection, annotator: str) -> None:
    """Take the words out of what was skipped, and give back what is held, drafts and all.

    An answer or a draft that is on its way meanwhile finds its place gone.
    """
    mine = _places.c.annotator == annotator
    held = sa.select(_places.c.number).where(mine, _places.c.state == "leased")
    # Those of an answer that was undone; they are taken back as the answer is.
    connection.execute(sa.delete(_extras).where(_extras.c.assignment.in_(held)))
    connection.execute(sa.delete(_places).where(mine, _places.c.state == "leased"))
    told = sa.update(_places).where(mine, _places.c.reason != "")
    connection.execute(told.values(reason=ERASED))


def _typed(connection: Connection, annotator: str) -> set[str]:
    """Ids of prompts that the person, and nobody else, has said to models."""
    asked, users, prompts = schema.generations, schema.users, schema.prompts
    mine = sa.select(users.c.id).where(users.c.annotator == annotator).scalar_subquery()
    query = sa.select(asked.c.prompt_id).where(asked.c.user == mine)
    found: set[str] = set()
    for chunk in chunks(set(connection.execute(query).scalars())):
        others = sa.select(asked.c.prompt_id).where(
            asked.c.user != mine, asked.c.prompt_id.in_(chunk)
        )
        own = sa.select(prompts.c.id).where(
            prompts.c.id.in_(chunk),
            prompts.c.id.not_in(others),
            prompts.c.source.in_(TYPED_SOURCES),
            ~IS_ERASED,
        )
        found.update(connection.execute(own).scalars())
    # What is still being written is not kept: its prompt would come back with it.
    awaited = asked.c.user == mine, asked.c.state.in_(["waiting", "running"])
    connection.execute(sa.update(asked).where(*awaited).values(state="cancelled", worker=None))
    return found


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

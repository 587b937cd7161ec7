"""Replies of the workspace to put questions about: which prompts, and which replies to each."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.workspace.database import schema
from backflip.workspace.database.engine import Database, chunks
from backflip.workspace.material.prompts import IS_ERASED
from backflip.workspace.material.samples import ERASED_HEADER

Which = Literal["random", "newest"]
ATTENTION = "attention"
"""Source of the prompts, and axis of the questions, by which attention is checked. Whatever is
said there is never learned from: the prompts are held out, and no reward is on this axis."""
_samples, _prompts = schema.samples, schema.prompts
_THERE = _samples.c.header != ERASED_HEADER


@dataclass(frozen=True)
class Wanted:
    """Which replies.

    Attributes:
        models: ids of those that made them; none for every reply, people's too.
        prompts: how many prompts.
        each: replies to each prompt, all different.
        which: "random" draws the prompts, and the replies to each; "newest" takes those that came
            last.
    """

    models: Collection[str]
    prompts: int
    each: int
    which: Which


def find_replies(
    database: Database, wanted: Wanted, generator: np.random.Generator
) -> list[tuple[str, ...]]:
    """Ids of samples, prompt by prompt; fewer prompts where fewer have so many different replies.

    Prompts of attention checks, clips, and prompts and replies that were erased are left out.

    Args:
        database: of the workspace.
        wanted: which.
        generator: of what is drawn.
    """
    with database.read() as connection:
        prompts = _prompts_with(connection, wanted)
        if wanted.which == "random":
            prompts = [prompts[i] for i in generator.permutation(len(prompts))]
        found = _choose(connection, prompts, wanted, generator)
        return [ids for ids, _ in zip(found, range(wanted.prompts), strict=False)]


def count_replies(database: Database) -> dict[str | None, int]:
    """Numbers of samples by model, None for people, newest model first."""
    newest = sa.func.max(_samples.c.number)
    query = sa.select(_samples.c.model, sa.func.count()).where(_THERE).group_by(_samples.c.model)
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query.order_by(newest.desc()))}


def _prompts_with(connection: Connection, wanted: Wanted) -> list[str]:
    """Prompts with samples enough, those with the newest first."""
    query = (
        sa.select(_samples.c.prompt_id)
        .join(_prompts, _prompts.c.id == _samples.c.prompt_id)
        .where(_prompts.c.source != ATTENTION, ~IS_ERASED, *_made_by(wanted))
        .group_by(_samples.c.prompt_id)
        .having(sa.func.count() >= wanted.each)
        .order_by(sa.func.max(_samples.c.number).desc())
    )
    return list(connection.execute(query).scalars())


def _choose(
    connection: Connection,
    prompts: Sequence[str],
    wanted: Wanted,
    generator: np.random.Generator,
) -> Iterator[tuple[str, ...]]:
    for chunk in chunks(prompts, 200):
        texts = _texts(connection, chunk, wanted)
        for prompt in chunk:
            different = list(texts.get(prompt, {}).values())
            if len(different) < wanted.each:
                continue
            if wanted.which == "random":
                places = generator.permutation(len(different))[: wanted.each]
                yield tuple(different[i] for i in sorted(places))
            else:
                yield tuple(different[-wanted.each :])


def _texts(
    connection: Connection, prompts: Sequence[str], wanted: Wanted
) -> dict[str, dict[str, str]]:
    """The newest completion of each text, of each of these prompts, oldest first."""
    query = (
        sa.select(_samples.c.prompt_id, _samples.c.id, _samples.c.header)
        .where(_samples.c.prompt_id.in_(prompts), *_made_by(wanted))
        .order_by(_samples.c.number)
    )
    found: dict[str, dict[str, str]] = {}
    for prompt, name, header in connection.execute(query):
        if header["type"] == "completion":
            of_prompt = found.setdefault(prompt, {})
            of_prompt.pop(header["text"], None)
            of_prompt[header["text"]] = name
    return found


def _made_by(wanted: Wanted) -> list[Any]:
    made = [_samples.c.model.in_(list(wanted.models))] if wanted.models else []
    return [_THERE, *made]

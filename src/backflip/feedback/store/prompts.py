"""Prompts of a workspace."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.feedback.store import schema
from backflip.feedback.store.database import Database, chunks, insert_new
from backflip.records import Prompt


class Prompts:
    """What policies are asked. A prompt is named by its content: adding it again changes nothing.

    The first source and split stay: a prompt that was held out is never trained on later, except
    by a run whose own recipe has it among the prompts to train on.
    """

    def __init__(self, database: Database):
        self._database = database

    def add(self, prompts: Iterable[Prompt]) -> int:
        """Keep prompts; returns how many were new."""
        with self._database.write("prompts") as connection:
            return insert_prompts(connection, prompts)

    def get(self, ids: Iterable[str]) -> dict[str, Prompt]:
        """Prompts by id, in the order asked for; unknown ids are left out."""
        with self._database.read() as connection:
            return select_prompts(connection, list(dict.fromkeys(ids)))

    def all(self, source: str | None = None, split: str | None = None) -> list[Prompt]:
        """Prompts in the order they were added."""
        query = sa.select(schema.prompts).order_by(schema.prompts.c.number)
        if source is not None:
            query = query.where(schema.prompts.c.source == source)
        if split is not None:
            query = query.where(schema.prompts.c.split == split)
        with self._database.read() as connection:
            return [_prompt(row) for row in connection.execute(query)]


def insert_prompts(connection: Connection, prompts: Iterable[Prompt]) -> int:
    """Insert new prompts within a transaction; returns how many were new."""
    rows = (
        {
            "id": prompt.id,
            "content": prompt.content.model_dump(mode="json"),
            "source": prompt.source,
            "split": prompt.split,
            "created": schema.now(),
        }
        for prompt in prompts
    )
    return sum(len(insert_new(connection, schema.prompts, chunk)) for chunk in chunks(rows))


def select_prompts(connection: Connection, ids: Sequence[str]) -> dict[str, Prompt]:
    """Read prompts by id within a transaction."""
    found: dict[str, Prompt] = {}
    for chunk in chunks(ids):
        query = sa.select(schema.prompts).where(schema.prompts.c.id.in_(chunk))
        found |= {row.id: _prompt(row) for row in connection.execute(query)}
    return {name: found[name] for name in ids if name in found}


def _prompt(row: sa.Row[Any]) -> Prompt:
    return Prompt(content=row.content, source=row.source, split=row.split)

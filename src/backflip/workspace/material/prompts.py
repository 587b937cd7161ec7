"""Prompts of a workspace."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from backflip.errors import WorkspaceError
from backflip.records import Prompt
from backflip.records.checks import check_prompt
from backflip.records.feedback import DAMAGED, ERASED
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, chunks, damage, insert_new
from backflip.workspace.material.media import Media

IS_ERASED = sa.type_coerce(schema.prompts.c.content, sa.Text).contains(
    columns.canonical({"content": ERASED}).strip("{}"), autoescape=True
)
"""Whether the words of a prompt were erased."""
DAMAGED_PROMPT = Prompt.from_text(DAMAGED)


class Prompts:
    """What policies are asked. A prompt is named by its content: adding it again changes nothing.

    The first source and split stay: a prompt that was held out is never trained on later, except
    by a run whose own recipe has it among the prompts to train on.
    """

    def __init__(self, database: Database, media: Media):
        self._database = database
        self._media = media

    def add(self, prompts: Iterable[Prompt]) -> int:
        """Keep prompts and the images that they carry; returns how many were new."""
        prompts = list(prompts)
        shown = shows(prompts)
        self._media.keep(shown)
        with self._database.write("prompts") as connection:
            self._media.require(shown)
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


def shows(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Those that show images, each of which can be kept.

    Raises:
        WorkspaceError: one of them cannot.
    """
    found = [prompt for prompt in prompts if prompt.images]
    for prompt in found:
        _row(prompt)
    return found


def insert_prompts(connection: Connection, prompts: Iterable[Prompt]) -> int:
    """Insert new prompts within a transaction; returns how many were new.

    One whose words were erased has them again where somebody else says the same.

    Raises:
        WorkspaceError: one of them cannot be kept.
    """
    rows = map(_row, prompts)
    total = 0
    for chunk in chunks(rows):
        new = set(insert_new(connection, schema.prompts, chunk))
        known = [row for row in chunk if row["id"] not in new]
        give_back(connection, schema.prompts.c.content, IS_ERASED, known)
        total += len(new)
    return total


def _row(prompt: Prompt) -> dict[str, Any]:
    try:
        check_prompt(prompt)
    except ValueError as error:
        raise WorkspaceError(f"cannot be kept: {error}", where=prompt.place) from None
    return {
        "id": prompt.id,
        "content": prompt.content.model_dump(mode="json"),
        "source": prompt.source,
        "split": prompt.split,
        "created": columns.now(),
    }


def give_back(
    connection: Connection,
    column: sa.Column[Any],
    erased: sa.ColumnElement[bool],
    rows: Sequence[dict[str, Any]],
) -> None:
    """Write a column again where it was erased: the same words have the same id.

    Args:
        connection: of the transaction.
        column: that held the words.
        erased: whether a row holds them no more.
        rows: that somebody adds, and that were there.
    """
    ids = column.table.c.id
    query = sa.select(ids).where(ids.in_([row["id"] for row in rows]), erased)
    gone = set(connection.execute(query).scalars())
    for row in rows:
        if row["id"] in gone:
            this = sa.update(column.table).where(ids == row["id"])
            connection.execute(this.values({column.name: row[column.name]}))


def select_prompts(
    connection: Connection, ids: Sequence[str], *, damaged: bool = False
) -> dict[str, Prompt]:
    """Read prompts by id within a transaction; with `damaged`, one that cannot be read says so."""
    found: dict[str, Prompt] = {}
    for chunk in chunks(ids):
        query = sa.select(schema.prompts).where(schema.prompts.c.id.in_(chunk))
        found |= {row.id: _prompt(row, damaged=damaged) for row in connection.execute(query)}
    return {name: found[name] for name in ids if name in found}


def _prompt(row: sa.Row[Any], *, damaged: bool = False) -> Prompt:
    try:
        prompt = Prompt(content=row.content, source=row.source, split=row.split)
    except ValidationError as error:
        if damaged:
            return DAMAGED_PROMPT.under(row.id)
        raise damage(f"the prompt {row.id}") from error
    return prompt.under(row.id) if has_no_words(row.content) else prompt


def has_no_words(content: dict[str, Any]) -> bool:
    """Whether the words of a prompt were erased."""
    return any(turn["content"] == ERASED for turn in content.get("messages", ()))


def without_words(content: dict[str, Any]) -> dict[str, Any]:
    """A dialogue with a sign in place of each turn, and without what it says of tools.

    Whoever types a prompt may type every turn; what a model said is kept with its samples.
    """
    turns = [{"role": turn["role"], "content": ERASED} for turn in content["messages"]]
    return {"type": content["type"], "messages": turns}

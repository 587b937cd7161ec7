"""Samples of a workspace: completions and clips, kept alike."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from safetensors import SafetensorError
from safetensors import numpy as safetensors
from sqlalchemy.engine import Connection

from backflip.errors import WorkspaceError
from backflip.records import Completion, Content, Prompt, Sample, content_from
from backflip.records.checks import check_header, check_sample
from backflip.records.feedback import DAMAGED, ERASED
from backflip.records.feedback_checks import About
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, chunks, damage, insert_new
from backflip.workspace.database.kept import Found
from backflip.workspace.material.media import Media
from backflip.workspace.material.prompts import (
    DAMAGED_PROMPT,
    give_back,
    insert_prompts,
    select_prompts,
    shows,
)

ERASED_HEADER = Completion(text=ERASED).header()
"""What a sample holds whose writer had it erased."""


class Samples:
    """What policies did. The header is JSON; the arrays are one safetensors blob."""

    def __init__(self, database: Database, media: Media):
        self._database = database
        self._media = media

    def add(self, samples: Iterable[Sample]) -> int:
        """Keep samples and their prompts, all or none; returns how many samples were new.

        Images that the prompts carry are kept first.
        """
        samples = list(samples)
        shown = shows(sample.prompt for sample in samples)
        self._media.keep(shown)
        with self._database.write("prompts", "samples") as connection:
            self._media.require(shown)
            return insert_samples(connection, samples)

    def get(self, ids: Iterable[str]) -> dict[str, Sample]:
        """Samples by id, in the order asked for; unknown ids are left out.

        Raises:
            DamageError: one of them is not what was written; or later, by `[]`, is not there.
        """
        wanted = list(dict.fromkeys(ids))
        found = self._found(wanted, damaged=False)
        return Found({name: found[name] for name in wanted if name in found}, "the sample {}")

    def shown(self, ids: Iterable[str]) -> dict[str, Sample]:
        """The same for pages, which show what they can: in place of one that is damaged or gone
        stands one whose text says so.
        """
        wanted = list(dict.fromkeys(ids))
        found = self._found(wanted, damaged=True)
        return {name: found.get(name) or _stand_in(name, DAMAGED_PROMPT) for name in wanted}

    def _found(self, wanted: Sequence[str], *, damaged: bool) -> dict[str, Sample]:
        found: dict[str, Sample] = {}
        with self._database.read() as connection:
            for chunk in chunks(wanted):
                of_chunk = _select(connection, schema.samples.c.id.in_(chunk), damaged=damaged)
                found |= {sample.id: sample for sample in of_chunk}
        return found

    def of_model(self, model_id: str) -> list[Sample]:
        """Samples that a model made, in the order they were added."""
        with self._database.read() as connection:
            return _select(connection, schema.samples.c.model == model_id)

    def of_prompt(self, prompt_id: str) -> list[Sample]:
        """Samples of a prompt, in the order they were added."""
        with self._database.read() as connection:
            return _select(connection, schema.samples.c.prompt_id == prompt_id)


def about_samples(connection: Connection, ids: Iterable[str]) -> dict[str, About]:
    """What must be known of samples to speak of them, by id.

    Raises:
        WorkspaceError: some are not in the workspace; they are named.
    """
    wanted = list(dict.fromkeys(ids))
    table = schema.samples
    known: dict[str, About] = {}
    for chunk in chunks(wanted):
        query = sa.select(table.c.id, table.c.prompt_id, table.c.header)
        for row in connection.execute(query.where(table.c.id.in_(chunk))):
            text = columns.as_object(row.header).get("text")
            known[row.id] = About(row.prompt_id, None if text is None else len(text))
    if missing := [name for name in wanted if name not in known]:
        named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise WorkspaceError(
            f"no such sample: {named}", hint="Add samples before feedback that speaks of them."
        )
    return known


def insert_samples(connection: Connection, samples: Iterable[Sample]) -> int:
    """`Samples.add` within a transaction that holds the locks "prompts" and "samples"."""
    return sum(_insert(connection, chunk) for chunk in chunks(samples, 200))


def _insert(connection: Connection, samples: list[Sample]) -> int:
    prompts = dict[str, Prompt]()
    for sample in samples:
        try:
            check_sample(sample)
        except ValueError as error:
            raise WorkspaceError(f"a sample cannot be kept: {error}", where=sample.place) from None
        prompts.setdefault(sample.prompt_id, sample.prompt)  # its first source stays
    insert_prompts(connection, prompts.values())
    rows = [
        {
            "id": check_name(sample.id, "the sample's id"),
            "prompt_id": sample.prompt_id,
            "model": sample.model and check_name(sample.model, "the model's id"),
            "weights_version": sample.weights_version,
            # Seeds may have more bits than an integer column.
            "origin": {"seed": sample.seed, "index": sample.index, "settings": sample.settings},
            "header": sample.content.header(),
            "arrays": _pack(sample.content),
            "created": columns.now(),
        }
        for sample in samples
    ]
    new = set(insert_new(connection, schema.samples, rows))
    known = [row for row in rows if row["id"] not in new]
    header = schema.samples.c.header
    give_back(connection, header, header == ERASED_HEADER, known)
    return len(new)


def _select(connection: Connection, condition: Any, *, damaged: bool = False) -> list[Sample]:
    """Samples as they are; with `damaged`, one that cannot be read says so in its text."""
    query = sa.select(schema.samples).where(condition).order_by(schema.samples.c.number)
    rows = connection.execute(query).all()
    ids = list({row.prompt_id for row in rows})
    prompts = select_prompts(connection, ids, damaged=damaged)
    return [_sample(row, prompts.get(row.prompt_id, DAMAGED_PROMPT), damaged) for row in rows]


def _sample(row: sa.Row[Any], prompt: Prompt, damaged: bool) -> Sample:
    """A sample of its row; a `DamageError` for one that is not what it was named by."""
    try:
        content = content_from(row.header, safetensors.load(row.arrays))
        check_header(content)
        origin = {"model": row.model, "weights_version": row.weights_version, **row.origin}
        sample = Sample(id=row.id, prompt=prompt, content=content, **origin)
        unknowable = row.header == ERASED_HEADER or (damaged and prompt is DAMAGED_PROMPT)
        if not unknowable and not sample.is_what_it_says:
            raise ValueError("its id is not that of what it holds")
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        if damaged:
            return _stand_in(row.id, prompt)
        raise damage(f"the sample {row.id}") from error
    return sample


def _stand_in(name: str, prompt: Prompt) -> Sample:
    return Sample(id=name, prompt=prompt, content=Completion(text=DAMAGED))


def _pack(content: Content) -> bytes:
    # safetensors writes memory as it lies: a transposed array would come back scrambled.
    return safetensors.save({k: np.asarray(a, order="C") for k, a in content.arrays().items()})

"""Samples of a workspace: completions and clips, kept alike."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import sqlalchemy as sa
from safetensors import numpy as safetensors
from sqlalchemy.engine import Connection

from backflip.errors import DamageError, WorkspaceError
from backflip.feedback.kinds import ERASED
from backflip.feedback.store import schema
from backflip.feedback.store.database import Database, check_name, chunks, insert_new
from backflip.feedback.store.prompts import give_back, insert_prompts, select_prompts
from backflip.records import Completion, Content, Prompt, Sample, content_from

ERASED_HEADER = Completion(text=ERASED).header()
"""What a sample holds whose writer had it erased."""
RESTORE = "The database is damaged: restore the workspace from a backup."


class Samples:
    """What policies did. The header is JSON; the arrays are one safetensors blob."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, samples: Iterable[Sample]) -> int:
        """Keep samples and their prompts, all or none; returns how many samples were new."""
        with self._database.write("prompts", "samples") as connection:
            return insert_samples(connection, samples)

    def get(self, ids: Iterable[str]) -> dict[str, Sample]:
        """Samples by id, in the order asked for; unknown ids are left out."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Sample] = {}
        with self._database.read() as connection:
            for chunk in chunks(wanted):
                found |= {s.id: s for s in _select(connection, schema.samples.c.id.in_(chunk))}
        return {name: found[name] for name in wanted if name in found}

    def of_model(self, model_id: str) -> list[Sample]:
        """Samples that a model made, in the order they were added."""
        with self._database.read() as connection:
            return _select(connection, schema.samples.c.model == model_id)

    def of_prompt(self, prompt_id: str) -> list[Sample]:
        """Samples of a prompt, in the order they were added."""
        with self._database.read() as connection:
            return _select(connection, schema.samples.c.prompt_id == prompt_id)


def require_samples(connection: Connection, ids: Iterable[str]) -> None:
    """Raise a `WorkspaceError` that names the ids of samples that are not in the workspace."""
    wanted = list(dict.fromkeys(ids))
    known: set[str] = set()
    for chunk in chunks(wanted):
        query = sa.select(schema.samples.c.id).where(schema.samples.c.id.in_(chunk))
        known.update(connection.execute(query).scalars())
    if missing := [name for name in wanted if name not in known]:
        named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise WorkspaceError(
            f"no such sample: {named}", hint="Add samples before feedback that speaks of them."
        )


def insert_samples(connection: Connection, samples: Iterable[Sample]) -> int:
    """`Samples.add` within a transaction that holds the locks "prompts" and "samples"."""
    return sum(_insert(connection, chunk) for chunk in chunks(samples, 200))


def _insert(connection: Connection, samples: list[Sample]) -> int:
    prompts = dict[str, Prompt]()
    for sample in samples:
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
            "created": schema.now(),
        }
        for sample in samples
    ]
    new = set(insert_new(connection, schema.samples, rows))
    known = [row for row in rows if row["id"] not in new]
    header = schema.samples.c.header
    give_back(connection, header, header == ERASED_HEADER, known)
    return len(new)


def _select(connection: Connection, condition: Any) -> list[Sample]:
    query = sa.select(schema.samples).where(condition).order_by(schema.samples.c.number)
    rows = connection.execute(query).all()
    prompts = select_prompts(connection, list({row.prompt_id for row in rows}))
    return [_sample(row, prompts[row.prompt_id]) for row in rows]


def _sample(row: Any, prompt: Prompt) -> Sample:
    """A sample of its row.

    Raises:
        DamageError: its arrays cannot be read, or it is not what it was named by.
    """
    try:
        content = content_from(row.header, safetensors.load(row.arrays))
    except Exception as error:  # whatever broken bytes make the reader trip over
        raise DamageError(f"cannot be read: {error}", where=row.id, hint=RESTORE) from None
    origin = {"model": row.model, "weights_version": row.weights_version, **row.origin}
    sample = Sample(id=row.id, prompt=prompt, content=content, **origin)
    if row.header != ERASED_HEADER and not sample.is_what_it_says:
        what = "the sample is not what was written into the database"
        raise DamageError(what, where=row.id, hint=RESTORE)
    return sample


def _pack(content: Content) -> bytes:
    # safetensors writes memory as it lies: a transposed array would come back scrambled.
    return safetensors.save({k: np.asarray(a, order="C") for k, a in content.arrays().items()})

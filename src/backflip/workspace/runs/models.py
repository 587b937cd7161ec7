"""Models of a workspace and what each was made from."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field, ValidationError
from sqlalchemy.engine import Connection

from backflip.config import ChatSettings
from backflip.errors import DamageError, NotFoundError, WorkspaceError
from backflip.records import Record
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, damage, insert_new

ModelStage = Literal["base", "pretrain", "sft", "reward", "policy"]


class ModelRecord(Record):
    """A model and where it came from.

    `path` is relative to the workspace's artifacts, or absolute for a model from outside.
    `parents` are ids of the models it was made from: what it was initialised with, and the reward
    models that it was trained on. `snapshot` is the feedback that it was trained on.
    """

    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    stage: ModelStage
    path: str
    parents: tuple[str, ...] = ()
    snapshot: str | None = None
    run: str | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    created: datetime = Field(default_factory=columns.now)

    @property
    def chat(self) -> ChatSettings:
        """How dialogues become text for it, by the recipe that made it."""
        made: dict[str, Any] = self.recipe.get("model") or {}
        return ChatSettings.parse(made.get("chat") or {}, where=f"the recipe of {self.name}")


class Models:
    """Every model that was loaded or trained."""

    def __init__(self, database: Database, artifacts: Path):
        self._database = database
        self._artifacts = artifacts

    def register(self, record: ModelRecord) -> bool:
        """Keep a model's record; returns False when it is there already, as after a resume.

        Raises:
            WorkspaceError: another model under the same id, an unknown parent or snapshot, or a
                path that leads out of the artifacts.
        """
        self._check(record)
        # Snapshots never change, so that what takes a while is counted where nobody waits for it.
        counted = self._count_annotators(record)
        with self._database.write("models") as connection:
            known = _select(connection, schema.models.c.id.in_([record.id, *record.parents]))
            by_id = {model.id: model for model in known}
            if record.id in by_id:
                _require_same(by_id[record.id], record)
                return False
            if missing := [name for name in record.parents if name not in by_id]:
                raise WorkspaceError(
                    f"model {record.id} has an unknown parent {missing[0]!r}",
                    where=self._database.where,
                    hint="Register the models that it was made from first.",
                )
            snapshots = schema.snapshots.c.id
            if (
                record.snapshot is not None
                and not connection.execute(
                    sa.select(snapshots).where(snapshots == record.snapshot)
                ).scalar()
            ):
                raise WorkspaceError(f"model {record.id} has no snapshot {record.snapshot!r}")
            insert_new(connection, schema.models, [record.model_dump()])
            if counted:
                rows = [{"model": record.id, "annotator": k, "entries": n} for k, n in counted]
                connection.execute(sa.insert(schema.model_annotators), rows)
            return True

    def get(self, reference: str) -> ModelRecord:
        """A model by its id, its name (the newest of that name) or the start of its id.

        Raises:
            WorkspaceError: no such model, or several whose ids start so.
        """
        columns = schema.models.c
        with self._database.read() as connection:
            for exact in (columns.id == reference, columns.name == reference):
                if found := _select(connection, exact):
                    return found[-1]
            starts = columns.id.startswith(reference, autoescape=True)
            found = _select(connection, starts) if reference else []
            names = sorted({model.name for model in _select(connection)})
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(model.id for model in found[:5])
            raise WorkspaceError(f"{reference!r} may be any of {ids}", where=self._database.where)
        hint = f"Models here: {', '.join(names[:10])}" if names else "There are no models yet."
        raise NotFoundError(f"no model {reference!r}", where=self._database.where, hint=hint)

    def all(self) -> list[ModelRecord]:
        """All models, parents before their children."""
        with self._database.read() as connection:
            return _select(connection)

    def readable(self) -> list[ModelRecord]:
        """All models whose rows can be read, for pages, which show what they can."""
        query = sa.select(schema.models).order_by(schema.models.c.number)
        found: list[ModelRecord] = []
        with self._database.read() as connection:
            for row in connection.execute(query).mappings():
                with suppress(DamageError):
                    found.append(_record(row))
        return found

    def trained_on(self, snapshots: Iterable[str]) -> list[ModelRecord]:
        """Models that were trained on any of these snapshots."""
        with self._database.read() as connection:
            return _select(connection, schema.models.c.snapshot.in_(list(snapshots)))

    def annotators(self, id: str) -> dict[str, int]:  # noqa: A002
        """Who stands behind a model, and with how many entries, each counted once; most first."""
        table = schema.model_annotators
        query = sa.select(table.c.annotator, table.c.entries).where(table.c.model == id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.entries.desc(), table.c.annotator))
            return {row.annotator: row.entries for row in rows}

    def _count_annotators(self, record: ModelRecord) -> list[tuple[str, int]]:
        """The same of a model that is not registered yet."""
        held, journal = schema.snapshot_entries, schema.journal
        with self._database.read() as connection:
            known = {model.id: model for model in _select(connection)}
            behind = [record, *(known[name] for name in all_behind(record, known))]
            snapshots = {model.snapshot for model in behind if model.snapshot is not None}
            query = sa.select(journal.c.annotator, sa.func.count(held.c.entry_id.distinct()))
            query = query.join(held, held.c.entry_id == journal.c.id)
            query = query.where(held.c.snapshot_id.in_(snapshots)).group_by(journal.c.annotator)
            return [(row[0], row[1]) for row in connection.execute(query)]

    def folder(self, record: ModelRecord) -> Path:
        """Where a model's files lie."""
        return self._artifacts / record.path

    def _check(self, record: ModelRecord) -> None:
        check_name(record.id, "the model's id")
        check_name(record.name, "the model's name")
        path = PurePath(record.path)
        if not path.is_absolute() and ".." in path.parts:
            raise WorkspaceError(
                f"model {record.id} has a path that leads out of the artifacts: {record.path!r}",
                hint="Give an absolute path for a model from outside.",
            )


def all_behind(record: ModelRecord, known: Mapping[str, ModelRecord]) -> list[str]:
    """Ids of the models that a model was made from, each once, nearest first; but for unknown ones.

    Args:
        record: the model.
        known: models by id.
    """
    found: dict[str, None] = {}
    line = list(record.parents)
    while line:
        name = line.pop(0)
        if name in known and name not in found:
            found[name] = None
            line.extend(known[name].parents)
    return list(found)


def _require_same(known: ModelRecord, record: ModelRecord) -> None:
    for field in ("name", "stage", "path", "parents", "snapshot", "run"):
        before, now = getattr(known, field), getattr(record, field)
        if before != now:
            raise WorkspaceError(
                f"model {known.id} is already registered with {field} {before!r}, not {now!r}"
            )


def _select(connection: Connection, *conditions: Any) -> list[ModelRecord]:
    query = sa.select(schema.models).where(*conditions).order_by(schema.models.c.number)
    rows = connection.execute(query).mappings()
    return [_record(row) for row in rows]


def _record(row: sa.RowMapping) -> ModelRecord:
    try:
        return ModelRecord(**{name: value for name, value in row.items() if name != "number"})
    except ValidationError as error:
        raise damage(f"the model {row['id']}") from error

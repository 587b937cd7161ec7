"""Runs and their stages: what was begun, what is done, and with which result."""

import json
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import InstanceOf
from sqlalchemy.engine import Connection

from backflip.errors import WorkspaceError
from backflip.records import Record
from backflip.records.plan import StageKind, stage_of
from backflip.records.results import StageResult
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, check_name, insert, insert_new
from backflip.workspace.database.kept import as_kept, read_result

R = TypeVar("R", bound=StageResult)


class RunRecord(Record):
    """One recipe on its way. `status` is "running" until `Runs.finish` says otherwise."""

    id: str
    name: str
    recipe: InstanceOf[dict[str, Any]]
    version: str
    status: str
    created: datetime
    finished: datetime | None


class StageRecord(Record):
    """A part of a run that is done once; its result is there once it is."""

    run: str
    key: str
    is_done: bool
    created: datetime
    finished: datetime | None


class Runs:
    """Every run of the loop or of a single stage."""

    def __init__(self, database: Database):
        self._database = database

    def start(self, id: str, name: str, recipe: dict[str, Any], version: str) -> RunRecord:  # noqa: A002
        """Begin a run, or take it up again.

        Args:
            id: names the run; the same id takes the same run up again.
            name: for people to read.
            recipe: the resolved settings, as JSON can hold them.
            version: Backflip's version.

        Raises:
            WorkspaceError: a run of that id with another recipe.
        """
        check_name(id, "the run's id")
        check_name(name, "the run's name")
        row = {
            "id": id,
            "name": name,
            "recipe": recipe,
            "version": version,
            "status": "running",
            "created": columns.now(),
        }
        table = schema.runs
        with self._database.write("runs") as connection:
            if not insert_new(connection, table, [row]):
                known = connection.execute(sa.select(table.c.recipe).where(table.c.id == id))
                if columns.canonical(known.scalar_one()) != columns.canonical(recipe):
                    raise WorkspaceError(
                        f"run {id!r} was started with another recipe",
                        where=self._database.where,
                        hint="Resume it with its own recipe, or start a run of another name.",
                    )
                again = {"status": "running", "finished": None}
                connection.execute(sa.update(table).where(table.c.id == id).values(again))
        return self.get(id)

    def change_recipe(self, id: str, recipe: dict[str, Any]) -> None:  # noqa: A002
        """Keep the settings that a run goes on with in the place of those that it had.

        Models keep those that they were made with.
        """
        table = schema.runs
        with self._database.write("runs") as connection:
            require_run(connection, id)
            connection.execute(sa.update(table).where(table.c.id == id).values(recipe=recipe))

    def get(self, id: str) -> RunRecord:  # noqa: A002
        """A run by its id; a `WorkspaceError` when there is none."""
        for run in self._select(schema.runs.c.id == id):
            return run
        raise WorkspaceError(f"no run {id!r}", where=self._database.where)

    def all(self) -> list[RunRecord]:
        """All runs, oldest first."""
        return self._select()

    def finish(self, id: str, status: str = "finished") -> None:  # noqa: A002
        """Say how a run ended: "finished", "failed" or "stopped"."""
        table = schema.runs
        values = {"status": status, "finished": columns.now()}
        with self._database.write("runs") as connection:
            changed = connection.execute(sa.update(table).where(table.c.id == id).values(values))
            if not changed.rowcount:
                raise WorkspaceError(f"no run {id!r}", where=self._database.where)

    def _select(self, *conditions: Any) -> list[RunRecord]:
        query = sa.select(schema.runs).where(*conditions).order_by(schema.runs.c.number)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [_run(row) for row in rows]


def _run(row: sa.RowMapping) -> RunRecord:
    values = {name: value for name, value in row.items() if name != "number"}
    values["recipe"] = as_kept(values["recipe"], f"the recipe of run {values['id']}")
    return RunRecord(**values)


def require_run(connection: Connection, run: str) -> None:
    """Raise a `WorkspaceError` when there is no such run."""
    query = sa.select(schema.runs.c.id).where(schema.runs.c.id == run)
    if connection.execute(query).scalar() is None:
        raise WorkspaceError(f"no run {run!r}", hint="Start the run first.")


class Stages:
    """The parts of a run. A stage's result is written once; a resumed run reads it."""

    def __init__(self, database: Database):
        self._database = database

    def begin(self, run: str, key: str) -> None:
        """Note that a stage was begun; nothing changes when it was before."""
        row = {"run": run, "key": check_name(key, "the stage's key"), "created": columns.now()}
        with self._database.write("runs") as connection:
            require_run(connection, run)
            connection.execute(insert(connection, schema.stages).on_conflict_do_nothing(), row)

    def finish(self, run: str, key: str, result: R) -> R:
        """Keep a stage's result, which ends it.

        Returns:
            the result as it is read from now on, down to the order of its keys: what is done with
            it is the same now and when a run goes on.

        Raises:
            WorkspaceError: it has another result already: two processes work on one run.
        """
        self.begin(run, key)
        table, kept = schema.stages, result.kept()
        this = sa.and_(table.c.run == run, table.c.key == key)
        with self._database.write("runs") as connection:
            known = connection.execute(sa.select(table.c.result).where(this)).scalar_one()
            if known is None:
                values = {"result": kept, "finished": columns.now()}
                connection.execute(sa.update(table).where(this).values(values))
            elif columns.canonical(known) != columns.canonical(kept):
                raise WorkspaceError(
                    f"stage {key!r} of run {run!r} has another result already",
                    where=self._database.where,
                    hint="Is the same run under way in another process?",
                )
        return type(result).model_validate(json.loads(columns.canonical(kept)))

    def result(self, run: str, key: str, kind: StageKind[R]) -> R | None:
        """A stage's result; None when it is not done.

        Args:
            run: id of the run.
            key: of the stage.
            kind: which stage it is.

        Raises:
            DamageError: it is not what was written.
        """
        table = schema.stages
        query = sa.select(table.c.result).where(table.c.run == run, table.c.key == key)
        with self._database.read() as connection:
            held = connection.execute(query).scalar()
        return None if held is None else read_result(run, key, kind, held)

    def results(self, run: str, kind: StageKind[R]) -> dict[str, R]:
        """What there is of a kind in a run, by key, in the order in which it was begun.

        Raises:
            DamageError: one of them is not what was written.
        """
        table = schema.stages
        query = sa.select(table.c.key, table.c.result).where(
            table.c.run == run, table.c.result.is_not(None)
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.number)).all()
        return {
            row.key: read_result(run, row.key, kind, row.result)
            for row in rows
            if stage_of(row.key) is kind
        }

    def all(self, run: str) -> list[StageRecord]:
        """The stages of a run in the order they were begun."""
        table = schema.stages
        is_done = table.c.result.is_not(None).label("is_done")
        query = sa.select(table.c.run, table.c.key, is_done, table.c.created, table.c.finished)
        query = query.where(table.c.run == run).order_by(table.c.number)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [StageRecord(**row) for row in rows]

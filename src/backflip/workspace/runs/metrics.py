"""Metrics of runs: one number for each run, stage, step and name."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from backflip.workspace.database import schema
from backflip.workspace.database.engine import Database, check_name, chunks, insert
from backflip.workspace.runs.runs import require_run


@dataclass(frozen=True)
class Series:
    """One metric over the steps of a stage, steps ascending."""

    stage: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class Metrics:
    """What was measured on the way."""

    def __init__(self, database: Database):
        self._database = database

    def log(self, run: str, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the metrics of a step; a step that a resumed run repeats is the same row."""
        check_name(stage, "the stage")
        rows = [
            {
                "run": run,
                "stage": stage,
                "step": int(step),
                "name": check_name(name, "the metric's name"),
                "value": float(value),
            }
            for name, value in values.items()
        ]
        with self._database.write("runs") as connection:
            require_run(connection, run)
            for chunk in chunks(rows):
                statement = insert(connection, schema.metrics)
                statement = statement.on_conflict_do_update(
                    index_elements=["run", "stage", "step", "name"],
                    set_={"value": statement.excluded.value},
                )
                connection.execute(statement, chunk)

    def series(
        self, run: str, stage: str | None = None, names: Collection[str] | None = None
    ) -> list[Series]:
        """Metrics of a run over its steps, in the order in which they were first logged."""
        table = schema.metrics
        query = sa.select(table).where(table.c.run == run).order_by(table.c.number)
        if stage is not None:
            query = query.where(table.c.stage == stage)
        if names is not None:
            query = query.where(table.c.name.in_(list(names)))
        found: dict[tuple[str, str], dict[int, float]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found.setdefault((row.stage, row.name), {})[row.step] = row.value
        return [
            Series(stage, name, tuple(sorted(points)), tuple(points[s] for s in sorted(points)))
            for (stage, name), points in found.items()
        ]

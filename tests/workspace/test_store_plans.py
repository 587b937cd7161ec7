"""How PostgreSQL finds the question to hand out: along indexes, however large the tables are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from store_helpers import completion_sample

from backflip.workspace import Task, Workspace
from backflip.workspace.database import schema
from backflip.workspace.labelling.assignment import TaskQuery, pick

NUM_TASKS = 3000


@pytest.fixture
def filled(tmp_path: Path, postgresql: Any) -> Iterator[Workspace]:
    """Many questions, most of them answered long ago by many people; nothing was analysed."""
    address = postgresql.new_database(postgresql.template)
    with Workspace.create(tmp_path / "w", address) as workspace:
        fill(workspace)
        yield workspace
    postgresql.drop_database(address)


def fill(workspace: Workspace) -> None:
    samples = [completion_sample(n) for n in range(80)]
    workspace.samples.add(samples)
    ids = [sample.id for sample in samples]
    pairs = [(a, b) for a in ids for b in ids if a < b][:NUM_TASKS]
    tasks = [Task(kind="comparison", sample_ids=pair) for pair in pairs]
    workspace.queue.put("run", 1, tasks, overlap=2)
    names = [f"person {n}" for n in range(50)]
    for name in names:
        workspace.annotators.add(name, group="people")
    with workspace.database.write("queue") as connection:
        rows = connection.execute(sa.select(schema.tasks.c.id).order_by(schema.tasks.c.number))
        place = {"state": "done", "attempt": 0, "shown": [0, 1], "expires": 0.0}
        given = [
            {"task_id": task, "annotator": names[(n + k) % 50], **place}
            for n, task in enumerate(list(rows.scalars())[:-100])
            for k in range(2)
        ]
        connection.execute(sa.insert(schema.assignments), given)
        first = sa.select(schema.assignments.c.task_id)
        closed = sa.update(schema.tasks).where(schema.tasks.c.id.in_(first))
        connection.execute(closed.values(closed=True))


@contextmanager
def explained(connection: Connection) -> Iterator[list[Any]]:
    """The plan of every query of the block, as it was carried out."""
    plans: list[Any] = []
    explaining = False

    def explain(conn: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        nonlocal explaining
        if not explaining and statement.startswith("SELECT"):
            explaining = True
            text = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
            plans.append(conn.exec_driver_sql(text, parameters).scalar()[0]["Plan"])
            explaining = False

    sa.event.listen(connection, "before_cursor_execute", explain)
    yield plans
    sa.event.remove(connection, "before_cursor_execute", explain)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def test_a_question_is_found_without_reading_what_is_answered(filled: Workspace) -> None:
    wish = TaskQuery("newcomer", filled.queue.clock(), project="main")
    with filled.database.write("queue", walks=True) as connection, explained(connection) as plans:
        assert pick(connection, wish) is not None
    large = [
        node
        for plan in plans
        for node in nodes(plan)
        if node.get("Relation Name") in ("tasks", "assignments")
    ]
    assert large
    for node in large:
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        assert node["Node Type"].startswith(("Index", "Bitmap")), node
        assert read * node["Actual Loops"] <= 200, node

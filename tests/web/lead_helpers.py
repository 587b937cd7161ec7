"""What the tests of a lead's pages share: putting up questions, and reading them where they lie."""

from typing import Any

import sqlalchemy as sa
from web_helpers import Browser, ids

from backflip.records.feedback import Comparison
from backflip.workspace import Project, Task, Workspace
from backflip.workspace.database import schema

PAIRS = [Task(kind="comparison", sample_ids=ids(n, 0, 1)) for n in range(4)]
NEW = {
    "name": "First",
    "kind": "comparison",
    "prompts": 2,
    "samples_per_prompt": 2,
    "which": "newest",
}


def asked(workspace: Workspace, name: str) -> list[Any]:
    """The questions of a batch as they stand in the database."""
    query = sa.select(schema.tasks).join(
        schema.batches, schema.batches.c.number == schema.tasks.c.batch
    )
    query = query.where(schema.batches.c.name == name).order_by(schema.tasks.c.number)
    with workspace.database.read() as connection:
        return list(connection.execute(query))


def sets(workspace: Workspace, name: str) -> list[tuple[str, ...]]:
    return [tuple(row.sample_ids) for row in asked(workspace, name)]


def put(lead: Browser, project: Project, **fields: Any) -> Any:
    return lead.post(f"/api/projects/{project.id}/batches", NEW | fields)


def answer_next(workspace: Workspace, project: Project, annotator: str, choice: str = "a") -> Task:
    task = workspace.queue.next(annotator, project=project.id)
    assert task is not None
    said: Any = {"annotator": annotator, "samples": task.sample_ids, "choice": choice}
    workspace.queue.answer(task.id, annotator, Comparison(**said))
    return task

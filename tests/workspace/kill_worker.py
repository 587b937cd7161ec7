"""Dies at every statement of an action in turn: `kill_worker.py FOLDER ACTION STRIDE ADDRESS`.

For k = 1, 1 + STRIDE, ... a child starts the action and kills itself with SIGKILL at its k-th
statement or commit. After each death, what is in the workspace is printed as JSON; the last line
is that of the child that came to the end.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from store_helpers import completion_sample, tell

from backflip.errors import WorkspaceError
from backflip.records.feedback import Comparison, GoodBad
from backflip.workspace import Workspace
from backflip.workspace.database import schema

PAIR = [completion_sample(n) for n in range(2)]
VOTES = [GoodBad(annotator="mia", sample=PAIR[0].id, good=True, key=str(n)) for n in range(1200)]


def answer(workspace: Workspace) -> None:
    task = workspace.queue.next("mia")
    assert task is not None
    vote = Comparison(annotator="mia", samples=task.sample_ids, choice="a")
    workspace.queue.answer(task.id, "mia", vote)


ACTIONS: dict[str, Callable[[Workspace], Any]] = {
    "samples": lambda w: w.samples.add(completion_sample(n, prompt=n) for n in range(10, 450)),
    "journal": lambda w: w.journal.add(VOTES),
    "snapshot": lambda w: w.snapshots.take(e.id for e in w.journal.active()),
    "answer": answer,
    "undo": lambda w: w.queue.undo("mia"),
}


def state(folder: str) -> dict[str, int]:
    """Rows of each table that matters, and answers that the queue and the journal have."""
    try:
        workspace = Workspace.open(folder)
    except WorkspaceError:
        return {}
    with workspace, workspace.database.read() as connection:
        counts = {
            name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for name, table in schema.metadata.tables.items()
            if name not in ("assignments", "annotators", "annotator_versions")
        }
        done = schema.assignments.c.state == "done"
        answers = sa.select(sa.func.count()).where(done)
        return {**counts, "answers": connection.execute(answers).scalar_one()}


def die_at(number: int) -> None:
    """Kill this process at its `number`-th statement or commit, before the database has it."""
    left = [number]

    def tick(*_: Any) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(Engine, "before_cursor_execute", tick)
    sa.event.listen(Engine, "commit", tick)


def attempt(folder: str, action: str, address: str | None, number: int) -> bool:
    """Run the action in a child that dies at its `number`-th step; whether it came to the end."""
    child = os.fork()
    if child == 0:
        if action == "create":
            die_at(number)
            Workspace.create(folder, address).close()
        else:
            with Workspace.open(folder) as workspace:
                die_at(number)
                ACTIONS[action](workspace)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        sys.exit(f"{action}: the child failed")
    return True


def main(folder: str, action: str, stride: str, address: str = "") -> None:
    tell(state(folder))
    for number in range(1, 1000, int(stride)):
        finished = attempt(folder, action, address or None, number)
        tell(state(folder))
        if finished:
            break


if __name__ == "__main__":
    main(*sys.argv[1:])

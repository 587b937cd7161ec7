"""Runs that ask people, and people who answer them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loop_helpers import agent_recipe, make_run

from backflip.records.feedback import Comparison, Critique, Rating
from backflip.workspace import Workspace


def people(**change: Any) -> dict[str, Any]:
    feedback = {"source": "people", "gold": "environment", "prompts": 8, "poll_seconds": 0.05}
    return agent_recipe(feedback={**feedback, **change}, loop={"rounds": 2, "checkpoint_every": 2})


@contextmanager
def under_way(workspace: Workspace, data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A run in a thread of its own; what it returned or raised is in the dictionary at the end."""
    run, reporter = make_run(workspace, data)
    outcome: dict[str, Any] = {"run": run, "reporter": reporter}

    def work() -> None:
        try:
            outcome["results"] = run.go()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(60)
        assert not thread.is_alive()


def preference(workspace: Workspace, task: Any) -> Any:
    """What a person says: the clip with more reward, or of one its level or as many "!"."""
    samples = workspace.samples.get(task.sample_ids)
    golds = [float(samples[i].clip.rewards.sum()) for i in task.sample_ids]
    level = min(max(int(6 + golds[0] / 10), 1), 5)
    if task.kind == "critique":
        text = f"Well{'!' * level}"
        return Critique(annotator=task.annotator, sample=task.sample_ids[0], text=text)
    if task.kind == "rating":
        return Rating(annotator=task.annotator, sample=task.sample_ids[0], level=level)
    choice = "a" if golds[0] > golds[1] else "b"
    return Comparison(annotator=task.annotator, samples=task.sample_ids, choice=choice)


def answer_all(workspace: Workspace, names: tuple[str, ...], outcome: dict[str, Any]) -> int:
    """Answer whatever is asked until the run is over."""
    given = 0
    while "results" not in outcome and "error" not in outcome:
        tasks = {name: workspace.queue.next(name) for name in names}
        for name, task in tasks.items():
            if task is not None:
                workspace.queue.answer(task.id, name, preference(workspace, task))
                given += 1
        if not any(tasks.values()):
            time.sleep(0.15)  # SQLite has one writer: who asks without pause shuts others out
    return given

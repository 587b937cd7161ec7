"""Asking people, who answer at their own pace in other processes, and waiting for them."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backflip.feedback.store import Progress, Task
from backflip.feedback.teachers import Item

if TYPE_CHECKING:
    from backflip.loop.run import Stage


def ask_people(stage: "Stage", items: Sequence[Item]) -> int:
    """Put the items up and wait until people have answered as many of them as are wanted.

    Returns the number of questions that were skipped. What is left open when enough is answered is
    closed; an answer that somebody has begun by then still counts, from the next round on.
    """
    settings, workspace = stage.recipe.feedback, stage.workspace
    project = workspace.projects.ensure(settings.project)
    workspace.queue.put(
        stage.run.id,
        stage.round,
        [
            Task(
                kind=item.kind,
                sample_ids=tuple(s.id for s in item.samples),
                axis=item.axis or "overall",
            )
            for item in items
        ],
        overlap=settings.overlap,
        project=project.id,
        name=f"{stage.recipe.name}, round {stage.round}",
    )
    if settings.overlap > 1:
        stage.reporter.warn(
            f"{stage.key}: feedback.overlap is {settings.overlap}, so it takes {settings.overlap} "
            "different people to answer; nobody is asked about the same item twice."
        )
    stage.reporter.say(_where_to_answer(stage, len(items), project.id))
    progress = workspace.queue.progress(stage.run.id, stage.round)
    with stage.reporter.bar("Answers", progress.wanted, "answers") as advance:
        seen = 0
        while True:
            progress = workspace.queue.progress(stage.run.id, stage.round)
            advance(progress.done - seen)
            seen = progress.done
            if _enough(progress, settings.target):
                _close(stage, progress)
                return progress.skipped
            time.sleep(settings.poll_seconds)


def _where_to_answer(stage: "Stage", number: int, project: str) -> str:
    """A word on what is waited for, and where to go: the server that is up, or how to start one."""
    root, settings = stage.workspace.root, stage.recipe.feedback
    share = f", until {settings.target:.0%} are there" if settings.target < 1 else ""
    said = f"Waiting for people: {number} items, {settings.overlap} answers each{share}. "
    if addresses := stage.workspace.servers.alive():
        pages = "\n".join(f"  {address}/projects/{project}/label" for address in addresses)
        return f"{said}Answer at\n{pages}"
    return (
        f"{said}Answer with one of\n"
        f"  backflip serve {root}\n"
        f"  backflip label --terminal --workspace {root}"
    )


def _enough(progress: Progress, target: float) -> bool:
    return progress.finished or progress.done + progress.skipped >= target * progress.wanted


def _close(stage: "Stage", progress: Progress) -> None:
    """Hand nothing more of this round out, where it is not all answered."""
    if not progress.finished:
        stage.workspace.batches.set_state(f"{stage.run.id}/{stage.round}", "closed")

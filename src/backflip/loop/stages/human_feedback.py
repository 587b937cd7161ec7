"""Asking people, who answer at their own pace in other processes, and waiting for them."""

import time
from collections.abc import Sequence

from backflip.feedback.teachers import Item
from backflip.loop.stage import Stage
from backflip.loop.stages.interim import InterimReward
from backflip.records import Order, derive_seed, pick
from backflip.workspace import Progress, Task


def ask_people(stage: Stage, items: Sequence[Item], interim: InterimReward) -> int:
    """Put the items up and wait until people have answered as many of them as are wanted.

    Returns the number of questions that were skipped. What is left open when enough is answered is
    closed; an answer that somebody has begun by then still counts, from the next round on.

    Args:
        stage: whose work it is.
        items: the questions, beside the anchors of earlier rounds.
        interim: says meanwhile how good the answers make a reward model.
    """
    settings, workspace = stage.recipe.feedback, stage.workspace
    project = workspace.projects.ensure(settings.project)
    tasks = [_task(item) for item in items] + _anchors(stage)
    workspace.queue.put(
        stage.run.id,
        stage.round,
        tasks,
        overlap=settings.overlap,
        project=project.id,
        name=f"{stage.recipe.name}, round {stage.round}",
    )
    if settings.overlap > 1:
        stage.reporter.warn(
            f"{stage.key}: feedback.overlap is {settings.overlap}, so it takes {settings.overlap} "
            "different people to answer; nobody is asked about the same item twice."
        )
    stage.reporter.say(_where_to_answer(stage, len(tasks), project.id))
    progress = workspace.queue.progress(stage.run.id, stage.round)
    with stage.reporter.bar("Answers", progress.wanted, "answers") as advance:
        seen = 0

        def enough() -> bool:
            nonlocal progress, seen
            progress = workspace.queue.progress(stage.run.id, stage.round)
            advance(progress.done - seen)
            seen = progress.done
            return _enough(progress, settings.target)

        while not enough():
            interim.update(progress.done, enough)
            time.sleep(settings.poll_seconds)
        _close(stage, progress)
        return progress.skipped


def _task(item: Item) -> Task:
    return Task(
        kind=item.kind,
        sample_ids=tuple(sample.id for sample in item.samples),
        axis=item.axis or "overall",
    )


def _anchors(stage: Stage) -> list[Task]:
    """Questions of the run's first round that are asked again, to see whether people drift."""
    number = stage.recipe.feedback.anchors
    if stage.round == 1 or not number:
        return []
    first = stage.workspace.batches.questions(stage.run.id, 1)
    seed = derive_seed(stage.recipe.seed, "anchors")  # the same ones in every round
    return pick(first, sorted(Order(len(first), seed).take(0, min(number, len(first)))))


def _where_to_answer(stage: Stage, number: int, project: str) -> str:
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


def _close(stage: Stage, progress: Progress) -> None:
    """Hand nothing more of this round out, where it is not all answered."""
    if not progress.finished:
        stage.workspace.batches.set_state(f"{stage.run.id}/{stage.round}", "closed")

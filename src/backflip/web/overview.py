"""How far a project is: what its lead's first page shows, and what is sent when it changes."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

from backflip.records import Record
from backflip.records.plan import FEEDBACK, REWARD
from backflip.statistics.intervals import wilson
from backflip.web.lead import names_of
from backflip.workspace import Project, Series, TaskBatch, Workspace
from backflip.workspace.labelling.activity import Activity, read_activity
from backflip.workspace.labelling.batches import HOUR, Purpose

HOURS = 24
MEASURED = ("heldout_accuracy", "heldout_answers")
"""What a run notes of its reward models; see `backflip.loop.stages.interim`."""
MOST_ACCURACIES = 12
MIN_HELDOUT = 20
"""Held-out answers below which a share says too little to be shown."""


class BatchView(Record):
    """A batch as it stands.

    `wanted` are the answers asked for, `held` the questions that somebody has on the screen now,
    and `left` those that nobody has taken. Checks and asides want nothing.
    """

    number: int
    name: str
    purpose: Purpose
    state: Literal["open", "paused", "closed"]
    items: int
    wanted: int
    done: int
    skipped: int
    held: int
    left: int


class PersonView(Record):
    """What somebody gave. `name` is the pseudonym of who is gone, or not named any more."""

    name: str
    gone: bool
    done: int
    skipped: int
    at_work: bool


class HourView(Record):
    """Answers of an hour that began at `start`, in UTC."""

    start: datetime
    answers: int


class AccuracyView(Record):
    """How well a reward model foresees answers that it was not trained on.

    Attributes:
        key: tells the rows apart.
        name: of the batch whose answers came last.
        axis: on which it judges.
        answers: that there were, held-out ones too.
        value, low, high: share of the held-out answers that it foresees, and Wilson's interval.
        heldout: how many those are.
        enough: whether they are enough to say anything by.
    """

    key: str
    name: str
    axis: str
    answers: int
    value: float
    low: float
    high: float
    heldout: float
    enough: bool


class Overview(Record):
    """A project as it stands.

    `used` is what counts against the `budget`, None for no end: answers, and questions that are
    held. `hours` are the last ones, the present one at the end. `accuracies` are the newest ones of
    the project's reward models, newest first.
    """

    batches: tuple[BatchView, ...]
    people: tuple[PersonView, ...]
    hours: tuple[HourView, ...]
    accuracies: tuple[AccuracyView, ...]
    wanted: int
    done: int
    skipped: int
    held: int
    budget: int | None
    used: int


def overview_of(workspace: Workspace, project: Project) -> Overview:
    """A project as it stands now."""
    now = workspace.queue.clock()
    activity = read_activity(workspace.database, project.id, now=now, hours=HOURS)
    batches = [batch_view(batch, activity) for batch in workspace.batches.all(project.id)]
    labels = [batch for batch in batches if batch.purpose == "labels"]
    done, held = sum(batch.done for batch in labels), sum(batch.held for batch in labels)
    last = int(now) // HOUR
    return Overview(
        batches=tuple(batches),
        people=people_of(workspace, project.id, activity),
        hours=tuple(
            HourView(
                start=datetime.fromtimestamp(hour * HOUR, UTC),
                answers=activity.by_hour.get(hour, 0),
            )
            for hour in range(last - HOURS + 1, last + 1)
        ),
        accuracies=accuracies_of(workspace, project.id),
        wanted=sum(batch.wanted for batch in labels),
        done=done,
        skipped=sum(batch.skipped for batch in labels),
        held=held,
        budget=project.settings.budget,
        used=done + held,
    )


def batch_view(batch: TaskBatch, activity: Activity) -> BatchView:
    """A batch with what is held of it now."""
    held = sum(number for (of, _), number in activity.held.items() if of == batch.number)
    left = max(batch.wanted - batch.done - batch.skipped - held, 0)
    shown = batch.model_dump(include=set(BatchView.model_fields))
    return BatchView(**shown, held=held, left=left if batch.purpose == "labels" else 0)


def accuracies_of(workspace: Workspace, project: str) -> tuple[AccuracyView, ...]:
    """What was measured of reward models while the project's answers came, newest first."""
    found: list[AccuracyView] = []
    known: dict[str, list[Series]] = {}
    for batch in workspace.batches.all(project):
        if batch.run not in known:
            known[batch.run] = workspace.metrics.series(batch.run, names=MEASURED)
        for kind in (FEEDBACK, REWARD):  # while people answered, and when they had
            start = f"{kind.key(batch.round)}/"
            rows = _accuracies(batch, start, known[batch.run])
            found += sorted(rows, key=lambda row: row.answers)
    return tuple(found[::-1][:MOST_ACCURACIES])


def _accuracies(batch: TaskBatch, start: str, measured: Sequence[Series]) -> Iterator[AccuracyView]:
    of = {(each.stage, each.name): each for each in measured if each.stage.startswith(start)}
    for stage in dict.fromkeys(stage for stage, _ in of):
        right, counts = (of[stage, name] for name in MEASURED)
        for number, value, count in zip(right.steps, right.values, counts.values, strict=True):
            share = wilson(value * count, count)
            yield AccuracyView(
                key=f"{batch.number}/{stage}/{number}",
                name=batch.name,
                axis=stage.removeprefix(start),
                answers=number,
                value=share.value,
                low=share.low,
                high=share.high,
                heldout=count,
                enough=count >= MIN_HELDOUT,
            )


def people_of(workspace: Workspace, project: str, activity: Activity) -> tuple[PersonView, ...]:
    """Everybody who gave an answer or holds a question, who gave most first."""
    names = names_of(workspace, project)
    shares = workspace.batches.shares(project)
    at_work = {annotator for _, annotator in activity.held}
    found = []
    for annotator in {*shares, *at_work}:
        done, skipped = shares.get(annotator, (0, 0))
        found.append(
            PersonView(
                name=names.get(annotator, annotator),
                gone=annotator not in names,
                done=done,
                skipped=skipped,
                at_work=annotator in at_work,
            )
        )
    return tuple(sorted(found, key=lambda person: (-person.done, person.name)))

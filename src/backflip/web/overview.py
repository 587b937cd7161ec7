"""How far a project is: what its lead's first page shows, and what is sent when it changes."""

from datetime import UTC, datetime
from typing import Literal

from backflip.feedback.store import Batch, Project, Workspace
from backflip.feedback.store.activity import Activity, read_activity
from backflip.feedback.store.batches import HOUR
from backflip.records import Record
from backflip.web.lead import names_of

HOURS = 24


class BatchView(Record):
    """A batch as it stands.

    `wanted` are the answers asked for, `held` the questions that somebody has on the screen now,
    and `left` those that nobody has taken. A batch of checks wants nothing: everybody is asked.
    """

    number: int
    name: str
    purpose: Literal["labels", "checks"]
    state: Literal["open", "paused", "closed"]
    items: int
    wanted: int
    done: int
    skipped: int
    held: int
    left: int


class PersonView(Record):
    """What somebody gave. `name` is the pseudonym where the user is gone."""

    name: str
    gone: bool
    done: int
    skipped: int
    at_work: bool


class HourView(Record):
    """Answers of an hour that began at `start`, in UTC."""

    start: datetime
    answers: int


class Overview(Record):
    """A project as it stands.

    `used` is what counts against the `budget`, None for no end: answers, and questions that are
    held. `hours` are the last ones, the present one at the end.
    """

    batches: tuple[BatchView, ...]
    people: tuple[PersonView, ...]
    hours: tuple[HourView, ...]
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
        wanted=sum(batch.wanted for batch in labels),
        done=done,
        skipped=sum(batch.skipped for batch in labels),
        held=held,
        budget=project.settings.budget,
        used=done + held,
    )


def batch_view(batch: Batch, activity: Activity) -> BatchView:
    """A batch with what is held of it now."""
    held = sum(number for (of, _), number in activity.held.items() if of == batch.number)
    left = max(batch.wanted - batch.done - batch.skipped - held, 0)
    shown = batch.model_dump(include=set(BatchView.model_fields))
    return BatchView(**shown, held=held, left=0 if batch.purpose == "checks" else left)


def people_of(workspace: Workspace, project: str, activity: Activity) -> tuple[PersonView, ...]:
    """Everybody who gave an answer or holds a question, who gave most first."""
    names = names_of(workspace)
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

"""Whether what a person sends answers the question that the person was handed."""

from typing import Any

from backflip.errors import WorkspaceError
from backflip.records.feedback import FeedbackBase
from backflip.workspace.labelling.tasks import Task


def fit_entry(task: Task, entry: FeedbackBase, attempt: int) -> FeedbackBase:
    """The entry with the order shown and its key.

    Args:
        task: as it was handed out.
        entry: of the person who holds it.
        attempt: how often an answer was taken back before.

    Raises:
        WorkspaceError: it answers another task.
    """
    asked, said = set(task.sample_ids), set(entry.sample_ids)
    kind = entry.kind_name()
    faults = {
        f"a {kind}, not a {task.kind}": kind != task.kind,
        f"by {entry.annotator}, not {task.annotator}": entry.annotator != task.annotator,
        f"on the axis {entry.axis!r}, not {task.axis!r}": entry.axis != task.axis,
        "about other samples": not entry.answers(asked),
    }
    for fault, found in faults.items():
        if found:
            raise WorkspaceError(f"the answer to {task.id} is {fault}")
    update: dict[str, Any] = {"key": f"{task.id}/{attempt}", "guideline": task.guideline}
    if asked == said and len(asked) > 1:
        update["shown"] = tuple(entry.sample_ids.index(name) for name in task.shown_ids)
    return entry.model_copy(update=update)


def fit_extra(task: Task, extra: FeedbackBase, key: str, place: int) -> FeedbackBase:
    """What was said beside an answer, under a key of its own.

    Args:
        task: as it was handed out.
        extra: what was said.
        key: of the answer.
        place: of this among all that was said beside it.

    Raises:
        WorkspaceError: it is of somebody else, or about something else.
    """
    if extra.annotator != task.annotator:
        raise WorkspaceError(
            f"what is said beside {task.id} is by {extra.annotator}, not {task.annotator}"
        )
    if not set(task.sample_ids) & set(extra.sample_ids):
        raise WorkspaceError(f"what is said beside {task.id} is about other samples")
    return extra.model_copy(update={"key": f"{key}/{place}", "guideline": task.guideline})

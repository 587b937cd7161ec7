"""Batches of questions: putting them up, pausing and closing them, and checks of attention."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic import Field, WrapValidator

from backflip.errors import ConflictError, NotFoundError, WorkspaceError
from backflip.feedback.teachers import make_items
from backflip.records import Completion, Prompt, Record, Sample, content_id
from backflip.records.feedback import GENERAL_AXIS, KINDS, FeedbackBase
from backflip.web.access import Lead
from backflip.web.guard import Router
from backflip.web.lead import lead_page
from backflip.web.overview import BatchView, batch_view
from backflip.web.parameters import Number
from backflip.workspace import Project, Task, TaskBatch, Workspace
from backflip.workspace.database.columns import now
from backflip.workspace.labelling.activity import read_activity
from backflip.workspace.labelling.attention_checks import (
    Agreed,
    agreed_questions,
    check_fields,
    right_answer,
)
from backflip.workspace.labelling.replies import ATTENTION, Wanted, count_replies, find_replies

router = Router(tags=["questions"])
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Axis = Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]
Text = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"\S")]
SampleId = Annotated[str, Field(min_length=1, max_length=200)]
if TYPE_CHECKING:
    Kind = CheckKind = str
else:
    Kind = Literal[tuple(KINDS)]
    CheckKind = Literal[tuple(check_fields())]
AnyKind = Annotated[Kind, WrapValidator(lambda name, check: _unless_in(KINDS, name, check))]
"""The name of a kind; one that was defined after this module was read will do as well."""
AnyCheckKind = Annotated[
    CheckKind, WrapValidator(lambda name, check: _unless_in(check_fields(), name, check))
]
MOST_PROMPTS = 10_000


class NewBatch(Record):
    """Questions about replies that the workspace holds.

    Of the K replies to a prompt, a comparison takes disjoint pairs, a ranking and a demonstration
    all of them, and every other kind each by itself.
    """

    name: Name
    kind: AnyKind
    axis: Axis | None = Field(default=None, description="what to judge; None: the kind's own")
    models: tuple[SampleId, ...] = Field(
        default=(), max_length=1000, description="who made the replies; none: all that are there"
    )
    prompts: int = Field(ge=1, le=MOST_PROMPTS, strict=True)
    which: Literal["random", "newest"] = "random"
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True, description="of what is drawn")
    samples_per_prompt: int = Field(default=2, ge=1, le=8, strict=True)
    overlap: int | None = Field(
        default=None, ge=1, le=1000, strict=True, description="people a question; None: the rules'"
    )


class BatchChange(Record):
    """Hand out, hand out nothing for now, or never again."""

    state: Literal["open", "paused", "closed"]


class Check(Record):
    """A question with its answer, as `{"choice": "a"}`: the samples count as they stand here."""

    kind: AnyCheckKind
    samples: tuple[SampleId, ...] = Field(min_length=1, max_length=8)
    axis: Axis | None = None
    expected: dict[str, Any] = Field(description="the field that tells whether an answer is right")


class NewChecks(Record):
    """Questions whose answers are known."""

    name: Name
    items: tuple[Check, ...] = Field(min_length=1, max_length=5000)


class AgreedChecks(Record):
    """Checks out of answered questions of the project on whose answer people agreed."""

    name: Name
    kind: AnyCheckKind
    axis: Axis | None = None
    number: int = Field(ge=1, le=1000, strict=True, description="at most so many")
    min_answers: int = Field(default=2, ge=2, le=1000, strict=True)
    share: float = Field(default=1.0, gt=0.5, le=1, description="of the answers, that are the same")


class Attention(Record):
    """A question that everybody who reads it answers alike: one reply is obviously right."""

    prompt: Text
    right: Text
    wrong: Text


class PutUp(Record):
    """A batch, and how many questions were added to it."""

    batch: BatchView
    added: int


@router.get("/projects/{project}/questions", include_in_schema=False)
def questions_page(request: Request, project: str, visitor: Lead) -> Response:
    """The batches of a project, and forms to put up more."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    names = {model.id: model.name for model in workspace.models.readable()}
    counted = count_replies(workspace.database)
    return lead_page(
        request,
        "questions.html",
        visitor,
        known,
        batches=_views(workspace, project),
        models=[
            {"id": model, "name": names.get(model, model), "number": number}
            for model, number in counted.items()
            if model is not None
        ],
        num_samples=sum(counted.values()),
        kinds={name: _asked(kind) for name, kind in KINDS.items()},
        check_kinds=list(check_fields()),
        example=_example(),
    )


@router.get("/api/projects/{project}/batches")
def list_batches(project: str, visitor: Lead) -> list[BatchView]:
    """The batches of a project, oldest first."""
    visitor.context.workspace.projects.get(project)
    return _views(visitor.context.workspace, project)


@router.post("/api/projects/{project}/batches", status_code=201)
def create_batch(project: str, new: NewBatch, visitor: Lead) -> PutUp:
    """Put up questions about replies of the workspace.

    Where fewer prompts have so many different replies, the batch is smaller.
    """
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    axis = _axis(new.kind, new.axis)
    least = KINDS[new.kind].question.samples[0]
    if new.samples_per_prompt < least:
        raise WorkspaceError(f"a {new.kind} needs at least {least} replies to each prompt")
    wanted = Wanted(new.models, new.prompts, new.samples_per_prompt, new.which)
    groups = find_replies(workspace.database, wanted, np.random.default_rng(new.seed))
    if not groups:
        raise WorkspaceError(
            f"no prompt has {new.samples_per_prompt} different replies of these models",
            hint="Choose more models, or fewer replies to each prompt.",
        )
    found = workspace.samples.get(name for group in groups for name in group)
    tasks = [
        Task(kind=item.kind, axis=axis, sample_ids=tuple(sample.id for sample in item.samples))
        for item in make_items(list(found.values()), (new.kind,), (axis,))
    ]
    return _put(workspace, known, new.name, tasks, overlap=new.overlap or known.settings.overlap)


@router.patch("/api/projects/{project}/batches/{number}")
def change_batch(project: str, number: Number, change: BatchChange, visitor: Lead) -> BatchView:
    """Open, pause or close a batch. A closed one stays closed."""
    workspace = visitor.context.workspace
    batch = _batch(workspace, project, number)
    if batch.state == "closed" and change.state != "closed":
        raise ConflictError(
            f"the batch {batch.name!r} is closed for good", hint="Put up its questions anew."
        )
    workspace.batches.set_state(batch.id, change.state)
    return _view(workspace, project, number)


@router.post("/api/projects/{project}/checks", status_code=201)
def create_checks(project: str, new: NewChecks, visitor: Lead) -> PutUp:
    """Put up questions whose answers are known. Nothing is kept if one of them cannot be."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    found = workspace.samples.get(name for item in new.items for name in item.samples)
    tasks = []
    for place, item in enumerate(new.items):
        prompts = {found[name].prompt_id for name in item.samples if name in found}
        if len(prompts) > 1:
            raise WorkspaceError(f"check {place + 1}: its samples reply to different prompts")
        tasks.append(_check(place, item))
    return _put(workspace, known, new.name, tasks, purpose="checks")


@router.post("/api/projects/{project}/checks/agreed", status_code=201)
def create_agreed_checks(project: str, new: AgreedChecks, visitor: Lead) -> PutUp:
    """Put up answered questions on which people agreed, with that answer, as checks."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    wanted = Agreed(new.kind, _axis(new.kind, new.axis), new.min_answers, new.share)
    tasks = agreed_questions(workspace.database, project, wanted, new.number)
    if not tasks:
        raise WorkspaceError(
            f"people agreed on no {new.kind} on the axis {wanted.axis!r}, of those with "
            f"{new.min_answers} answers or more, that is no check yet",
            hint="Ask for fewer answers, or for a smaller share of them.",
        )
    return _put(workspace, known, new.name, tasks, purpose="checks")


@router.post("/api/projects/{project}/checks/attention", status_code=201)
def create_attention_check(project: str, new: Attention, visitor: Lead) -> PutUp:
    """Add a check of attention to those of the project; nothing is ever learned from it."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    if new.right.strip() == new.wrong.strip():
        raise WorkspaceError("the two replies are the same", hint="Make one obviously right.")
    prompt = Prompt.from_text(new.prompt.strip(), source=ATTENTION, split="heldout")
    met = workspace.prompts.get([prompt.id]).get(prompt.id)
    if met is not None and met.source != ATTENTION:
        raise ConflictError(
            "this prompt is asked elsewhere in the workspace, where its replies are learned from",
            hint="Write another one.",
        )
    replies = [
        Sample.of(prompt, Completion(text=text.strip(), finish="human"))
        for text in (new.right, new.wrong)
    ]
    workspace.samples.add(replies)
    task = Task(
        kind="comparison",
        axis=ATTENTION,
        sample_ids=(replies[0].id, replies[1].id),
        expected={"choice": "a"},
    )
    run = f"{known.id}-{ATTENTION}"
    earlier = [batch for batch in workspace.batches.all(project) if batch.run == run]
    closed = sum(batch.state == "closed" for batch in earlier)
    added = workspace.queue.put(
        run, closed, [task], project=project, name="Attention checks", purpose="checks"
    )
    if not added:
        raise ConflictError("this check is there already")
    return PutUp(batch=_of_run(workspace, project, run, closed), added=added)


def _asked(kind: type[FeedbackBase]) -> dict[str, Any]:
    """What the page must know of a kind to put up questions of it."""
    question = kind.question
    return {
        "title": question.title,
        "axis": kind.own_axis() or "",
        "least": question.samples[0],
        "usual": question.usual,
    }


def _unless_in(known: Collection[str], name: Any, check: Callable[[Any], Any]) -> Any:
    return name if isinstance(name, str) and name in known else check(name)


def _put(
    workspace: Workspace,
    project: Project,
    name: str,
    tasks: list[Task],
    *,
    purpose: Literal["labels", "checks"] = "labels",
    overlap: int = 1,
) -> PutUp:
    """A batch of its own, in a run of its own."""
    run = content_id("batch", project.id, name, now().isoformat())
    added = workspace.queue.put(
        run, 0, tasks, overlap, project=project.id, name=name.strip(), purpose=purpose
    )
    return PutUp(batch=_of_run(workspace, project.id, run, 0), added=added)


def _axis(kind: str, axis: str | None) -> str:
    """The axis of questions of a kind; some kinds have one of their own."""
    own = KINDS[kind].own_axis()
    if axis == ATTENTION:
        raise WorkspaceError(
            f"the axis {ATTENTION!r} is that of attention checks", hint="Name another one."
        )
    if own is not None and axis not in (None, own):
        raise WorkspaceError(f"a {kind} is always on the axis {own!r}, never on {axis!r}")
    return axis or own or GENERAL_AXIS


def _check(place: int, item: Check) -> Task:
    """A check, and an error that says which one it is if its answer is none."""
    axis, field = _axis(item.kind, item.axis), check_fields()[item.kind]
    task = Task(kind=item.kind, axis=axis, sample_ids=item.samples, expected=item.expected)
    try:
        right = right_answer(task).model_dump()[field]
    except WorkspaceError as error:
        raise WorkspaceError(f"check {place + 1}: {error.what}", hint=error.hint) from None
    return task.model_copy(update={"expected": {field: right}})


def _views(workspace: Workspace, project: str) -> list[BatchView]:
    activity = read_activity(workspace.database, project, now=workspace.queue.clock(), hours=1)
    return [batch_view(batch, activity) for batch in workspace.batches.all(project)]


def _view(workspace: Workspace, project: str, number: int) -> BatchView:
    return next(view for view in _views(workspace, project) if view.number == number)


def _of_run(workspace: Workspace, project: str, run: str, round: int) -> BatchView:  # noqa: A002
    batches = workspace.batches.all(project)
    found = next(batch for batch in batches if (batch.run, batch.round) == (run, round))
    return _view(workspace, project, found.number)


def _batch(workspace: Workspace, project: str, number: int) -> TaskBatch:
    for batch in workspace.batches.all(project):
        if batch.number == number:
            return batch
    raise NotFoundError(f"no batch {number} in this project")


def _example() -> str:
    return (
        '[{"kind": "comparison", "samples": ["sample-1", "sample-2"],\n'
        '  "expected": {"choice": "a"}}]'
    )

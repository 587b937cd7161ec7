"""The page on which people answer, and what it sends."""

from functools import partial
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import Response
from markupsafe import Markup
from pydantic import Field

from backflip.records import Record
from backflip.web.access import Annotator, AnyUser, Visitor, check_role
from backflip.web.forms import AnyAnswer, WebTask, entries_of
from backflip.web.guard import Router
from backflip.web.pages import embedded, page
from backflip.web.pictures import PICTURE, picture
from backflip.web.rendering import render
from backflip.web.texts import catalogue, language_of
from backflip.web.views import samples_of, task_view
from backflip.workspace import Task

router = Router(tags=["labelling"])
TaskIds = Annotated[tuple[str, ...], Field(default=(), max_length=8)]
MAX_SECONDS = 86_400.0


class Wanted(Record):
    """What a page asks for: a task besides those that it has."""

    besides: TaskIds


class Given(Record):
    """An answer.

    `seconds` is the time that the page was looked at; `wants_next` asks for the next task in the
    same breath, besides those that the page has.
    """

    answer: AnyAnswer
    seconds: float | None = Field(default=None, ge=0, le=MAX_SECONDS)
    wants_next: bool = False
    besides: TaskIds


class Skipped(Record):
    """Why a task was not answered."""

    reason: str = Field(default="", max_length=2000)
    wants_next: bool = False
    besides: TaskIds


class Draft(Record):
    """What has been entered so far, as the page keeps it."""

    draft: dict[str, Any] | None


@router.get("/projects/{project}/label", include_in_schema=False)
def label_page(request: Request, project: str, visitor: Annotator) -> Response:
    """The page that shows one task after another."""
    projects = visitor.context.workspace.projects
    known = projects.get(project)
    guideline = next(iter(projects.guidelines(project)), None)
    asked = {"reasons", "marks", "critique", "correction", "safety"}
    language = language_of(request, visitor.user.preferences.get("language"))
    return page(
        request,
        "label.html",
        visitor,
        project=known,
        guideline=guideline,
        guideline_html=Markup(render(guideline.text).html) if guideline else "",  # noqa: S704
        rules=embedded(known.settings.model_dump(include=asked)),
        texts=embedded(catalogue(language)),
    )


@router.post("/api/projects/{project}/next")
def next_task(project: str, wanted: Wanted, visitor: Annotator) -> dict[str, Any]:
    """The next task for the user, or null; one that the user holds already comes first."""
    return _told(visitor, project, wanted.besides)


@router.post("/api/tasks/{task}/answer")
def answer(task: str, given: Given, visitor: AnyUser) -> dict[str, Any]:
    """Keep an answer; when this returns, it is on disk. The same answer again changes nothing."""
    held = _held(visitor, task)
    workspace = visitor.context.workspace
    sheet = WebTask(held, partial(samples_of, workspace, held), seconds=given.seconds)
    entry, extras = entries_of(given.answer, sheet)
    workspace.queue.answer(held.id, visitor.user.annotator, entry, extras, sheet.written)
    return _after(visitor, held.project, given.wants_next, given.besides)


@router.post("/api/tasks/{task}/skip")
def skip(task: str, skipped: Skipped, visitor: AnyUser) -> dict[str, Any]:
    """End a task without an answer."""
    held = _held(visitor, task)
    visitor.context.workspace.queue.skip(held.id, visitor.user.annotator, skipped.reason)
    return _after(visitor, held.project, skipped.wants_next, skipped.besides)


@router.put("/api/tasks/{task}/draft")
def save_draft(task: str, draft: Draft, visitor: AnyUser) -> dict[str, Any]:
    """Keep what has been entered so far; it comes back with the task."""
    held = _held(visitor, task)
    visitor.context.workspace.queue.save_draft(held.id, visitor.user.annotator, draft.draft)
    return {"saved": True}


@router.post("/api/projects/{project}/undo")
def undo(project: str, visitor: Annotator) -> dict[str, Any]:
    """Take the user's last answer or skip in the project back; its task is handed out again."""
    workspace = visitor.context.workspace
    task = workspace.queue.undo(visitor.user.annotator, project=project)
    shown = None if task is None else task_view(workspace, task)
    return {"task": shown, "given": _given(visitor, project)}


@router.get("/api/tasks/{task}/images/{image}", **PICTURE)
def show_image(task: str, image: str, visitor: AnyUser) -> Response:
    """An image in the question, for whom it was handed to."""
    held = _held(visitor, task)
    workspace = visitor.context.workspace
    found = samples_of(workspace, held)
    return picture(workspace, (sample.prompt for sample in found.values()), image)


def _held(visitor: Visitor, task_id: str) -> Task:
    """A task that was handed to the user, who is a member of its project still."""
    held = visitor.context.workspace.queue.held(task_id, visitor.user.annotator)
    check_role(visitor.role(held.project), "annotator")
    return held


def _after(
    visitor: Visitor, project: str, wants_next: bool, besides: tuple[str, ...]
) -> dict[str, Any]:
    told = _told(visitor, project, besides) if wants_next else {"given": _given(visitor, project)}
    return {"saved": True, **told}


def _told(visitor: Visitor, project: str, besides: tuple[str, ...]) -> dict[str, Any]:
    workspace = visitor.context.workspace
    task = workspace.queue.next(visitor.user.annotator, project=project, besides=besides)
    shown = None if task is None else task_view(workspace, task)
    return {"task": shown, "given": _given(visitor, project)}


def _given(visitor: Visitor, project: str) -> int:
    """How many of the user's answers in the project stand."""
    return visitor.context.workspace.batches.given(project, visitor.user.annotator)

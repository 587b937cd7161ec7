"""Projects: making and changing them, and the page that shows how far one is."""

from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import Request
from fastapi.responses import Response
from pydantic import Field
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from backflip.errors import BusyError
from backflip.records import Record
from backflip.web.access import Admin, AnyUser, Lead, find_visitor
from backflip.web.guard import Router
from backflip.web.lead import lead_page
from backflip.web.overview import Overview, overview_of
from backflip.workspace import Project

router = Router(tags=["projects"])
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
POLL_SECONDS = 2.0
GRACE_SECONDS = 5.0
"""For an event under way when the server shuts down; then it is cut off."""


class NewProject(Record):
    """What a project is called; the rules begin with their defaults."""

    name: Name


class ProjectChange(Record):
    """What is changed of a project; what is left out stays."""

    name: Name | None = None
    archived: bool | None = Field(default=None, strict=True)


@router.get("/projects/{project}", include_in_schema=False)
def overview_page(request: Request, project: str, visitor: Lead) -> Response:
    """How far a project is; a script keeps the page up to date."""
    known = visitor.context.workspace.projects.get(project)
    shown = overview_of(visitor.context.workspace, known)
    return lead_page(request, "overview.html", visitor, known, overview=shown)


@router.get("/api/projects")
def list_projects(visitor: AnyUser) -> list[Project]:
    """The projects that the user leads; an administrator leads every one."""
    projects = visitor.context.workspace.projects
    roles = projects.roles(user=visitor.user.id)
    return [p for p in projects.all() if visitor.user.admin or roles.get(p.id) == "lead"]


@router.post("/api/projects", status_code=201)
def create_project(new: NewProject, visitor: Admin) -> Project:
    """Make a project."""
    return visitor.context.workspace.projects.create(new.name.strip())


@router.get("/api/projects/{project}")
def get_project(project: str, visitor: Lead) -> Project:
    """A project and its rules."""
    return visitor.context.workspace.projects.get(project)


@router.patch("/api/projects/{project}")
def change_project(project: str, change: ProjectChange, visitor: Lead) -> Project:
    """Rename a project, archive it or take it out of the archive.

    An archived project hands nothing out; what was said in it stays.
    """
    name = None if change.name is None else change.name.strip()
    return visitor.context.workspace.projects.change(project, name=name, archived=change.archived)


@router.get("/api/projects/{project}/overview")
def get_overview(project: str, visitor: Lead) -> Overview:
    """How far a project is now."""
    workspace = visitor.context.workspace
    return overview_of(workspace, workspace.projects.get(project))


@router.get("/api/projects/{project}/events", response_class=EventSourceResponse)
async def events(request: Request, project: str, visitor: Lead) -> EventSourceResponse:
    """Server-sent events: the overview as JSON, at once and whenever it has changed."""
    await run_in_threadpool(visitor.context.workspace.projects.get, project)
    over = anyio.Event()
    changes = _changes(request, project, over)
    return EventSourceResponse(changes, shutdown_event=over, shutdown_grace_period=GRACE_SECONDS)


async def _changes(
    request: Request, project: str, over: anyio.Event
) -> AsyncIterator[dict[str, str]]:
    """The overview as often as it changes, until the visitor may not see it any more.

    Args:
        request: who asks.
        project: its id.
        over: set when the server shuts down.
    """
    sent = None
    while (shown := await run_in_threadpool(_seen, request, project)) is not None:
        if shown != sent:
            sent = shown
            yield {"data": shown}
        with anyio.move_on_after(POLL_SECONDS):
            await over.wait()
        if over.is_set():
            return


def _seen(request: Request, project: str) -> str | None:
    """The overview as JSON for who asks; None for who does not lead the project any more.

    None too while the database cannot be used.
    """
    try:
        visitor = find_visitor(request)
        if visitor is None or visitor.role(project) != "lead":
            return None
        workspace = visitor.context.workspace
        return overview_of(workspace, workspace.projects.get(project)).model_dump_json()
    except BusyError:
        return None  # the page asks again by itself

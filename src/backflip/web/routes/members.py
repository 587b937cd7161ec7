"""Who takes part in a project, and invitations to it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field

from backflip.errors import NotFoundError
from backflip.records import Record
from backflip.web.access import Lead
from backflip.web.context import context_of
from backflip.web.guard import Router
from backflip.web.lead import lead_page
from backflip.web.parameters import Number
from backflip.workspace import User, Workspace

router = Router(tags=["people"])
DAY = 86_400.0
MemberRole = Literal["annotator", "lead"]


class MemberView(Record):
    """A member of a project, or somebody who was one and has answered, and what it gave there."""

    id: str
    name: str
    role: MemberRole | None = Field(description="null for who has left")
    active: bool
    done: int
    skipped: int


class RoleChange(Record):
    """What a member may do."""

    role: MemberRole


class NewInvite(Record):
    """An invitation to a project."""

    role: MemberRole = "annotator"
    uses: int = Field(default=1, ge=1, le=1000, strict=True, description="people who may take it")
    days: int = Field(default=7, ge=1, le=365, strict=True, description="for which it is good")


class InviteLink(Record):
    """An invitation as it is told once: who opens the address takes part."""

    url: str


class InviteView(Record):
    """An invitation that may still be taken; who made it, where that is known."""

    number: int
    role: MemberRole
    uses: int = Field(description="people who may still take it")
    expires: datetime
    author: str | None
    created: datetime


@router.get("/projects/{project}/people", include_in_schema=False)
def people_page(request: Request, project: str, visitor: Lead) -> Response:
    """The members of a project, the invitations to it, and a form to invite more."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    values = {
        "members": _members(workspace, project),
        "left": _left(workspace, project),
        "invites": open_invites(workspace, project),
    }
    return lead_page(request, "people.html", visitor, known, **values)


@router.get("/api/projects/{project}/members")
def list_members(project: str, visitor: Lead, left: bool = False) -> list[MemberView]:
    """The members of a project by name; then, if `left`, who has answered and is no member now."""
    workspace = visitor.context.workspace
    workspace.projects.get(project)
    return _members(workspace, project) + (_left(workspace, project) if left else [])


@router.put("/api/projects/{project}/members/{user}")
def change_member(project: str, user: str, change: RoleChange, visitor: Lead) -> MemberView:
    """Change what a member may do."""
    workspace = visitor.context.workspace
    workspace.projects.change_role(project, user, change.role)
    return next(member for member in _members(workspace, project) if member.id == user)


@router.delete("/api/projects/{project}/members/{user}")
def remove_member(project: str, user: str, visitor: Lead) -> dict[str, bool]:
    """Take somebody out of a project; what the person said stays."""
    workspace = visitor.context.workspace
    _require_member(workspace, project, user)
    workspace.projects.set_role(project, user, None)
    return {"removed": True}


@router.get("/api/projects/{project}/invites")
def list_invites(project: str, visitor: Lead) -> list[InviteView]:
    """Invitations to the project that may still be taken, oldest first; not their addresses."""
    visitor.context.workspace.projects.get(project)
    return open_invites(visitor.context.workspace, project)


@router.delete("/api/projects/{project}/invites/{number}", status_code=204)
def revoke_invite(project: str, number: Number, visitor: Lead) -> None:
    """End an invitation: its address lets nobody in any more. Who has taken it stays."""
    visitor.context.workspace.people.revoke(project, number)


@router.post("/api/projects/{project}/invites", status_code=201)
def invite(request: Request, project: str, new: NewInvite, visitor: Lead) -> InviteLink:
    """Invite people to a project. The address is told this once."""
    key = visitor.context.workspace.people.invite(
        project, new.role, uses=new.uses, seconds=DAY * new.days, author=visitor.user.id
    )
    return invite_link(request, key)


def invite_link(request: Request, key: str) -> InviteLink:
    """The address of an invitation, where people reach this server."""
    base = context_of(request).settings.public_url or str(request.base_url).rstrip("/")
    return InviteLink(url=f"{base}/join/{key}")


def open_invites(workspace: Workspace, project: str | None) -> list[InviteView]:
    """Invitations that may still be taken, to a project or, for None, to be an administrator."""
    unnamed = set[str]() if project is None else workspace.projects.unnamed(project)
    names = {user.id: user.name for user in workspace.people.all() if user.id not in unnamed}
    return [
        InviteView(
            number=invite.number,
            role=invite.role,
            uses=invite.uses,
            expires=datetime.fromtimestamp(invite.expires, UTC),
            author=names.get(invite.author or ""),
            created=invite.created,
        )
        for invite in workspace.people.invitations(project)
    ]


def _require_member(workspace: Workspace, project: str, user: str) -> None:
    if workspace.projects.role(project, user) is None:
        raise NotFoundError(f"no member {user!r} in this project", hint="Invite the person.")


def _members(workspace: Workspace, project: str) -> list[MemberView]:
    roles = workspace.projects.roles(project=project)
    shares = workspace.batches.shares(project)
    return _views(
        (user, roles[user.id], shares.get(user.annotator, (0, 0)))
        for user in workspace.people.all()
        if user.id in roles
    )


def _left(workspace: Workspace, project: str) -> list[MemberView]:
    """Who has answered, is no member any more, and is named still."""
    others = workspace.projects.roles(project=project).keys() | workspace.projects.unnamed(project)
    shares = workspace.batches.shares(project)
    return _views(
        (user, None, shares[user.annotator])
        for user in workspace.people.all()
        if user.id not in others and user.annotator in shares
    )


def _views(
    found: Iterable[tuple[User, MemberRole | None, tuple[int, int]]],
) -> list[MemberView]:
    """By name, with the numbers of what was answered and skipped."""
    views = [
        MemberView(
            id=user.id, name=user.name, role=role, active=user.active, done=done, skipped=skipped
        )
        for user, role, (done, skipped) in found
    ]
    return sorted(views, key=lambda view: view.name.casefold())

"""All users of the server, for administrators."""

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field

from backflip.records import Record
from backflip.web.access import Admin
from backflip.web.guard import Router
from backflip.web.lead import scripted
from backflip.web.parameters import Number
from backflip.web.routes.members import (
    DAY,
    InviteLink,
    InviteView,
    invite_link,
    open_invites,
)
from backflip.workspace import Workspace

router = Router(tags=["users"])


class UserView(Record):
    """A user as administrators see it; `projects` are the roles by the projects' names."""

    id: str
    name: str
    admin: bool
    active: bool
    created: str
    projects: dict[str, str]


class UserChange(Record):
    """What is changed of a user; what is left out stays."""

    admin: bool | None = Field(default=None, strict=True, description="may do everything")
    active: bool | None = Field(default=None, strict=True, description="may sign in")


class AdminInvite(Record):
    """An invitation for one person who shall be able to do everything."""

    days: int = Field(default=7, ge=1, le=365, strict=True, description="for which it is good")


@router.get("/admin/people", include_in_schema=False)
def users_page(request: Request, visitor: Admin) -> Response:
    """All users, and the invitations to be an administrator."""
    workspace = visitor.context.workspace
    users, invites = _users(workspace), open_invites(workspace, None)
    return scripted(request, "users.html", visitor, users=users, invites=invites)


@router.get("/api/users")
def list_users(visitor: Admin) -> list[UserView]:
    """All users, oldest first."""
    return _users(visitor.context.workspace)


@router.patch("/api/users/{user}")
def change_user(user: str, change: UserChange, visitor: Admin) -> UserView:
    """Make a user an administrator or none, or let it sign in or not.

    There is always one administrator left who may sign in.
    """
    workspace = visitor.context.workspace
    workspace.people.get(user)
    values = change.model_dump(exclude_none=True)
    if values:
        workspace.people.change(user, **values)
    return next(view for view in _users(workspace) if view.id == user)


@router.get("/api/invites")
def list_admin_invites(visitor: Admin) -> list[InviteView]:
    """Invitations to be an administrator that may still be taken; not their addresses."""
    return open_invites(visitor.context.workspace, None)


@router.delete("/api/invites/{number}", status_code=204)
def revoke_admin_invite(number: Number, visitor: Admin) -> None:
    """End an invitation to be an administrator: its address lets nobody in any more."""
    visitor.context.workspace.people.revoke(None, number)


@router.post("/api/invites", status_code=201)
def invite_admin(request: Request, new: AdminInvite, visitor: Admin) -> InviteLink:
    """Invite an administrator. The address is told this once."""
    key = visitor.context.workspace.people.invite(
        None, "lead", seconds=DAY * new.days, author=visitor.user.id
    )
    return invite_link(request, key)


def _users(workspace: Workspace) -> list[UserView]:
    projects = workspace.projects.all()
    roles = {project.name: workspace.projects.roles(project=project.id) for project in projects}
    return [
        UserView(
            id=user.id,
            name=user.name,
            admin=user.admin,
            active=user.active,
            created=user.created.isoformat(),
            projects={name: of[user.id] for name, of in roles.items() if user.id in of},
        )
        for user in workspace.people.all()
    ]

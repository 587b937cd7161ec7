"""Who asks, and whether they may: every route says by one of these what it needs.

A browser signs in with a cookie and proves with a token of its session that a change was meant; a
program brings a personal token. `Needs` says what a role must be; an administrator is everything.
All of it is asked before the body is read, but for a token that only the body holds.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from backflip.web.bodies import FORM, content_type
from backflip.web.context import Context, context_of
from backflip.web.guard import Gate
from backflip.web.security import same
from backflip.workspace import Role, User

COOKIE = "backflip"
GUEST_COOKIE = "backflip-guest"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
Level = Literal["nobody", "user", "annotator", "lead", "admin"]


class SignInError(Exception):
    """Nobody is signed in."""


@dataclass(frozen=True)
class Visitor:
    """Who asks: a user, and the token that forms carry; None for a program's request."""

    user: User
    csrf: str | None
    context: Context

    def role(self, project: str) -> Role | None:
        """What the user may do in a project; an administrator leads every one."""
        if self.user.admin:
            return "lead"
        return self.context.workspace.projects.role(project, self.user.id)


def find_visitor(request: Request) -> Visitor | None:
    """Who asks; None for a guest."""
    context = context_of(request)
    people = context.workspace.people
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        user = people.of_token(key.strip())
        return None if user is None else Visitor(user, None, context)
    key = context.signer.read(request.cookies.get(COOKIE))
    session = people.session(key) if key else None
    return None if session is None else Visitor(session.user, session.csrf, context)


async def sent_token(request: Request) -> str | None:
    """The token that a change carries: in a header, or in a form, which is read for it."""
    header = request.headers.get("x-csrf-token")
    if header is not None or content_type(request) != FORM:
        return header
    form = await request.form()
    field = form.get("csrf")
    return field if isinstance(field, str) else None


async def check_token(request: Request, expected: str | None, *, early: bool) -> None:
    """Refuse a change whose token is missing or another; `early`: unless it is in a form."""
    in_form = "x-csrf-token" not in request.headers and content_type(request) == FORM
    if early and in_form:
        return
    if not same(expected, await sent_token(request)):
        raise HTTPException(403, "The page is too old. Load it again.")


class Needs(Gate):
    """What a route needs; depends on it to get the `Visitor`.

    Args:
        level: "user" for anybody who is signed in; "annotator" and "lead" for a role in the
            project that the path names; "admin" for somebody who may do everything.
    """

    def __init__(self, level: Level):
        self.level = level

    async def admit(self, request: Request) -> None:
        """Refuse who is not signed in, lacks the role, or sends a token that is not the page's."""
        visitor = await run_in_threadpool(find_visitor, request)
        if visitor is None:
            raise SignInError
        project = request.path_params.get("project")
        if self.level == "admin" and not visitor.user.admin:
            raise HTTPException(403, "Only an administrator may do this.")
        if self.level in ("annotator", "lead") and project is not None:
            role = await run_in_threadpool(visitor.role, project)
            check_role(role, self.level)
        if _proves(request, visitor):
            await check_token(request, visitor.csrf, early=True)
        request.state.visitor = visitor

    async def __call__(self, request: Request) -> Visitor:
        visitor: Visitor = request.state.visitor
        if _proves(request, visitor):
            await check_token(request, visitor.csrf, early=False)
        return visitor


class Guest(Gate):
    """What a guest's form needs: the cookie that came with it, and the token that it proves."""

    async def admit(self, request: Request) -> None:
        """Refuse who has never been given a form, and a token that is not the form's."""
        kept = context_of(request).signer.read(request.cookies.get(GUEST_COOKIE))
        if kept is None:
            raise HTTPException(403, "The page is too old. Load it again.")
        await check_token(request, kept, early=True)
        request.state.guest = kept

    async def __call__(self, request: Request) -> None:
        await check_token(request, request.state.guest, early=False)


def _proves(request: Request, visitor: Visitor) -> bool:
    """Whether a request must prove that it was meant: a change by a browser."""
    return request.method not in SAFE_METHODS and visitor.csrf is not None


def check_role(role: Role | None, level: Level) -> None:
    """Refuse who is no member, as if the project were not there, and an annotator who must lead."""
    if role is None:
        raise HTTPException(404, "There is no such project among yours.")
    if level == "lead" and role != "lead":
        raise HTTPException(403, "Only a lead of the project may do this.")


AnyUser = Annotated[Visitor, Depends(Needs("user"))]
Annotator = Annotated[Visitor, Depends(Needs("annotator"))]
Lead = Annotated[Visitor, Depends(Needs("lead"))]
Admin = Annotated[Visitor, Depends(Needs("admin"))]

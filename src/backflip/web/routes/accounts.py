"""Signing in and out, invitations, and what a user may change of itself."""

from typing import Annotated

from fastapi import Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from backflip.errors import NotFoundError
from backflip.records import Record
from backflip.web.access import COOKIE, AnyUser, Guest, find_visitor
from backflip.web.context import context_of
from backflip.web.guard import Router
from backflip.web.pages import THEMES, page, set_cookie
from backflip.web.parameters import Number, Place
from backflip.web.texts import languages
from backflip.workspace import Invite

router = Router(tags=["accounts"])
Name = Annotated[str, Form(min_length=1, max_length=200)]
Password = Annotated[str, Form(max_length=1000)]


class Invited(Guest):
    """What the form of an invitation needs: beside the rest that there is such an invitation."""

    async def admit(self, request: Request) -> None:
        await super().admit(request)
        await run_in_threadpool(_invitation, request, request.path_params["key"])


def local(address: str) -> str:
    """An address on this site, else the home page: nobody is sent elsewhere after signing in."""
    fine = (
        address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    )
    return address if fine else "/"


@router.get("/login", include_in_schema=False)
def login_page(request: Request, next: Place = "/") -> Response:  # noqa: A002
    """The form to sign in."""
    return page(request, "login.html", next=local(next), fault=None, name="")


@router.post("/login", include_in_schema=False, dependencies=[Depends(Guest())])
def login(
    request: Request,
    name: Name,
    password: Password,
    next: Annotated[str, Form(max_length=2000)] = "/",  # noqa: A002
) -> Response:
    """Sign in by name and password."""
    context = context_of(request)
    address = request.client.host if request.client else "unknown"
    user = context.authenticator.enter(name, password, address)
    if user is None:
        return page(request, "login.html", status=403, next=local(next), fault="unknown", name=name)
    return signed_in(request, user.id, local(next))


@router.post("/logout", include_in_schema=False)
def logout(request: Request, visitor: AnyUser) -> Response:
    """Sign out of this browser."""
    key = visitor.context.signer.read(request.cookies.get(COOKIE))
    if key:
        visitor.context.workspace.people.end_session(key)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE)
    return response


@router.get("/join/{key}", include_in_schema=False)
def join_page(request: Request, key: str) -> Response:
    """An invitation: make an account, or take it with the one that is signed in."""
    invite, project = _invitation(request, key)
    visitor = find_visitor(request)
    return page(request, "join.html", visitor, key=key, invite=invite, project=project, name="")


@router.post("/join/{key}", include_in_schema=False, dependencies=[Depends(Invited())])
def join(request: Request, key: str, name: Name, password: Password) -> Response:
    """Make an account by an invitation."""
    context = context_of(request)
    invite, _ = _invitation(request, key)
    hashed = context.passwords.hash(password)
    user = context.workspace.people.join(key, name=name.strip(), password=hashed)
    return signed_in(request, user.id, _first_page(invite))


@router.post("/join/{key}/mine", include_in_schema=False)
def join_as_user(request: Request, key: str, visitor: AnyUser) -> Response:
    """Take an invitation with the account that is signed in."""
    invite, _ = _invitation(request, key)
    visitor.context.workspace.people.join(key, user=visitor.user.id)
    return RedirectResponse(_first_page(invite), 303)


@router.get("/account", include_in_schema=False)
def account_page(request: Request, visitor: AnyUser, saved: bool = False) -> Response:
    """A user's own settings."""
    tokens = visitor.context.workspace.people.tokens(visitor.user.id)
    return page(request, "account.html", visitor, tokens=tokens, new_token=None, saved=saved)


@router.post("/account/preferences", include_in_schema=False)
def change_preferences(
    visitor: AnyUser,
    language: Annotated[str, Form(max_length=20)] = "",
    theme: Annotated[str, Form(max_length=20)] = "auto",
) -> Response:
    """Language and colours; an empty language is the browser's."""
    if (language and language not in languages()) or theme not in THEMES:
        raise HTTPException(422, "There is no such language or theme.")
    chosen = {"theme": theme, **({"language": language} if language else {})}
    visitor.context.workspace.people.change(visitor.user.id, preferences=chosen)
    return RedirectResponse("/account?saved=true", 303)


@router.post("/account/password", include_in_schema=False)
def change_password(request: Request, visitor: AnyUser, old: Password, new: Password) -> Response:
    """A new password; every browser is signed out but this one."""
    context = visitor.context
    if not context.passwords.fits(visitor.user.password, old):
        raise HTTPException(403, "The old password is another one.")
    context.workspace.people.change(visitor.user.id, password=context.passwords.hash(new))
    return signed_in(request, visitor.user.id, "/account?saved=true")


@router.post("/account/tokens", include_in_schema=False)
def add_token(
    request: Request, visitor: AnyUser, name: Annotated[str, Form(min_length=1, max_length=200)]
) -> Response:
    """A key for the user's programs, shown this once."""
    people = visitor.context.workspace.people
    key = people.add_token(visitor.user.id, name)
    tokens = people.tokens(visitor.user.id)
    return page(request, "account.html", visitor, tokens=tokens, new_token=key, saved=False)


@router.post("/account/tokens/{number}/drop", include_in_schema=False)
def drop_token(visitor: AnyUser, number: Number) -> Response:
    """Make a key useless."""
    if not visitor.context.workspace.people.drop_token(visitor.user.id, number):
        raise NotFoundError("there is no such token among yours")
    return RedirectResponse("/account?saved=true", 303)


class Me(Record):
    """Who a program is, as the server sees it."""

    name: str
    admin: bool
    roles: dict[str, str] = Field(description="role in each project")


@router.get("/api/me")
def me(visitor: AnyUser) -> Me:
    """Who is signed in."""
    roles = visitor.context.workspace.projects.roles(user=visitor.user.id)
    return Me(name=visitor.user.name, admin=visitor.user.admin, roles=dict(roles))


def _invitation(request: Request, key: str) -> tuple[Invite, str | None]:
    workspace = context_of(request).workspace
    invite = workspace.people.invitation(key)
    if invite is None:
        raise NotFoundError("this invitation is used up or too old", hint="Ask for a new one.")
    name = workspace.projects.get(invite.project).name if invite.project else None
    return invite, name


def _first_page(invite: Invite) -> str:
    return "/" if invite.project is None else f"/projects/{invite.project}/label"


def signed_in(request: Request, user: str, where: str) -> Response:
    """Start a session in this browser and go to a page."""
    context = context_of(request)
    seconds = 3600 * context.settings.session_hours
    key, _ = context.workspace.people.start_session(user, seconds)
    response = RedirectResponse(where, 303)
    set_cookie(request, response, COOKIE, key, seconds)
    return response

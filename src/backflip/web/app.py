"""The application: its routes, and how errors are told."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from backflip import __version__
from backflip.config import ServerSettings
from backflip.errors import (
    FREE_SPACE,
    BackflipError,
    BusyError,
    ConflictError,
    DamageError,
    NotFoundError,
)
from backflip.records import Record
from backflip.web import routes
from backflip.web.access import SignInError
from backflip.web.context import HERE, Context
from backflip.web.headers import HttpMetrics, SecurityMiddleware
from backflip.web.pages import page
from backflip.web.security import TooManyAttemptsError
from backflip.workspace import Workspace


class Fault(Record):
    """What went wrong, and what to do about it."""

    what: str
    hint: str | None


class Told(Record):
    """A request that was refused."""

    error: Fault


FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Told, "description": "It cannot be done so"},
    401: {"model": Told, "description": "Nobody is signed in"},
    403: {"model": Told, "description": "The user may not do this, or the page is too old"},
    404: {"model": Told, "description": "It is not there, or not for this user"},
    409: {"model": Told, "description": "What was done before rules it out"},
    408: {"model": Told, "description": "What was sent did not come whole in time"},
    413: {"model": Told, "description": "Too much for one request"},
    422: {"model": Told, "description": "What was sent is no such thing"},
    429: {"model": Told, "description": "Too often; try again later"},
    500: {"model": Told, "description": "What is stored is damaged, or Backflip has a fault"},
    503: {"model": Told, "description": "The database is busy; try again"},
    507: {"model": Told, "description": "The server's disk is full, or may not be written"},
}


def create_app(workspace: Workspace, settings: ServerSettings | None = None) -> FastAPI:
    """The server of a workspace, as an ASGI application.

    Args:
        workspace: that is served; the caller closes it after the server has ended.
        settings: of the server.
    """
    chosen = settings or ServerSettings()
    workspace.queue.lease_seconds = 60 * chosen.lease_minutes
    app = FastAPI(
        title="Backflip",
        version=__version__,
        summary="Collects what people think of what a policy did.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.context = context = Context.of(workspace, chosen)
    app.state.measures = measures = HttpMetrics()
    for router in routes.ROUTERS:
        app.include_router(router, responses=FAULTS)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    if chosen.oidc is not None:
        # Holds what is needed between leaving for the provider and coming back, and no longer.
        app.add_middleware(
            SessionMiddleware,
            secret_key=workspace.people.secret("oidc"),
            session_cookie="backflip-oidc",
            max_age=600,
            same_site="lax",
            https_only=context.secure,
        )
    app.add_middleware(SecurityMiddleware, measures=measures, secure=context.secure)
    app.add_exception_handler(SignInError, _ask_to_sign_in)
    app.add_exception_handler(BackflipError, _tell_mistake)
    app.add_exception_handler(AnyHTTPException, _tell_refusal)
    app.add_exception_handler(ClientDisconnect, _tell_breaking_off)
    app.add_exception_handler(RequestValidationError, _tell_faults)
    app.add_exception_handler(ValidationError, _tell_faults)
    app.add_exception_handler(Exception, _tell_fault_of_ours)
    return app


def _for_program(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _tell(request: Request, status: int, what: str, hint: str | None = None) -> Response:
    """An error as JSON for a program and as a page for a person."""
    if _for_program(request):
        return JSONResponse({"error": {"what": what, "hint": hint}}, status)
    return page(request, "error.html", status=status, what=what, hint=hint)


def _ask_to_sign_in(request: Request, _: Exception) -> Response:
    if _for_program(request):
        return JSONResponse(
            {"error": {"what": "Sign in first.", "hint": "Bring a personal token, or a session."}},
            401,
            {"www-authenticate": "Bearer"},
        )
    back = request.url.path if request.method == "GET" else "/"
    return RedirectResponse(f"/login?next={quote(back)}", 303)


def _tell_mistake(request: Request, error: Exception) -> Response:
    assert isinstance(error, BackflipError)  # noqa: S101  (it is registered for these)
    kinds: Sequence[tuple[type[BackflipError], int]] = (
        (NotFoundError, 404),
        (ConflictError, 409),
        (TooManyAttemptsError, 429),
        (BusyError, 503),
        (DamageError, 500),
    )
    status = next((code for kind, code in kinds if isinstance(error, kind)), 400)
    if error.hint == FREE_SPACE:  # whatever it was that could not be written
        status = 507
    response = _tell(request, status, error.what, error.hint)
    if status in (429, 503):
        response.headers["retry-after"] = "60" if status == 429 else "2"
    return response


def _tell_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)  # noqa: S101
    response = _tell(request, error.status_code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


def _tell_breaking_off(request: Request, _: Exception) -> Response:
    """For the log: whoever sent the half of a request is gone."""
    return _tell(request, 400, "The request broke off.")


def _tell_faults(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | ValidationError)  # noqa: S101
    told = []
    for fault in error.errors()[:20]:
        where = ".".join(str(part) for part in fault["loc"] if part not in ("body", "answer"))
        told.append(f"{where}: {fault['msg']}" if where else fault["msg"])
    # What was sent is not told back: it may be no UTF-8, or a megabyte.
    what = "; ".join(told).encode("utf-8", "replace").decode()
    return _tell(request, 422, what)


def _tell_fault_of_ours(request: Request, _: Exception) -> Response:
    what = "Something went wrong here. It is in the server's log."
    if _for_program(request):
        return JSONResponse({"error": {"what": what, "hint": None}}, 500)
    return PlainTextResponse(what, 500)

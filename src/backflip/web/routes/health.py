"""Whether the server is well, for programs that watch it."""

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from backflip import __version__
from backflip.errors import BackflipError
from backflip.web.access import Admin
from backflip.web.context import context_of
from backflip.web.guard import Router

router = Router(tags=["health"])


@router.get("/healthz")
def healthz(request: Request) -> JSONResponse:
    """200 while the database answers, else 503."""
    try:
        context_of(request).workspace.database.revision()
    except BackflipError:
        return JSONResponse({"status": "no database", "version": __version__}, 503)
    return JSONResponse({"status": "ok", "version": __version__})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, visitor: Admin) -> Response:
    """Measures of the requests of this process, for Prometheus with an administrator's token."""
    text = generate_latest(request.app.state.measures.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)

"""A page from outside of the package: how many answers count, for whoever is signed in."""

from fastapi.responses import HTMLResponse

from backflip.web.access import AnyUser
from backflip.web.guard import Router
from backflip.web.routes import add_router

router = Router(tags=["tally"])


@router.get("/tally", include_in_schema=False)
def tally(visitor: AnyUser) -> HTMLResponse:
    """The number of answers."""
    number = len(visitor.context.workspace.journal.active())
    return HTMLResponse(f"<!doctype html><title>Tally</title><p>{number} answers count.</p>")


add_router(router)

"""Rights and size before the body: no route reads a byte of what somebody may not send.

FastAPI reads the body first and asks the dependencies afterwards. Here those that are gates are
asked before, and the body is read within bounds.

    router = Router(tags=["data"])        instead of APIRouter
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from backflip.records.door import named_once
from backflip.web.bodies import FORMS, MAX_FORM, BoundedReceive, Bounds, content_type
from backflip.web.parameters import check_path

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Gate:
    """A dependency of a route that is asked before the body is read."""

    async def admit(self, request: Request) -> None:
        """Raise to refuse the request; the body must not be touched here."""
        raise NotImplementedError

    def bounds(self, request: Request) -> Bounds | None:
        """What the body may be, where that is not the ordinary."""
        return None


class Guarded(APIRoute):
    """A route whose gates are asked before the body is read."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        gates = [each.call for each in self.dependant.dependencies if isinstance(each.call, Gate)]

        async def guarded(request: Request) -> Response:
            bounds = Bounds(MAX_FORM) if content_type(request) in FORMS else Bounds()
            check_path(request)
            for gate in gates:
                await gate.admit(request)
                bounds = gate.bounds(request) or bounds
            bounds.check_length(request)
            bounded = BoundedReceive(request.receive, bounds)
            return await handle(_Asked(request.scope, bounded))

        return guarded


class _Asked(Request):
    """A request in whose JSON each field of an object is there once."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), object_pairs_hook=_once)
        return self._json


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    try:
        return named_once(pairs)
    except ValueError as error:
        raise HTTPException(422, f"{error}.") from None


class Router(APIRouter):
    """A router all of whose routes are guarded."""

    def __init__(self, *, tags: list[str]):
        super().__init__(tags=[*tags], route_class=Guarded)

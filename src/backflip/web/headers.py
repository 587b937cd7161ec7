"""What every response says to the browser, one line of log a request, and how large one may be."""

import json
import logging
import secrets
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("backflip.web")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
MAX_BODY = 4 * 2**20
"""Bytes of a request that is no upload."""


class Measures:
    """What Prometheus is told of the requests."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("method", "route", "status")
        self.requests = Counter(
            "backflip_requests", "Requests answered", names, registry=self.registry
        )
        self.seconds = Histogram(
            "backflip_request_seconds",
            "Seconds to the end of the response",
            ("method", "route"),
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the pattern and not the path: paths have no end."""
        self.requests.labels(method, route, status).inc()
        self.seconds.labels(method, route).observe(seconds)


class Frame:
    """Wraps the application: headers, log, measures, and a limit on bodies.

    Args:
        app: the application inside.
        measures: where requests are counted.
        secure: whether browsers shall use https from now on.
    """

    def __init__(self, app: ASGIApp, measures: Measures, *, secure: bool):
        self.app = app
        self.measures = measures
        self.headers = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
        if secure:
            self.headers.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, name = time.perf_counter(), 500, secrets.token_hex(6)

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message["headers"])
                if not any(key == b"cache-control" for key, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = [*headers, *self.headers, (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self._within_limit(scope, receive, framed)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            self.measures.note(scope["method"], route, status, seconds)
            log(
                "request",
                id=name,
                method=scope["method"],
                route=route,
                status=status,
                ms=round(1000 * seconds, 1),
            )

    async def _within_limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY and not _is_upload(scope):
            refuse = PlainTextResponse("That is too much for one request.", 413)
            await refuse(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY and not _is_upload(scope):
                raise ClientDisconnect
            return message

        async def sent(message: Message) -> None:
            # Whatever the application makes of a body that ends in the middle.
            if message["type"] == "http.response.start" and seen > MAX_BODY:
                message["status"] = message["status"] if _is_upload(scope) else 413
            await send(message)

        await self.app(scope, counted, sent)


def _is_upload(scope: Scope) -> bool:
    return scope["path"].endswith("/import")


def log(event: str, **fields: Any) -> None:
    """One line of JSON. Never a name, a text or an address that somebody typed."""
    LOG.info(json.dumps({"time": round(time.time(), 3), "event": event, **fields}))

"""What every response says to the browser, and one line of log a request."""

import json
import logging
import math
import secrets
import time
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
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
MAX_LEFT = 64 * 2**10
"""Bytes of a refused request that are read and dropped; before more the connection ends."""


class HttpMetrics:
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


class SecurityMiddleware:
    """Wraps the application: headers, log, measures.

    Args:
        app: the application inside.
        measures: where requests are counted.
        secure: whether browsers shall use https from now on.
    """

    def __init__(self, app: ASGIApp, measures: HttpMetrics, *, secure: bool):
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
        left = _length_of(scope)

        async def noted() -> Message:
            nonlocal left
            message = await receive()
            whole = not message.get("more_body", False)
            left = 0.0 if whole else left - len(message.get("body", b""))
            return message

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message["headers"])
                if not any(key == b"cache-control" for key, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                if status >= HTTPStatus.BAD_REQUEST and left > MAX_LEFT:
                    headers.append((b"connection", b"close"))
                message["headers"] = [*headers, *self.headers, (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self.app(scope, noted, framed)
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


def _length_of(scope: Scope) -> float:
    """Bytes of a request's body; infinite where they come in pieces, and nobody says how many."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return math.inf
    length = headers.get(b"content-length", b"")
    return float(length) if length.isdigit() else 0.0


def log(event: str, **fields: Any) -> None:
    """One line of JSON. Never a name, a text or an address that somebody typed."""
    LOG.info(json.dumps({"time": round(time.time(), 3), "event": event, **fields}))

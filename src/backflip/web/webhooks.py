"""Delivering webhooks: signed, tried again when they fail, and never into one's own network.

A receiver checks that `X-Backflip-Signature: t=TIME,v1=HEX` holds the HMAC-SHA256, by the
webhook's secret, of the time, a dot and the body, and that the time is not long past.
"""

import hashlib
import hmac
import ipaddress
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx

from backflip.errors import BackflipError
from backflip.feedback.store import Workspace
from backflip.feedback.store.webhooks import Delivery, Webhook

TIMEOUT = 10.0


class InsideError(BackflipError):
    """An address inside the server's own network."""


def sign(secret: str, moment: int, body: bytes) -> str:
    """The signature's header: the time in seconds since 1970, and the HMAC of it and the body."""
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256)
    return f"t={moment},v1={digest.hexdigest()}"


def check_address(url: str, *, inside: bool) -> None:
    """Refuse an address that is none for a webhook, or that leads inside.

    Args:
        url: http or https.
        inside: whether addresses of the server's own network are allowed.

    Raises:
        InsideError: it leads inside.
        BackflipError: it is no address, or its host is not known.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise BackflipError(f"{url!r} is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise BackflipError(
            "a webhook's address begins with http:// or https:// and holds no password"
        )
    if inside:
        return
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise BackflipError(f"the host {parts.hostname!r} is not known") from None
    for *_, where in found:
        if not ipaddress.ip_address(str(where[0]).partition("%")[0]).is_global:
            raise InsideError(
                f"{parts.hostname} is inside the server's own network",
                hint="An administrator allows it with the setting webhooks_inside = true.",
            )


def deliver(workspace: Workspace, *, inside: bool) -> int:
    """Deliver what is due now; returns how many were tried."""
    due = workspace.webhooks.take()
    if not due:
        return 0  # a client reads all certificates first, and nobody is answered meanwhile
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client:
        for hook, delivery in due:
            told, delivered = _send(client, hook, delivery, inside)
            workspace.webhooks.settle(delivery.number, told, delivered=delivered)
    return len(due)


def _send(
    client: httpx.Client, hook: Webhook, delivery: Delivery, inside: bool
) -> tuple[str, bool]:
    body = _body(delivery)
    headers = {
        "content-type": "application/json",
        "user-agent": "backflip",
        "x-backflip-event": delivery.event,
        "x-backflip-delivery": str(delivery.number),
        "x-backflip-signature": sign(hook.secret, int(time.time()), body),
    }
    try:
        # Again at every delivery: what a host's name leads to may have changed.
        check_address(hook.url, inside=inside)
        response = client.post(hook.url, content=body, headers=headers)
    except BackflipError as error:
        return error.what, False
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return type(error).__name__, False
    return f"HTTP {response.status_code}", response.is_success


def _body(delivery: Delivery) -> bytes:
    content: dict[str, Any] = {"delivery": delivery.number, **delivery.body}
    return json.dumps(content).encode()

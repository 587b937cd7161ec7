"""Delivering webhooks: signed, tried again when they fail, and never into one's own network.

A receiver checks that `X-Backflip-Signature: t=TIME,v1=HEX` holds the HMAC-SHA256, by the
webhook's secret, of the time, a dot and the body, and that the time is not long past.
"""

import hashlib
import hmac
import json
import time
from typing import Any

import httpx

from backflip.errors import BackflipError
from backflip.judging.address import fault_of_host
from backflip.network import PublicTransport, look_up
from backflip.workspace import Workspace
from backflip.workspace.projects.webhooks import Delivery, Webhook

TIMEOUT = 10.0


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
        address = httpx.URL(url)
        host, fault = address.host, fault_of_host(address)
    except (httpx.InvalidURL, ValueError):  # ValueError: also of what cannot be encoded
        raise BackflipError("that is no address") from None
    if address.scheme not in ("http", "https") or not host or address.userinfo:
        raise BackflipError(
            "a webhook's address begins with http:// or https:// and holds no password"
        )
    if fault is not None:
        raise BackflipError(f"the address {fault}")
    if not inside:
        look_up(address.raw_host.decode("ascii"), address.port or 80)


def deliver(workspace: Workspace, *, inside: bool) -> int:
    """Deliver what is due now; returns how many were tried."""
    due = workspace.webhooks.take()
    if not due:
        return 0  # a client reads all certificates first, and nobody is answered meanwhile
    transport = None if inside else PublicTransport()
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False, transport=transport) as client:
        for hook, delivery in due:
            told, delivered = _send(client, hook, delivery)
            workspace.webhooks.settle(delivery.number, told, delivered=delivered)
    return len(due)


def _send(client: httpx.Client, hook: Webhook, delivery: Delivery) -> tuple[str, bool]:
    body = _body(delivery)
    headers = {
        "content-type": "application/json",
        "user-agent": "backflip",
        "x-backflip-event": delivery.event,
        "x-backflip-delivery": str(delivery.number),
        "x-backflip-signature": sign(hook.secret, int(time.time()), body),
    }
    try:
        # What is answered beside the status is not read: it may have no end.
        with client.stream("POST", hook.url, content=body, headers=headers) as response:
            return f"HTTP {response.status_code}", response.is_success
    except BackflipError as error:
        return error.what, False
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return type(error).__name__, False


def _body(delivery: Delivery) -> bytes:
    content: dict[str, Any] = {"delivery": delivery.number, **delivery.body}
    return json.dumps(content).encode()

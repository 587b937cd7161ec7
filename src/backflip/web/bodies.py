"""How much a request may bring, and for how long: refused before it is read, or while it comes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from fastapi import HTTPException, Request
from starlette.types import Message, Receive

MAX_BODY = 4 * 2**20
"""Bytes of a request that is neither a form nor an upload."""
MAX_FORM = 64 * 2**10
"""Bytes of a form: below what the library writes to disk."""
BODY_SECONDS = 60.0
FORM = "application/x-www-form-urlencoded"
FORMS = (FORM, "multipart/form-data")


@dataclass(frozen=True)
class Bounds:
    """What the body of a request may be.

    Attributes:
        most: bytes.
        seconds: in which all of it must have come.
        watch: called with the bytes that came so far, and raises to refuse the rest.
    """

    most: int = MAX_BODY
    seconds: float = BODY_SECONDS
    watch: Callable[[int], None] | None = None

    def check_length(self, request: Request) -> None:
        """Refuse at once what says itself that it is too long; raises `HTTPException`."""
        if length_of(request) > self.most:
            raise _too_long(self.most)


def content_type(request: Request) -> str:
    """What the body is said to be, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def length_of(request: Request) -> int:
    """Bytes that the body is said to have; 0 where that is not said."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


class BoundedReceive:
    """The `receive` of a request, which raises `HTTPException` once the body is out of bounds.

    Time counts from the first call on: nobody waits for a body before it is asked for.
    """

    def __init__(self, receive: Receive, bounds: Bounds):
        self._receive = receive
        self._bounds = bounds
        self._until: float | None = None
        self._seen = 0
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:  # what comes now is that the browser leaves, which may take hours
            return await self._receive()
        if self._until is None:
            self._until = time.monotonic() + self._bounds.seconds
        try:
            with anyio.fail_after(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408, f"The request did not come whole in {self._bounds.seconds:g} seconds."
            ) from None
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        self._seen += len(message.get("body", b""))
        if self._seen > self._bounds.most:
            raise _too_long(self._bounds.most)
        if self._bounds.watch is not None:
            self._bounds.watch(self._seen)
        return message


def _too_long(most: int) -> HTTPException:
    return HTTPException(413, f"That is too much for one request: {most / 2**20:g} MiB at most.")

"""Replies as they grow, sent to the page that waits for them."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from backflip.workspace import Generation, Generations

LOOK_SECONDS = 0.15
Show = Callable[[Generation], dict[str, Any]]


def follow(generations: Generations, ids: Sequence[str], show: Show) -> EventSourceResponse:
    """Server-sent events: replies whenever they have grown, until all have ended.

    Args:
        generations: of the workspace.
        ids: of the replies, which the caller has made sure may be seen.
        show: what the page gets of one.
    """
    over = anyio.Event()
    return EventSourceResponse(_growing(generations, ids, show, over), shutdown_event=over)


async def _growing(
    generations: Generations, ids: Sequence[str], show: Show, over: anyio.Event
) -> AsyncIterator[dict[str, str]]:
    sent = None
    while not over.is_set():
        found = await run_in_threadpool(generations.get_many, ids)
        told = json.dumps([show(each) for each in found.values()])
        if told != sent:
            sent = told
            yield {"data": told}
        if all(each.ended for each in found.values()):
            return
        with anyio.move_on_after(LOOK_SECONDS):
            await over.wait()

"""No request makes a fault of the server's own, to whatever route, on either database."""

import json
import os
import time
from collections import Counter
from typing import Any

import anyio
import pytest
from asgi_helpers import run
from request_fuzz import Fuzzer, World
from test_web_access import all_routes

from backflip.workspace import Workspace
from fuzzing import SECONDS, tell

SEED = int(os.environ.get("BACKFLIP_FUZZ_SEED", "9"))
ROUNDS = 5


async def faults_of(fuzzer: Fuzzer, seconds: float) -> tuple[list[str], Counter[int]]:
    """Asks every route once a round; what was a fault, and how many answers had which status."""
    faults: list[str] = []
    told: Counter[int] = Counter()
    until, rounds = time.monotonic() + seconds, 0
    while rounds < ROUNDS or time.monotonic() < until:
        if rounds % 2 == 0:  # so that what was left there once is seen as well
            await fuzzer.world.renew()
        rounds += 1
        for name in fuzzer.shuffled():
            call = fuzzer.request(name)
            what = f"{name} {call.path!r} {call.query!r} {[p[:2000] for p in call.pieces]}"
            try:
                with anyio.fail_after(30):
                    await call.send()
                if call.status >= 500:
                    faults.append(f"{what}: {call.status} {call.body!r}")
                told[call.status] += 1
                if call.status == 401:
                    fuzzer.world.sign_in()
                read(call)
            except Exception as error:
                faults.append(f"{what}: {type(error).__name__}: {error}")
    return faults, told


def read(call: Any) -> None:
    """Raise where an answer is none of its kind, whatever of the request it holds."""
    text = call.body.decode()
    if text and call.response_headers.get("content-type") == "application/json":
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_whatever_is_asked_the_server_has_no_fault(workspace: Workspace) -> None:
    world = World(workspace)
    routes = {n: r for n, r in all_routes(world.app).items() if not n.endswith("/events")}
    start = time.monotonic()
    faults, told = run(faults_of(Fuzzer(world, routes, SEED), SECONDS))
    tell(told.total(), time.monotonic() - start)
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults[:50])
    # Most of it must get past the door: what is refused there tries nothing.
    assert told[200] + told[201] + told[204] + told[303] > 0.2 * told.total()
    assert told[401] < 0.1 * told.total()

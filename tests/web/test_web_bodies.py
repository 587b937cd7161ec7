"""Rights and size before the body: what is refused is not read, and none of it lies on a disk."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from asgi_helpers import KINDS, Call, House, file_part, run
from test_web_access import RANK, ROUTES, all_routes, path_of

from backflip.web import guard
from backflip.web.bodies import Bounds
from backflip.web.guard import Guarded

TWICE = b'{"a": {"choice": "a", "choice": "b"}}'
CHANGES = ("POST", "PUT", "PATCH", "DELETE")
PIECE = b"x" * 2**16


async def sent(calls: list[Call]) -> list[Call]:
    return [await call.send() for call in calls]


def changes(house: House) -> Iterator[tuple[str, str, str, str]]:
    for route, level in ROUTES.items():
        method, path = path_of(route, house.project)
        if method in CHANGES:
            yield route, level, method, path


def test_every_route_is_guarded(house: House) -> None:
    routes = all_routes(house.app)
    assert len(routes) == len(ROUTES)
    for name, route in routes.items():
        assert isinstance(route, Guarded), name
        assert not any(type(each).__name__ == "File" for each in route.dependant.body_params), name


def test_nothing_is_read_of_who_may_not(house: House) -> None:
    """Of whatever is sent to whatever route: by nobody, by who lacks the role, by another page."""
    calls: list[Call] = []
    for _, level, method, path in changes(house):
        for who, headers in house.headers.items():
            endless = {"pieces": itertools.repeat(PIECE)}
            if who == "nobody" or RANK[who] < RANK[level]:
                kinds = KINDS if who == "nobody" else ["file"]
                calls += [house.call(who, method, path, kind, **endless) for kind in kinds]
            elif level != "nobody":
                other = {"x-csrf-token": headers["x-csrf-token"] + "x"}
                calls.append(house.call(who, method, path, headers=other, **endless))
    for call in run(sent(calls)):
        what = f"{call.method} {call.path} {call.headers}"
        assert call.status in (303, 401, 403, 404), what
        assert call.read == 0, what
        assert call.response_headers.get("connection") == "close" or call.status == 303, what
    assert len(calls) > 200


@pytest.mark.parametrize("path", ["/join/import", "/join/none"])
def test_nothing_is_read_for_an_invitation_that_is_none(house: House, path: str) -> None:
    for kind in KINDS:
        pieces = itertools.repeat(PIECE)
        headers = house.guest | {"x-csrf-token": "guest"}
        call = house.call("nobody", "POST", path, kind, headers=headers, pieces=pieces)
        run(call.send())
        assert (call.status, call.read) == (404, 0)


def test_what_says_that_it_is_too_long_is_not_read(house: House) -> None:
    calls: list[Call] = []
    for _, level, method, path in changes(house):
        if level == "admin" or path.startswith("/join/none"):
            continue
        for kind in KINDS:
            call = house.call("lead", method, path, kind, pieces=itertools.repeat(PIECE))
            if level == "nobody":
                call.headers |= house.guest | {"x-csrf-token": "guest"}
            call.headers["content-length"] = str(2**40)
            calls.append(call)
    for call in run(sent(calls)):
        assert (call.status, call.read) == (413, 0), f"{call.method} {call.path}"


def test_what_comes_in_pieces_is_counted(house: House, spooled: list[Any]) -> None:
    """Up to the limit, plus the piece that exceeds it; a form never reaches the disk."""
    for kind, most in (("json", 2**22), ("form", 2**16), ("file", 2**16)):
        head = file_part(b"")[0] if kind == "file" else b"csrf="
        for path in (f"/api/projects/{house.project}/next", "/account/preferences", "/login"):
            call = house.call("lead", "POST", path, kind)
            call.pieces = itertools.chain([head], itertools.repeat(PIECE))
            if path == "/login":
                call.headers |= house.guest | {"x-csrf-token": "guest"}
            run(call.send())
            assert call.read <= most + len(head) + 2**16, f"{kind} {path}"
            assert call.status == 413 or call.read == 0, f"{kind} {path}: {call.body!r}"
    assert not any(each.on_disk for each in spooled)


def test_other_bodies_that_are_slow_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "Bounds", partial(Bounds, seconds=0.1))
    path = f"/api/projects/{house.project}/next"
    call = house.call("lead", "POST", path, "json", pieces=itertools.repeat(b" "), pause=0.02)
    run(call.send())
    assert call.status == 408


def test_a_field_that_is_there_twice_is_refused_by_every_route(house: House) -> None:
    """Nobody can tell which of the two counts; files are read alike."""
    routes, asked = all_routes(house.app), []
    for name, level, method, path in changes(house):
        field = routes[name].body_field
        if field is None or type(field.field_info).__name__ == "Form" or level == "nobody":
            continue
        asked.append(house.call(level, method, path, "json", pieces=[TWICE]))
    assert len(asked) > 20
    for call in run(sent(asked)):
        assert (call.status, b"'choice' is there twice" in call.body) == (422, True), call.path

"""Who may do what: every route, every role, with and without the token of the page."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from web_helpers import PAIR, Browser, SignIn, token_of

from backflip.web.access import Needs
from backflip.workspace import Project, Workspace

# What each route needs. A route that is missing here fails the test below.
LEVELS: dict[str, list[str]] = {
    "nobody": [
        "GET /healthz",
        "GET /login",
        "POST /login",
        "GET /join/{key}",
        "POST /join/{key}",
        "GET /oidc/login",
        "GET /oidc/callback",
    ],
    "user": [
        "GET /",
        "POST /logout",
        "POST /join/{key}/mine",
        "GET /account",
        "POST /account/preferences",
        "POST /account/password",
        "POST /account/tokens",
        "POST /account/tokens/{number}/drop",
        "GET /api/me",
        "GET /api/projects",
        # These check that the task was handed to the user, a member of its project still.
        "POST /api/tasks/{task}/answer",
        "POST /api/tasks/{task}/skip",
        "PUT /api/tasks/{task}/draft",
        "GET /api/tasks/{task}/images/{image}",
    ],
    "annotator": [
        "GET /projects/{project}/label",
        "POST /api/projects/{project}/next",
        "POST /api/projects/{project}/undo",
        "GET /projects/{project}/chat",
        "POST /api/projects/{project}/chats",
        "GET /api/projects/{project}/chats/{chat}",
        "GET /api/projects/{project}/chats/{chat}/events",
        "POST /api/projects/{project}/chats/{chat}/say",
        "POST /api/projects/{project}/chats/{chat}/choose",
        "POST /api/projects/{project}/chats/{chat}/again",
        "POST /api/projects/{project}/chats/{chat}/copied",
        "POST /api/projects/{project}/chats/{chat}/undo",
        "POST /api/projects/{project}/chats/{chat}/end",
    ],
    "lead": [
        "GET /projects/{project}",
        "GET /api/projects/{project}",
        "PATCH /api/projects/{project}",
        "GET /api/projects/{project}/overview",
        "GET /api/projects/{project}/events",
        "GET /projects/{project}/questions",
        "GET /api/projects/{project}/batches",
        "POST /api/projects/{project}/batches",
        "PATCH /api/projects/{project}/batches/{number}",
        "POST /api/projects/{project}/checks",
        "POST /api/projects/{project}/checks/agreed",
        "POST /api/projects/{project}/checks/attention",
        "GET /projects/{project}/rules",
        "GET /projects/{project}/rules/versions/{version}",
        "GET /api/projects/{project}/guidelines",
        "POST /api/projects/{project}/guidelines",
        "POST /api/projects/{project}/guidelines/preview",
        "PUT /api/projects/{project}/settings",
        "GET /projects/{project}/people",
        "GET /api/projects/{project}/members",
        "PUT /api/projects/{project}/members/{user}",
        "DELETE /api/projects/{project}/members/{user}",
        "GET /projects/{project}/people/{user}/forget",
        "POST /api/projects/{project}/members/{user}/forget",
        "GET /api/projects/{project}/invites",
        "POST /api/projects/{project}/invites",
        "DELETE /api/projects/{project}/invites/{number}",
        "GET /projects/{project}/quality",
        "GET /api/projects/{project}/quality",
        "POST /api/projects/{project}/quality",
        "POST /api/projects/{project}/adjudicate",
        "GET /projects/{project}/answers",
        "GET /api/projects/{project}/entries",
        "GET /api/projects/{project}/samples/{sample}/images/{image}",
        "GET /projects/{project}/data",
        "GET /api/projects/{project}/export",
        "POST /api/projects/{project}/import",
        "POST /api/projects/{project}/entries/{entry}/withdraw",
        "POST /api/projects/{project}/withdraw",
        "GET /projects/{project}/models",
        "GET /projects/{project}/models/{model}",
        "GET /api/projects/{project}/models",
        "GET /api/projects/{project}/models/{model}",
        "GET /projects/{project}/playground",
        "POST /api/projects/{project}/playground",
        "POST /api/projects/{project}/playground/compare",
        "GET /api/projects/{project}/generations",
        "GET /api/projects/{project}/generations/events",
        "POST /api/projects/{project}/generations/cancel",
        "GET /projects/{project}/webhooks",
        "GET /api/projects/{project}/webhooks",
        "POST /api/projects/{project}/webhooks",
        "DELETE /api/projects/{project}/webhooks/{webhook}",
    ],
    "admin": [
        "GET /metrics",
        "POST /api/projects",
        "GET /admin/people",
        "GET /admin/people/{user}/forget",
        "GET /api/users",
        "PATCH /api/users/{user}",
        "POST /api/users/{user}/forget",
        "GET /api/invites",
        "POST /api/invites",
        "DELETE /api/invites/{number}",
    ],
}
ROUTES = {route: level for level, routes in LEVELS.items() for route in routes}
RANK = {"nobody": 0, "user": 1, "annotator": 2, "lead": 3, "admin": 4}


def all_routes(app: Any) -> dict[str, APIRoute]:
    found: dict[str, APIRoute] = {}
    waiting = list(app.routes)
    while waiting:
        route = waiting.pop()
        waiting += getattr(getattr(route, "original_router", None), "routes", [])
        if isinstance(route, APIRoute):
            found |= {f"{method} {route.path}": route for method in route.methods}
    return found


def needs_of(route: APIRoute) -> str:
    levels = [d.call.level for d in route.dependant.dependencies if isinstance(d.call, Needs)]
    assert len(levels) < 2
    return levels[0] if levels else "nobody"


def test_every_route_says_what_it_needs(server: Callable[[], TestClient]) -> None:
    routes = all_routes(server().app)
    assert {name: needs_of(route) for name, route in routes.items()} == ROUTES
    for name in ROUTES:
        if ROUTES[name] in ("annotator", "lead"):
            assert "{project}" in name, f"{name} names no project to have a role in"


def path_of(route: str, project: str) -> tuple[str, str]:
    method, _, path = route.partition(" ")
    values = {"project": project, "task": "task-0", "key": "none", "number": "0", "version": "1"}
    while "{" in path:
        before, _, rest = path.partition("{")
        name, _, after = rest.partition("}")
        path = before + values.get(name.partition(":")[0], "none") + after
    return method, path


@pytest.fixture
def people(project: Project, sign_in: SignIn, workspace: Workspace) -> dict[str, Browser]:
    elsewhere = workspace.projects.create("Elsewhere")
    return {
        "user": sign_in("eve", "lead", elsewhere),
        "annotator": sign_in("mia", "annotator", project),
        "lead": sign_in("lea", "lead", project),
        "admin": sign_in("boss"),
    }


def test_every_route_refuses_who_may_not(
    people: dict[str, Browser], project: Project, server: Callable[[], TestClient]
) -> None:
    """A lead of another project is nobody here; a guest is sent to sign in; a role must do."""
    guest = Browser(server())
    for route, level in ROUTES.items():
        method, path = path_of(route, project.id)
        if level == "nobody":
            continue
        status = guest.send(method, path, None if method == "GET" else {}).status_code
        assert status == (401 if path.startswith("/api/") else 303), route
        for name, browser in people.items():
            if RANK[name] >= RANK[level]:
                continue
            status = browser.send(method, path, None if method == "GET" else {}).status_code
            stranger = name == "user" and level in ("annotator", "lead")
            assert status == (404 if stranger else 403), f"{name}: {route}"


def test_every_route_lets_in_who_may(people: dict[str, Browser], project: Project) -> None:
    """Down to the route's own work, which may find the made-up task or body wanting."""
    for route, level in ROUTES.items():
        method, path = path_of(route, project.id)
        if route == "POST /logout":
            continue
        for name, browser in people.items():
            if RANK[name] >= RANK[level] and level != "nobody":
                if "/events" in path:
                    continue  # it goes on until the page is left
                response = browser.send(method, path, None if method == "GET" else {})
                assert response.status_code not in (401, 403), f"{name}: {route}"
                assert response.status_code < 500, f"{name}: {route}: {response.text}"


def test_a_change_needs_the_token_of_the_page(people: dict[str, Browser], project: Project) -> None:
    for route, level in ROUTES.items():
        method, path = path_of(route, project.id)
        if method == "GET" or level == "nobody":
            continue
        browser = people["admin"]
        for token in ("", "wrong", people["lead"].csrf):
            response = browser.send(method, path, {}, headers={"x-csrf-token": token})
            assert response.status_code == 403, route
            assert "too old" in response.text


def test_a_program_signs_in_by_its_token(
    workspace: Workspace, project: Project, server: Callable[[], TestClient]
) -> None:
    user = workspace.people.add("bot")
    workspace.projects.set_role(project.id, user.id, "annotator")
    key = workspace.people.add_token(user.id, "laptop")
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    client = server()
    told = client.get("/api/me", headers={"authorization": f"Bearer {key}"}).json()
    assert told == {"name": "bot", "admin": False, "roles": {project.id: "annotator"}}
    path = f"/api/projects/{project.id}/next"
    response = client.post(path, json={}, headers={"authorization": f"Bearer {key}"})
    assert response.json()["task"] is not None
    for header in ("Bearer", "Bearer wrong", f"Basic {key}", f"Bearer {key}x"):
        assert client.get("/api/me", headers={"authorization": header}).status_code == 401


def test_every_response_is_framed(people: dict[str, Browser], project: Project) -> None:
    paths = ("/", "/login", "/static/style.css", "/api/me", "/nowhere", "/healthz")
    for path in paths:
        headers = people["lead"].get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]
        assert headers["cache-control"]
    html = people["annotator"].open(f"/projects/{project.id}/label")
    for forbidden in ("<style", "style=", "onclick", "javascript:"):
        assert forbidden not in html
    assert token_of(html) == people["annotator"].csrf


def test_too_large_a_body_is_refused(people: dict[str, Browser], project: Project) -> None:
    path = f"/api/projects/{project.id}/next"
    big = b'{"besides": ["' + b"x" * 5_000_000 + b'"]}'
    send = people["annotator"].client.post
    headers = {"x-csrf-token": people["annotator"].csrf, "content-type": "application/json"}
    assert send(path, content=big, headers=headers).status_code == 413

    def pieces():
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    assert send(path, content=pieces(), headers=headers).status_code == 413


def test_health_and_measures(people: dict[str, Browser]) -> None:
    assert people["user"].get("/healthz").json()["status"] == "ok"
    people["user"].get("/api/tasks-of-nobody")
    text = people["admin"].get("/metrics").text
    assert 'backflip_requests_total{method="GET",route="/healthz",status="200"} 1.0' in text
    assert "tasks-of-nobody" not in text

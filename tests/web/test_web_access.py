"""Who may do what: every route, every role, with and without the token of the page."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from web_helpers import PAIR, PASSWORD, Browser, SignIn, token_of

from backflip.config import ServerSettings
from backflip.feedback.store import Project, Workspace
from backflip.web.access import Needs

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
        "GET /projects/{project}/data",
        "GET /api/projects/{project}/export",
        "POST /api/projects/{project}/import",
        "POST /api/projects/{project}/entries/{entry}/withdraw",
        "POST /api/projects/{project}/annotators/{annotator}/withdraw",
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


def sign_in_by_form(browser: Browser, name: str, password: str, **fields: str) -> Any:
    browser.open("/login")
    return browser.submit("/login", name=name, password=password, **fields)


@pytest.fixture
def member(workspace: Workspace, server: Callable[[], TestClient]) -> Browser:
    browser = Browser(server())
    hashed = browser.client.app.state.context.passwords.hash(PASSWORD)  # pyright: ignore
    workspace.people.add("mia", password=hashed)
    return browser


def test_signing_in_and_out(member: Browser) -> None:
    assert member.get("/account").headers["location"] == "/login?next=/account"
    response = sign_in_by_form(member, "mia", PASSWORD, next="/account")
    assert (response.status_code, response.headers["location"]) == (303, "/account")
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    kept = member.client.cookies["backflip"]
    member.open("/account")
    assert member.submit("/logout").headers["location"] == "/login"
    assert member.get("/account").status_code == 303
    member.client.cookies.set("backflip", kept)
    assert member.get("/account").status_code == 303  # the session itself has ended
    member.client.cookies.set("backflip", kept[:-2] + "xx")
    assert member.get("/account").status_code == 303


@pytest.mark.parametrize(
    "where", ["//evil.test/", "https://evil.test/", "/\\evil.test", "x", "/\t/e"]
)
def test_nobody_is_sent_elsewhere_after_signing_in(member: Browser, where: str) -> None:
    assert sign_in_by_form(member, "mia", PASSWORD, next=where).headers["location"] == "/"


def test_wrong_passwords_are_refused_and_too_many_of_them(
    member: Browser, workspace: Workspace
) -> None:
    for _ in range(10):
        assert sign_in_by_form(member, "mia", "something else").status_code == 403
    response = sign_in_by_form(member, "mia", PASSWORD)
    assert response.status_code == 429
    assert response.headers["retry-after"]
    assert "Wait 15 minutes" in response.text
    # Others, and the same name a while later, are not shut out.
    hashed = member.client.app.state.context.passwords.hash(PASSWORD)  # pyright: ignore
    workspace.people.add("bob", password=hashed)
    assert sign_in_by_form(member, "bob", PASSWORD).status_code == 303
    member.client.cookies.clear()
    clock = workspace.people.clock
    workspace.people.clock = lambda: clock() + 16 * 60
    assert sign_in_by_form(member, "mia", PASSWORD).status_code == 303


def test_an_address_that_tries_many_names_is_shut_out(member: Browser) -> None:
    for number in range(100):
        member.client.app.state.context.workspace.people.note_failure(  # pyright: ignore
            f"name {number}", "address testclient"
        )
    assert sign_in_by_form(member, "mia", PASSWORD).status_code == 429


def test_a_guest_needs_the_token_of_the_form(member: Browser) -> None:
    member.open("/login")
    other = Browser(member.client)
    other.csrf = "made up"
    assert other.submit("/login", name="mia", password=PASSWORD).status_code == 403
    member.client.cookies.clear()
    assert member.submit("/login", name="mia", password=PASSWORD).status_code == 403


def test_an_inactive_user_and_one_without_a_password_stay_out(
    member: Browser, workspace: Workspace
) -> None:
    workspace.people.add("boss", admin=True)
    assert sign_in_by_form(member, "boss", PASSWORD).status_code == 403
    user = workspace.people.named("mia")
    workspace.people.change(user.id, active=False)  # pyright: ignore
    assert sign_in_by_form(member, "mia", PASSWORD).status_code == 403


def test_an_invitation_makes_an_account(
    workspace: Workspace, project: Project, server: Callable[[], TestClient]
) -> None:
    key = workspace.people.invite(project.id, "annotator", uses=2)
    browser = Browser(server())
    assert "Kindness" in browser.open(f"/join/{key}")
    assert browser.submit(f"/join/{key}", name="mia", password=PASSWORD[:9]).status_code == 400
    assert workspace.people.named("mia") is None
    response = browser.submit(f"/join/{key}", name="mia", password=PASSWORD)
    assert response.headers["location"] == f"/projects/{project.id}/label"
    page = browser.open(f"/projects/{project.id}/label")
    assert "mia" in page
    assert workspace.people.named("mia").annotator not in page  # pyright: ignore
    again = browser.open(f"/join/{key}")
    assert "Take part as mia" in again
    assert browser.submit(f"/join/{key}/mine").status_code == 303
    assert browser.get(f"/join/{key}").status_code == 404


def test_an_account_is_changed_by_its_owner(member: Browser, workspace: Workspace) -> None:
    sign_in_by_form(member, "mia", PASSWORD)
    member.open("/account")
    member.submit("/account/preferences", language="de", theme="dark")
    html = member.open("/account")
    assert '<html lang="de" data-theme="dark">' in html
    assert member.submit("/account/preferences", language="xx").status_code == 422
    assert member.submit("/account/password", old="no", new=PASSWORD * 2).status_code == 403
    other = Browser(member.client.__class__(member.client.app, base_url="http://127.0.0.1:8000"))
    sign_in_by_form(other, "mia", PASSWORD)
    assert member.submit("/account/password", old=PASSWORD, new=PASSWORD * 2).status_code == 303
    assert member.get("/account").status_code == 200
    assert other.get("/account").status_code == 303
    member.open("/account")
    page = member.submit("/account/tokens", name="laptop").text
    key = page.partition('tabindex="0">')[2].partition("<")[0]
    assert workspace.people.of_token(key).name == "mia"  # pyright: ignore
    assert key not in member.open("/account")
    (token,) = workspace.people.tokens(workspace.people.of_token(key).id)  # pyright: ignore
    member.submit(f"/account/tokens/{token.number}/drop")
    assert workspace.people.of_token(key) is None


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


@pytest.mark.parametrize("settings", [ServerSettings(public_url="https://label.example.org")])
def test_behind_https_cookies_are_secure(member: Browser, settings: ServerSettings) -> None:
    response = member.get("/login")
    assert "Secure" in response.headers["set-cookie"]
    assert "max-age" in response.headers["strict-transport-security"]


@pytest.mark.parametrize(
    "settings",
    [ServerSettings(session_hours=1, login_attempts=1, login_minutes=1, lease_minutes=2)],
)
def test_settings_of_time_reach_their_place(
    member: Browser, settings: ServerSettings, workspace: Workspace
) -> None:
    assert sign_in_by_form(member, "mia", "wrong").status_code == 403
    assert sign_in_by_form(member, "mia", PASSWORD).status_code == 429
    now = workspace.people.clock
    workspace.people.clock = lambda: now() + 61
    assert sign_in_by_form(member, "mia", PASSWORD).status_code == 303
    assert member.get("/account").status_code == 200
    workspace.people.clock = lambda: now() + 61 + 3599
    assert member.get("/account").status_code == 200
    workspace.people.clock = lambda: now() + 61 + 3601
    assert member.get("/account").status_code == 303
    assert workspace.queue.lease_seconds == 120


def test_health_and_measures(people: dict[str, Browser]) -> None:
    assert people["user"].get("/healthz").json()["status"] == "ok"
    people["user"].get("/api/tasks-of-nobody")
    text = people["admin"].get("/metrics").text
    assert 'backflip_requests_total{method="GET",route="/healthz",status="200"} 1.0' in text
    assert "tasks-of-nobody" not in text

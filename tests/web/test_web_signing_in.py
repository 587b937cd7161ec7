"""Signing in and out, invitations, and the account that one has."""

from collections.abc import Callable
from typing import Any

import argon2
import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from web_helpers import PASSWORD, Browser

from backflip.config import ServerSettings
from backflip.web import security
from backflip.workspace import Project, Workspace


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


def test_passwords_are_kept_as_slow_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least as slow as OWASP asks of argon2id: 19 MiB and two passes."""
    monkeypatch.setattr(security, "PasswordHasher", PasswordHasher)  # the tests' own is quick
    kept = argon2.extract_parameters(security.Passwords().hash("correct horse"))
    assert kept.type is argon2.Type.ID
    assert kept.memory_cost >= 19 * 1024
    assert kept.time_cost >= 2


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

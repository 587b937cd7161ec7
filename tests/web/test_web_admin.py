"""The administrator's page of users: rights, and being forgotten."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from web_helpers import PASSWORD, Browser, SignIn, token_of
from whole_page import WholePage

from backflip.workspace import Project, User, Workspace


@pytest.fixture
def boss(sign_in: SignIn) -> Browser:
    return sign_in("boss")


@pytest.fixture
def mia(sign_in: SignIn, project: Project) -> Browser:
    """An annotator."""
    return sign_in("mia", "annotator", project)


def user_of(browser: Browser) -> User:
    assert browser.user is not None
    return browser.user


def change(boss: Browser, browser: Browser, **values: Any) -> Any:
    return boss.send("PATCH", f"/api/users/{user_of(browser).id}", values)


def test_users_are_listed_with_their_roles(boss: Browser, mia: Browser) -> None:
    rows = {row["name"]: row for row in boss.get("/api/users").json()}
    assert rows["mia"]["projects"] == {"Kindness": "annotator"}
    assert (rows["mia"]["admin"], rows["boss"]["admin"]) == (False, True)
    html = boss.open("/admin/people")
    assert "mia" in html
    # Neither a pseudonym nor a way to forget oneself.
    assert user_of(mia).annotator not in html
    assert f"/admin/people/{user_of(mia).id}/forget" in html
    assert f"/admin/people/{user_of(boss).id}/forget" not in html
    assert 'href="/admin/people"' in boss.open("/")
    assert 'href="/admin/people"' not in mia.open("/")


def test_an_administrator_is_made_and_unmade(boss: Browser, mia: Browser) -> None:
    assert mia.get("/admin/people").status_code == 403
    assert change(boss, mia, admin=True).json()["admin"] is True
    assert mia.get("/admin/people").status_code == 200
    assert change(mia, boss, admin=False).status_code == 200
    assert boss.get("/admin/people").status_code == 403
    last = change(mia, mia, admin=False)
    assert last.status_code == 409
    assert "last administrator" in last.json()["error"]["what"]
    assert change(mia, mia, active=False).status_code == 409
    assert mia.get("/admin/people").status_code == 200


def test_who_is_deactivated_is_signed_out(
    boss: Browser, mia: Browser, workspace: Workspace
) -> None:
    assert change(boss, mia, active=False).json()["active"] is False
    assert mia.get("/").status_code == 303
    assert "may not sign in" in boss.open("/admin/people")
    assert change(boss, mia, active=True).status_code == 200
    assert workspace.people.get(user_of(mia).id).active


def test_a_change_says_what_and_of_whom(boss: Browser, mia: Browser) -> None:
    for values in ({"admin": "yes"}, {"active": 1}, {"name": "Mia"}, {"password": "x"}):
        assert change(boss, mia, **values).status_code == 422, values
    before = boss.get("/api/users").json()
    assert change(boss, mia).status_code == 200
    assert boss.get("/api/users").json() == before
    assert boss.send("PATCH", "/api/users/none", {"admin": True}).status_code == 404


def test_an_administrator_is_invited(
    boss: Browser, workspace: Workspace, server: Callable[[], TestClient]
) -> None:
    now = workspace.people.clock()
    workspace.people.clock = lambda: now
    response = boss.post("/api/invites", {"days": 2})
    assert response.status_code == 201
    path = response.json()["url"].removeprefix("http://127.0.0.1:8000")
    invite = workspace.people.invitation(path.removeprefix("/join/"))
    assert invite is not None
    assert (invite.project, invite.uses, invite.expires) == (None, 1, now + 2 * 86400)
    guest = Browser(server())
    guest.csrf = token_of(guest.get(path).text)
    assert guest.submit(path, name="zoe", password=PASSWORD).status_code == 303
    assert workspace.people.named("zoe").admin  # pyright: ignore
    assert guest.get(path).status_code == 404
    for body in ({"days": 0}, {"days": 366}, {"uses": 2}):
        assert boss.post("/api/invites", body).status_code == 422


def test_an_invitation_to_be_administrator_is_listed_and_revoked(
    boss: Browser, workspace: Workspace, project: Project
) -> None:
    key = boss.post("/api/invites", {}).json()["url"].rpartition("/")[2]
    to_project = workspace.people.invite(project.id, "annotator")
    (invite,) = boss.get("/api/invites").json()
    assert (invite["uses"], invite["author"]) == (1, "boss")
    page = WholePage(boss.open("/admin/people"))
    assert f"Invitation {invite['number']} administrator" in page.text
    assert f"/api/invites/{invite['number']}" in [form["data-path"] for form in page.forms]
    (other,) = workspace.people.invitations(project.id)
    assert boss.send("DELETE", f"/api/invites/{other.number}").status_code == 404
    assert boss.send("DELETE", f"/api/invites/{invite['number']}").status_code == 204
    assert workspace.people.invitation(key) is None
    assert workspace.people.invitation(to_project) is not None
    assert "Open invitations" not in boss.open("/admin/people")


def test_others_are_refused(
    mia: Browser, sign_in: SignIn, workspace: Workspace, project: Project
) -> None:
    lead = sign_in("lea", "lead", project)
    target = workspace.people.add("target")
    for browser in (mia, lead):
        for method, path, body in (
            ("GET", "/admin/people", None),
            ("GET", f"/admin/people/{target.id}/forget", None),
            ("GET", "/api/users", None),
            ("PATCH", f"/api/users/{user_of(browser).id}", {"admin": True}),
            ("POST", f"/api/users/{target.id}/forget", {"answers": "keep"}),
            ("POST", "/api/invites", {}),
            ("GET", "/api/invites", None),
            ("DELETE", "/api/invites/1", None),
        ):
            response = browser.send(method, path, body)
            assert response.status_code == 403, path
            assert "Only an administrator" in response.text
    assert workspace.people.get(target.id) == target
    assert not any(user.admin for user in workspace.people.all())

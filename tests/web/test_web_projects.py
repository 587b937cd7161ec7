"""A lead's pages: how far a project is, its rules and instructions, and who takes part."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lead_helpers import PAIRS, answer_next
from web_helpers import PASSWORD, Browser, SignIn, token_of
from whole_page import WholePage

from backflip.config import ServerSettings
from backflip.workspace import ModelRecord, Project, ProjectSettings, Workspace, forget_user

RULES: dict[str, Any] = {
    "reasons": ["kind", "rude"],
    "marks": ["fine"],
    "critique": False,
    "correction": False,
    "safety": False,
    "overlap": 3,
    "check_every": 5,
    "min_seconds": 1.5,
    "budget": 100,
    "budget_per_person": 10,
    "chat_model": "m-chat",
    "chat_temperature": 0.5,
    "chat_top_p": 0.9,
    "chat_max_tokens": 64,
}


@pytest.fixture
def lead(sign_in: SignIn, project: Project) -> Browser:
    return sign_in("lea", "lead", project)


def test_only_an_administrator_makes_projects(
    workspace: Workspace, sign_in: SignIn, lead: Browser
) -> None:
    boss = sign_in("boss")
    assert "A new project" in boss.open("/")
    assert "A new project" not in lead.open("/")
    response = boss.post("/api/projects", {"name": "  Helpful "})
    assert response.status_code == 201
    made = workspace.projects.get(response.json()["id"])
    assert (made.name, made.settings, made.archived) == ("Helpful", ProjectSettings(), False)
    assert lead.post("/api/projects", {"name": "Mine"}).status_code == 403
    again = boss.post("/api/projects", {"name": "Helpful"})
    assert again.status_code == 409
    assert "there is a project 'Helpful' already" in again.json()["error"]["what"]
    for body in ({}, {"name": "  "}, {"name": "x", "archived": True}, {"name": 3}):
        assert boss.post("/api/projects", body).status_code == 422, body
    assert [project.name for project in workspace.projects.all()] == ["Kindness", "Helpful"]


def test_a_lead_sees_the_projects_that_it_leads(
    workspace: Workspace, sign_in: SignIn, lead: Browser, project: Project
) -> None:
    other = workspace.projects.create("Elsewhere")
    workspace.projects.set_role(other.id, lead.user.id, "annotator")  # pyright: ignore
    assert [found["name"] for found in lead.get("/api/projects").json()] == ["Kindness"]
    html = lead.open("/")
    assert f'href="/projects/{project.id}/people"' in html
    assert f'href="/projects/{other.id}/label"' in html
    assert f'href="/projects/{other.id}/people"' not in html
    boss = sign_in("boss")
    assert len(boss.get("/api/projects").json()) == 2


def test_renaming_and_archiving(workspace: Workspace, lead: Browser, project: Project) -> None:
    path = f"/api/projects/{project.id}"
    workspace.projects.create("Taken")
    workspace.queue.put("run-1", 1, PAIRS, project=project.id)
    assert lead.send("PATCH", path, {"name": "Kinder"}).json()["name"] == "Kinder"
    assert lead.send("PATCH", path, {"name": "Taken"}).status_code == 409
    assert lead.send("PATCH", path, {"archived": True}).status_code == 200
    assert (lead.get(path).json()["name"], lead.get(path).json()["archived"]) == ("Kinder", True)
    assert workspace.queue.next("mia", project=project.id) is None
    assert "Take out of the archive" in lead.open(f"/projects/{project.id}/rules")
    assert lead.send("PATCH", path, {"archived": False}).status_code == 200
    assert workspace.queue.next("mia", project=project.id) is not None
    for body in ({"archived": "yes"}, {"name": ""}, {"settings": {}}):
        assert lead.send("PATCH", path, body).status_code == 422, body


def test_the_rules_are_all_kept(workspace: Workspace, lead: Browser, project: Project) -> None:
    path = f"/api/projects/{project.id}/settings"
    chat = ModelRecord(id="m-chat", name="talker", stage="sft", path="m-chat")
    workspace.models.register(chat)
    assert lead.send("PUT", path, RULES).status_code == 200
    assert workspace.projects.get(project.id).settings.model_dump(mode="json") == RULES
    html = lead.open(f"/projects/{project.id}/rules")
    for shown in (
        "kind\nrude",
        "fine",
        'value="5"',
        'value="1.5"',
        'value="100"',
        'value="10"',
        'value="64"',
    ):
        assert shown in html, shown
    assert '<option value="m-chat" selected>talker' in html
    nothing = dict.fromkeys(("check_every", "budget", "budget_per_person", "chat_model"))
    none = RULES | nothing | {"marks": []}
    assert lead.send("PUT", path, none).status_code == 200
    assert workspace.projects.get(project.id).settings.model_dump(mode="json") == none


NO_RULES: list[dict[str, Any]] = [
    {"overlap": 0},
    {"overlap": "3"},
    {"check_every": 1},
    {"min_seconds": -1},
    {"budget": 0},
    {"budget_per_person": 1.5},
    {"critique": "yes"},
    {"reasons": ["a", "b", " a"]},
    {"reasons": [" "]},
    {"marks": "good"},
    {"reasons": ["x" * 201]},
    {"chat_temperature": 0},
    {"chat_top_p": 1.5},
    {"chat_max_tokens": "64"},
    {"limit": 3},
]


def test_rules_that_cannot_be_are_refused(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    path = f"/api/projects/{project.id}/settings"
    for change in NO_RULES:
        response = lead.send("PUT", path, RULES | change)
        assert response.status_code == 422
        assert next(iter(change)) in response.json()["error"]["what"]
    for name in RULES:
        missing = {key: value for key, value in RULES.items() if key != name}
        assert lead.send("PUT", path, missing).status_code == 422
    assert workspace.projects.get(project.id).settings == ProjectSettings()


def test_instructions_keep_every_version_and_no_name(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    path = f"/api/projects/{project.id}/guidelines"
    hostile = "# Be *fair*\n</textarea><script>alert(1)</script>"
    first = lead.post(path, {"text": hostile})
    assert (first.status_code, first.json()["version"], first.json()["author"]) == (201, 1, "lea")
    assert lead.post(path, {"text": hostile}).json()["version"] == 1
    assert lead.post(path, {"text": "Be kind."}).json()["version"] == 2
    kept = workspace.projects.guidelines(project.id)
    assert [(g.version, g.text) for g in kept] == [(2, "Be kind."), (1, hostile)]
    assert {g.author for g in kept} == {lead.user.annotator}  # pyright: ignore
    assert [g["version"] for g in lead.get(path).json()] == [2, 1]
    root = f"/projects/{project.id}/rules"
    html = lead.open(f"{root}/versions/1")
    assert "Be <em>fair</em>" in html
    assert "<script>alert" not in html
    assert "Be kind." in lead.open(root)
    assert lead.get(f"{root}/versions/3").status_code == 404
    for body in ({}, {"text": " \n"}, {"text": "x" * 100_001}, {"text": "x", "version": 9}):
        assert lead.post(path, body).status_code == 422
    workspace.people.add("other", admin=True)
    forget_user(workspace, lead.user.id, "keep", by="boss")  # pyright: ignore
    boss = Browser(lead.client.__class__(lead.client.app, base_url="http://127.0.0.1:8000"))
    token = workspace.people.add_token(workspace.people.named("other").id, "t")  # pyright: ignore
    told = boss.client.get(path, headers={"authorization": f"Bearer {token}"}).json()
    assert {g["author"] for g in told} == {lead.user.annotator}  # pyright: ignore


def test_a_preview_is_safe_and_keeps_nothing(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    path = f"/api/projects/{project.id}/guidelines/preview"
    told = lead.post(path, {"text": "**Hi** <script>alert(1)</script> \u202e"}).json()
    assert "<strong>Hi</strong>" in told["html"]
    assert "<script" not in told["html"]
    assert told["notes"] == ["bidi"]
    assert workspace.projects.guidelines(project.id) == []


def test_members_are_listed_changed_and_removed(
    workspace: Workspace, lead: Browser, sign_in: SignIn, project: Project
) -> None:
    mia = sign_in("mia", "annotator", project).user
    assert mia is not None
    workspace.queue.put("run-1", 1, PAIRS, project=project.id)
    answer_next(workspace, project, mia.annotator)
    path = f"/api/projects/{project.id}/members"
    rows = {row["name"]: (row["role"], row["done"]) for row in lead.get(path).json()}
    assert rows == {"lea": ("lead", 0), "mia": ("annotator", 1)}
    assert "Answers: 1, skipped: 0" in lead.open(f"/projects/{project.id}/people")
    changed = lead.send("PUT", f"{path}/{mia.id}", {"role": "lead"})
    assert (changed.status_code, changed.json()["role"]) == (200, "lead")
    assert workspace.projects.role(project.id, mia.id) == "lead"
    for body in ({"role": "boss"}, {}, {"role": None}, {"role": "lead", "more": 1}):
        assert lead.send("PUT", f"{path}/{mia.id}", body).status_code == 422, body
    assert lead.send("DELETE", f"{path}/{mia.id}").json() == {"removed": True}
    assert workspace.projects.role(project.id, mia.id) is None
    assert len(workspace.journal.active(annotator=mia.annotator)) == 1
    # Who is no member is neither changed nor brought in.
    for user in (mia.id, "user-none"):
        assert lead.send("PUT", f"{path}/{user}", {"role": "lead"}).status_code == 404
        assert lead.send("DELETE", f"{path}/{user}").status_code == 404
    assert workspace.projects.role(project.id, mia.id) is None


@pytest.mark.parametrize("role", ["annotator", "lead"])
def test_an_invitation_lets_so_many_in(
    workspace: Workspace,
    lead: Browser,
    project: Project,
    server: Callable[[], TestClient],
    role: str,
) -> None:
    path = f"/api/projects/{project.id}/invites"
    now = workspace.people.clock()
    workspace.people.clock = lambda: now
    told = lead.post(path, {"role": role, "uses": 2, "days": 3})
    assert told.status_code == 201
    url = told.json()["url"]
    assert url.startswith("http://127.0.0.1:8000/join/")
    invite = workspace.people.invitation(url.rpartition("/")[2])
    assert invite is not None
    assert (invite.project, invite.role, invite.uses) == (project.id, role, 2)
    assert invite.expires == now + 3 * 86400
    for name in ("eve", "ann", "zoe"):
        guest = Browser(server())
        html = guest.get(url.removeprefix("http://127.0.0.1:8000"))
        assert html.status_code == (404 if name == "zoe" else 200)
        if html.status_code == 200:
            guest.csrf = token_of(html.text)
            guest.submit(url.removeprefix("http://127.0.0.1:8000"), name=name, password=PASSWORD)
    assert set(workspace.projects.roles(project=project.id).values()) == {"lead", role}
    assert workspace.people.named("zoe") is None
    assert url.rpartition("/")[2] not in lead.open(f"/projects/{project.id}/people")
    for body in ({"uses": 0}, {"days": 366}, {"role": "admin"}, {"uses": "2"}, {"project": "x"}):
        assert lead.post(path, body).status_code == 422, body


def test_open_invitations_are_listed_and_revoked(
    workspace: Workspace, lead: Browser, project: Project, sign_in: SignIn
) -> None:
    api, page = f"/api/projects/{project.id}/invites", f"/projects/{project.id}/people"
    assert "Open invitations" not in WholePage(lead.open(page)).text
    key = lead.post(api, {"role": "lead", "uses": 3}).json()["url"].rpartition("/")[2]
    elsewhere = workspace.projects.create("Elsewhere")
    workspace.people.invite(elsewhere.id, "annotator")
    workspace.people.invite(None, "lead")
    (invite,) = lead.get(api).json()
    assert (invite["role"], invite["uses"], invite["author"]) == ("lead", 3, "lea")
    html = lead.open(page)
    assert key not in html
    shown = WholePage(html)
    assert "leads People who may take it: 3, until" in shown.text
    assert "made by lea" in shown.text
    path = f"{api}/{invite['number']}"
    assert [f["data-path"] for f in shown.forms if f["data-path"].startswith(f"{api}/")] == [path]
    others = workspace.people.invitations(elsewhere.id) + workspace.people.invitations(None)
    for other in others:
        assert lead.send("DELETE", f"{api}/{other.number}").status_code == 404
    other_lead = sign_in("eve", "lead", elsewhere)
    path_there = path.replace(project.id, elsewhere.id)
    assert other_lead.send("DELETE", path_there).status_code == 404
    assert workspace.people.invitation(key) is not None
    assert lead.send("DELETE", path).status_code == 204
    assert lead.get(api).json() == []
    assert lead.get(f"/join/{key}").status_code == 404
    assert lead.send("DELETE", path).status_code == 404
    for strange in (0, 2**63, "x"):
        assert lead.send("DELETE", f"{api}/{strange}").status_code == 422
    assert len(others) == 2
    assert workspace.people.invitations(elsewhere.id) + workspace.people.invitations(None) == others


@pytest.mark.parametrize("settings", [ServerSettings(public_url="https://label.example.org")])
def test_an_invitation_names_the_address_that_people_use(
    lead: Browser, project: Project, settings: ServerSettings
) -> None:
    url = lead.post(f"/api/projects/{project.id}/invites", {}).json()["url"]
    assert url.startswith("https://label.example.org/join/")


PAGES = ("", "/questions", "/rules", "/people", "/webhooks")


def test_pages_hold_no_markup_of_what_people_wrote(
    workspace: Workspace, lead: Browser, sign_in: SignIn, project: Project
) -> None:
    hostile = "<script>alert(1)</script>"
    workspace.projects.change(project.id, name=hostile)
    workspace.queue.put("run-1", 1, PAIRS, project=project.id, name=hostile)
    guest = sign_in(hostile, "annotator", project).user
    answer_next(workspace, project, guest.annotator)  # pyright: ignore
    for page in PAGES:
        html = lead.open(f"/projects/{project.id}{page}")
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert(1)" in html
        for forbidden in ("<style", "style=", "onclick", "javascript:"):
            assert forbidden not in html, f"{page}: {forbidden}"


def test_others_are_refused(workspace: Workspace, sign_in: SignIn, project: Project) -> None:
    """An annotator may not lead, and a lead leads its own project alone."""
    elsewhere = workspace.projects.create("Elsewhere")
    mia = sign_in("mia", "annotator", project)
    eve = sign_in("eve", "lead", elsewhere)
    calls = [("GET", f"/projects/{project.id}{page}", None) for page in PAGES]
    api = f"/api/projects/{project.id}"
    member = mia.user.id  # pyright: ignore
    calls += [
        ("PATCH", api, {"name": "Mine"}),
        ("GET", f"{api}/overview", None),
        ("GET", f"{api}/events", None),
        ("PUT", f"{api}/settings", RULES),
        ("POST", f"{api}/guidelines", {"text": "Be rude."}),
        ("PUT", f"{api}/members/{member}", {"role": "lead"}),
        ("DELETE", f"{api}/members/{member}", None),
        ("POST", f"{api}/invites", {"role": "lead"}),
        ("GET", f"{api}/invites", None),
        ("DELETE", f"{api}/invites/1", None),
    ]
    for method, path, body in calls:
        assert mia.send(method, path, body).status_code == 403, path
        assert eve.send(method, path, body).status_code == 404, path
    assert workspace.projects.get(project.id) == project
    assert workspace.projects.roles(project=project.id) == {member: "annotator"}
    assert workspace.projects.guidelines(project.id) == []

"""A person's data are deleted: an account by an administrator, a part in a project by its lead."""

from typing import Any

import pytest
from web_helpers import PAIR, Browser, SignIn
from whole_page import WholePage

from backflip.records.feedback import Comparison
from backflip.workspace import ModelRecord, Project, User, Workspace

REASON = "because I say so"
FATES = pytest.mark.parametrize(("answers", "left"), [("keep", 1), ("retract", 0), ("erase", 0)])


@pytest.fixture
def boss(sign_in: SignIn) -> Browser:
    return sign_in("boss")


@pytest.fixture
def lea(sign_in: SignIn, project: Project) -> Browser:
    return sign_in("lea", "lead", project)


@pytest.fixture
def mia(sign_in: SignIn, project: Project, workspace: Workspace) -> Browser:
    """An annotator who has answered a question, from which a reward model was made."""
    browser = sign_in("mia", "annotator", project)
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    name = user_of(browser).annotator
    task = workspace.queue.next(name, project=project.id)
    assert task is not None
    said: Any = {"annotator": name, "samples": task.sample_ids, "choice": "a", "reason": REASON}
    workspace.queue.answer(task.id, name, Comparison(**said))
    snapshot = workspace.snapshots.take(workspace.journal.said_by(name))
    workspace.models.register(
        ModelRecord(id="r", name="judge", stage="reward", path="r", snapshot=snapshot.id)
    )
    return browser


def user_of(browser: Browser) -> User:
    assert browser.user is not None
    return browser.user


def outcome(mia: Browser, workspace: Workspace, left: int, *, deleted: bool) -> dict[str, Any]:
    """What the API tells when the one answer stays, or does not."""
    snapshot = workspace.models.get("r").snapshot
    return {
        "annotator": user_of(mia).annotator,
        "account_deleted": deleted,
        "retracted": 1 - left,
        "texts_kept": 0,
        "snapshots": [snapshot] * (1 - left),
        "reward_models": ["judge"] * (1 - left),
        "policies": [],
    }


def check_answer(workspace: Workspace, annotator: str, answers: str, by: Browser) -> None:
    """The answer stands, was taken back, or holds no words any more."""
    left = answers == "keep"
    assert len(workspace.journal.active(annotator=annotator)) == left
    entry = workspace.journal.said_by(annotator)[0]
    history = workspace.journal.history(entry)
    assert [row.kind for row in history] == ["comparison", *["retraction"] * (1 - left)]
    if not left:
        assert (history[1].annotator, history[1].reason) == (user_of(by).annotator, "forgotten")
    assert history[0].entry is not None
    assert history[0].entry.reason == ("[erased]" if answers == "erase" else REASON)


def shown_as(browser: Browser, project: Project) -> list[tuple[str, bool]]:
    overview = browser.get(f"/api/projects/{project.id}/overview").json()
    return [(person["name"], person["gone"]) for person in overview["people"]]


def forget(lea: Browser, project: Project, mia: Browser, answers: str) -> Any:
    path = f"/api/projects/{project.id}/members/{user_of(mia).id}/forget"
    return lea.post(path, {"answers": answers}).json()


@FATES
def test_a_user_is_forgotten_with_or_without_the_answers(
    boss: Browser, mia: Browser, workspace: Workspace, project: Project, answers: str, left: int
) -> None:
    user = user_of(mia)
    html = boss.open(f"/admin/people/{user.id}/forget")
    assert "Answers of this person that count now: 1." in WholePage(html).text
    assert f'name="answers" value="{answers}"' in html
    response = boss.post(f"/api/users/{user.id}/forget", {"answers": answers})
    assert response.json() == outcome(mia, workspace, left, deleted=True)
    assert workspace.people.named("mia") is None
    assert mia.get("/").status_code == 303
    assert workspace.projects.roles(project=project.id) == {}
    check_answer(workspace, user.annotator, answers, boss)
    assert workspace.reports.wanted() == ([] if left else [project.id])
    assert shown_as(boss, project) == [(user.annotator, True)]
    assert boss.post(f"/api/users/{user.id}/forget", {"answers": answers}).status_code == 404


@FATES
def test_a_lead_forgets_a_member_who_is_nowhere_else(
    lea: Browser, mia: Browser, workspace: Workspace, project: Project, answers: str, left: int
) -> None:
    user = user_of(mia)
    path = f"/projects/{project.id}/people/{user.id}/forget"
    assert path in lea.open(f"/projects/{project.id}/people")
    page = WholePage(lea.open(path))
    assert "in this project that count now: 1." in page.text
    assert "The account is deleted with all that tells who it was" in page.text
    assert "that nobody can resolve any more" in page.text
    response = lea.post(
        f"/api/projects/{project.id}/members/{user.id}/forget", {"answers": answers}
    )
    assert response.json() == outcome(mia, workspace, left, deleted=True)
    assert workspace.people.named("mia") is None
    assert mia.get("/").status_code == 303
    check_answer(workspace, user.annotator, answers, lea)
    assert shown_as(lea, project) == [(user.annotator, True)]
    assert workspace.reports.wanted() == ([] if left else [project.id])


@FATES
def test_a_lead_forgets_only_what_is_in_the_project(
    lea: Browser, mia: Browser, workspace: Workspace, project: Project, answers: str, left: int
) -> None:
    user = user_of(mia)
    elsewhere = workspace.projects.create("Elsewhere")
    workspace.projects.set_role(elsewhere.id, user.id, "annotator")
    other = Comparison(annotator=user.annotator, samples=PAIR.sample_ids, choice="b")
    workspace.queue.put("run-2", 1, [PAIR], project=elsewhere.id)
    workspace.journal.add([other], run="run-2", round=1)
    page = WholePage(lea.open(f"/projects/{project.id}/people/{user.id}/forget"))
    assert "in this project that count now: 1." in page.text
    assert "The account stays, because it is needed elsewhere" in page.text
    assert "the pages of this project do not say whose it is" in page.text
    response = lea.post(
        f"/api/projects/{project.id}/members/{user.id}/forget", {"answers": answers}
    )
    assert response.json() == outcome(mia, workspace, left, deleted=False)
    assert workspace.journal.active(annotator=user.annotator, run="run-2") == [other]
    workspace.journal.retract(other.id, "out of the way", by="test")
    check_answer(workspace, user.annotator, answers, lea)
    # Mia is signed in still, and finds the other project only.
    assert set(mia.get("/api/me").json()["roles"]) == {elsewhere.id}
    assert mia.post(f"/api/projects/{project.id}/next").status_code == 404
    assert mia.post(f"/api/projects/{elsewhere.id}/next").status_code == 200


def test_no_page_of_the_project_names_who_was_forgotten_there(
    boss: Browser, lea: Browser, mia: Browser, workspace: Workspace, project: Project
) -> None:
    user = user_of(mia)
    workspace.people.change(user.id, admin=True)
    workspace.projects.add_guideline(project.id, "Be kind.", user.annotator)
    workspace.people.invite(project.id, "annotator", author=user.id)
    record = workspace.models.get("r")
    fields = {"id": "of-run", "name": "of-run", "run": "run-1", "parents": ("r",)}
    workspace.models.register(record.model_copy(update=fields))

    def named() -> dict[str, bool]:
        found = {}
        for page in ("", "/people", "/answers", "/data", "/rules", "/models/of-run"):
            text = WholePage(lea.open(f"/projects/{project.id}{page}")).text
            found[page] = "mia" in text
        return found

    assert all(named().values()), named()
    assert forget(lea, project, mia, "keep")["account_deleted"] is False
    assert not any(named().values()), named()
    assert shown_as(lea, project) == shown_as(boss, project) == [(user.annotator, True)]
    workspace.projects.set_role(project.id, user.id, "annotator")
    assert all(named().values()), "who takes part again is named again"


def test_the_account_does_not_go_where_the_page_said_that_it_stays(
    lea: Browser, mia: Browser, workspace: Workspace, project: Project
) -> None:
    user = user_of(mia)
    elsewhere = workspace.projects.create("Elsewhere")
    workspace.projects.set_role(elsewhere.id, user.id, "annotator")
    page = lea.open(f"/projects/{project.id}/people/{user.id}/forget")
    assert 'name="deletes_account" data-as="json" value="false"' in page
    workspace.projects.set_role(elsewhere.id, user.id, None)
    path = f"/api/projects/{project.id}/members/{user.id}/forget"
    refused = lea.post(path, {"answers": "erase", "deletes_account": False})
    assert refused.status_code == 409
    assert "the account would be deleted by now" in refused.json()["error"]["what"]
    assert workspace.people.get(user.id) == user
    assert lea.post(path, {"answers": "erase", "deletes_account": True}).status_code == 200
    assert workspace.people.named("mia") is None


def test_who_has_left_can_be_forgotten_still(
    lea: Browser, mia: Browser, workspace: Workspace, project: Project
) -> None:
    user, people = user_of(mia), f"/projects/{project.id}/people"
    assert "are no members now" not in lea.open(people)
    root = f"/api/projects/{project.id}/members"
    assert lea.send("DELETE", f"{root}/{user.id}").status_code == 200
    page = lea.open(people)
    assert "Have answered, and are no members now" in page
    assert f"{people}/{user.id}/forget" in page
    assert [row["name"] for row in lea.get(root).json()] == ["lea"]
    rows = lea.get(f"{root}?left=true").json()
    assert [(row["name"], row["role"], row["done"]) for row in rows] == [
        ("lea", "lead", 0),
        ("mia", None, 1),
    ]
    workspace.projects.set_role(workspace.projects.create("Elsewhere").id, user.id, "annotator")
    assert forget(lea, project, mia, "erase")["account_deleted"] is False
    assert "are no members now" not in lea.open(people)
    assert len(lea.get(f"{root}?left=true").json()) == 1


def test_to_forget_takes_a_choice_and_somebody_else(
    boss: Browser, lea: Browser, mia: Browser, workspace: Workspace, project: Project
) -> None:
    root = f"/projects/{project.id}"
    for browser, api, page in (
        (boss, "/api/users/{}/forget", "/admin/people/{}/forget"),
        (lea, f"/api{root}/members/{{}}/forget", f"{root}/people/{{}}/forget"),
    ):
        for body in ({}, {"answers": "sell"}, {"answers": None}, {"answers": "keep", "now": True}):
            assert browser.post(api.format(user_of(mia).id), body).status_code == 422
        own = user_of(browser).id
        refused = browser.post(api.format(own), {"answers": "retract"})
        assert refused.status_code == 409
        assert "cannot forget yourself" in refused.json()["error"]["what"]
        assert browser.get(page.format(own)).status_code == 409
        assert browser.get(page.format("none")).status_code == 404
        assert browser.post(api.format("none"), {"answers": "keep"}).status_code == 404
    # The administrator is no member: the project has nothing of it.
    assert lea.get(f"{root}/people/{user_of(boss).id}/forget").status_code == 404
    assert f"{root}/people/{user_of(lea).id}/forget" not in lea.open(f"{root}/people")
    assert {user.name for user in workspace.people.all()} == {"boss", "lea", "mia"}
    assert len(workspace.journal.active()) == 1

"""Forms of leads and administrators in a browser: what is shown once, what is asked first."""

import re
from collections.abc import Callable

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import expect
from web_helpers import PAIR, SAMPLES

from backflip.records.feedback import ERASED, GoodBad
from backflip.workspace import ModelRecord, Project

Ask = Callable[..., Project]
Sit = Callable[..., Desk]
ADDRESS = "https://93.184.216.34/hook"
"""Of the world outside, told without asking what a name leads to; nothing is sent there."""


@pytest.fixture
def project(ask: Ask) -> Project:
    return ask(PAIR)


@pytest.fixture
def boss(site: Site, sit: Sit) -> Desk:
    user = site.make_user(None, None)
    site.workspace.people.change(user.id, admin=True)
    return sit(user=site.workspace.people.get(user.id))


def follow(desk: Desk, name: str) -> None:
    """Follow a link, and wait until the scripts of the page it leads to are at work."""
    with desk.page.expect_navigation():
        desk.page.get_by_role("link", name=name).click()


def sure(desk: Desk, action: str) -> None:
    """Answer the question that is asked first."""
    assert desk.violations() == ""
    desk.page.get_by_role("dialog").get_by_role("button", name=action).click()


def test_a_webhook_is_added_shown_and_removed(site: Site, project: Project, boss: Desk) -> None:
    page, hooks = boss.page, site.workspace.webhooks
    boss.open(f"/projects/{project.id}/data")
    follow(boss, "Webhooks")
    page.get_by_label("Address").fill(ADDRESS)
    page.get_by_label("each batch that is done").uncheck()
    page.get_by_role("button", name="Add the webhook").click()
    secret = page.get_by_label("The secret that signs")
    expect(secret).to_be_focused()
    (hook,) = hooks.all(project.id)
    assert (hook.url, hook.events) == (ADDRESS, ("answer",))
    expect(secret).to_have_value(hook.secret)
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#link [role=status]")).to_have_text(re.compile("Copied|Ctrl-C"))
    assert boss.violations() == ""
    follow(boss, "Done")
    expect(page.get_by_text(ADDRESS).first).to_be_visible()
    page.wait_for_load_state()
    assert hook.secret not in page.content()
    page.get_by_role("button", name="Remove").click()
    sure(boss, "Cancel")
    assert hooks.all(project.id) == [hook]
    page.get_by_role("button", name="Remove").click()
    sure(boss, "Remove")
    expect(page.locator("#said")).to_have_text("The webhook is removed.")
    assert hooks.all(project.id) == []


def test_a_webhook_that_cannot_be_is_refused_in_words(project: Project, boss: Desk) -> None:
    boss.excuse("status of 4")
    boss.open(f"/projects/{project.id}/webhooks")
    boss.page.get_by_label("Address").fill("http://127.0.0.1/")
    boss.page.get_by_role("button", name="Add the webhook").click()
    expect(boss.page.get_by_role("alert")).to_contain_text("inside the server's own network")


@pytest.mark.parametrize("where", ["project", "server"])
def test_an_invitation_is_made_shown_and_revoked(
    site: Site, project: Project, boss: Desk, where: str
) -> None:
    page, people = boss.page, site.workspace.people
    of_project = where == "project"
    boss.open(f"/projects/{project.id}/people" if of_project else "/admin/people")
    page.get_by_role("button", name="Make a link").click()
    address = page.get_by_label("Send this address")
    expect(address).to_have_value(re.compile("/join/"))
    key = address.input_value().rpartition("/")[2]
    assert people.invitation(key) is not None
    follow(boss, "Done")
    expect(page.get_by_role("heading", name="Open invitations")).to_be_visible()
    page.wait_for_load_state()
    assert boss.violations() == ""
    page.get_by_role("button", name="Revoke").click()
    sure(boss, "Revoke")
    expect(page.locator("#said")).to_have_text("The invitation is revoked.")
    assert people.invitation(key) is None
    expect(page.get_by_role("heading", name="Open invitations")).to_have_count(0)


@pytest.mark.parametrize("where", ["server", "project", "project, and is elsewhere"])
def test_somebody_is_forgotten_with_every_word(
    site: Site, project: Project, boss: Desk, where: str
) -> None:
    page, workspace = boss.page, site.workspace
    user = site.make_user(project, None)
    elsewhere = site.make_project([], overlap=1, guideline=None, rules={})
    if where.endswith("elsewhere"):
        workspace.projects.set_role(elsewhere.id, user.id, "annotator")
    workspace.samples.add(SAMPLES)
    said = GoodBad(annotator=user.annotator, sample=SAMPLES[0].id, good=True, reason="So kind.")
    workspace.journal.add([said], run=workspace.batches.all(project.id)[0].run, round=1)
    model = ModelRecord(id=f"m-{user.id}", name=f"judge of {user.name}", stage="reward", path="m")
    snapshot = workspace.snapshots.take([said.id]).id
    workspace.models.register(model.model_copy(update={"snapshot": snapshot}))
    people = "/admin/people" if where == "server" else f"/projects/{project.id}/people"
    boss.open(people)
    verb = "Forget" if where == "server" else "Delete data … of"
    page.get_by_role("link", name=f"{verb} {user.name}", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(user.name)
    page.wait_for_load_state()
    assert boss.violations() == ""
    page.get_by_label("what this person wrote is erased").check()
    page.get_by_role("button", name="Forget for good").click()
    told = page.get_by_role("status").filter(has_text="answers taken back")
    stays = where.endswith("elsewhere")
    first = "The person has left the project" if stays else "The account is deleted."
    expect(told).to_contain_text(first)
    expect(told).to_contain_text("1 answers taken back.")
    expect(told).to_contain_text(model.name)
    expect(told).to_be_focused()
    assert boss.violations() == ""
    expect(page.get_by_role("button", name="Forget for good")).to_have_count(0)
    assert (workspace.people.named(user.name) is not None) == stays
    assert [row.entry.reason for row in workspace.journal.history(said.id) if row.entry] == [ERASED]
    page.get_by_role("link", name="Back to the people").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text(user.name, exact=True)).to_have_count(0)


def test_a_fault_leaves_the_choice_where_it_is(site: Site, project: Project, boss: Desk) -> None:
    boss.excuse("status of 4")
    user = site.make_user(project, None)
    boss.open(f"/projects/{project.id}/people/{user.id}/forget")
    site.workspace.projects.set_role(project.id, user.id, None)
    boss.page.get_by_label("All are taken back: no later").check()
    boss.page.get_by_role("button", name="Forget for good").click()
    expect(boss.page.get_by_role("alert")).to_contain_text("no member")
    expect(boss.page.get_by_role("button", name="Forget for good")).to_be_enabled()
    assert site.workspace.people.get(user.id) == user

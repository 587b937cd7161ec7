"""The pages of a lead, filled, in a real browser: to axe, on narrow screens, in the dark."""

from collections.abc import Callable

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import expect
from test_browser_look import OVERFLOW
from web_helpers import SAMPLES, ids

from backflip.quality.report import measure_quality
from backflip.records.feedback import Comparison
from backflip.workspace import ModelRecord, Project, Task, Workspace
from backflip.workspace.projects.webhooks import note_event

Sit = Callable[..., Desk]
PEOPLE = ("ada", "bo", "cy")
NAMES = "answers questions rules people quality data webhooks models playground"
PAGES = ("", *(f"/{name}" for name in NAMES.split()))


def fill(site: Site, project: Project) -> None:
    """Two rounds of a run, three people who part on some pairs, models, scores, a report."""
    workspace, run = site.workspace, f"run-{project.id}"
    workspace.runs.start(run, "tiny", {}, "1.0")
    tasks = [Task(kind="comparison", sample_ids=ids(n, i, i + 1)) for n in range(4) for i in (0, 2)]
    for number, asked in ((1, tasks), (2, tasks[:4])):
        name = f"Round {number}"
        workspace.queue.put(run, number, asked, overlap=3, project=project.id, name=name)
        for person in PEOPLE:
            answer(workspace, project, person)
        measured = {"heldout_accuracy": 0.5 + 0.1 * number, "heldout_answers": 30.0 * number - 20}
        workspace.metrics.log(run, f"round-{number}/reward/overall", 40 * number, measured)
    checks = [tasks[0].model_copy(update={"expected": {"choice": "a"}})]
    workspace.queue.put(f"checks-{project.id}", 0, checks, purpose="checks", project=project.id)
    # Somebody has chosen the first of these two; see `answer`.
    first, second = ids(0, 0, 1)
    workspace.scores.keep(run, "overall", {first: 0.0, second: 9.0}, [])
    for stage in ("base", "reward", "policy"):
        name = f"{stage} {project.id}"
        workspace.models.register(
            ModelRecord(id=f"m-{name}", name=name, stage=stage, path=name, run=run)  # pyright: ignore
        )
    workspace.projects.add_guideline(project.id, "# Be kind", "lea")
    workspace.people.invite(project.id, "annotator")
    workspace.webhooks.add(project.id, "https://example.org/" + "long" * 40, ["answer"])
    with workspace.database.write("webhooks") as connection:
        note_event(connection, project.id, "answer", {})
    workspace.reports.keep(project.id, measure_quality(workspace, project.id))


def answer(workspace: Workspace, project: Project, person: str) -> None:
    """One of the three always takes the task's first sample, the others that of the lower id."""
    while (task := workspace.queue.next(person, project=project.id)) is not None:
        first = task.sample_ids[0] < task.sample_ids[1]
        choice = "a" if person == "cy" or first else "b"
        said = Comparison(annotator=person, samples=task.sample_ids, choice=choice, seconds=4.0)
        workspace.queue.answer(task.id, person, said)


@pytest.fixture(scope="module")
def project(site: Site) -> Project:
    site.workspace.samples.add(SAMPLES)
    project = site.make_project([], overlap=1, guideline=None, rules={})
    fill(site, project)
    return project


@pytest.fixture
def desk(site: Site, project: Project, sit: Sit) -> Desk:
    user = site.make_user(project, None)
    site.workspace.projects.set_role(project.id, user.id, "lead")
    return sit(user=user)


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_on_a_lead_s_page(desk: Desk, project: Project, page: str) -> None:
    desk.open(f"/projects/{project.id}{page}")
    look(desk)


def look(desk: Desk) -> None:
    """At the page that is open: with all of it unfolded, in the dark, and where it is narrow."""
    desk.page.evaluate(
        "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
    )
    assert desk.violations() == ""
    desk.page.emulate_media(color_scheme="dark")
    assert desk.violations("color-contrast") == ""
    desk.page.set_viewport_size({"width": 320, "height": 640})
    width, out = desk.page.evaluate(OVERFLOW)
    # A wide table scrolls by itself.
    assert (width, [each for each in out if not each.startswith(("<t", "<span", "<meter"))]) == (
        0,
        [],
    )
    assert desk.violations() == ""


def test_axe_finds_nothing_where_data_are_deleted(desk: Desk, site: Site, project: Project) -> None:
    user = site.make_user(project, None)
    desk.open(f"/projects/{project.id}/people/{user.id}/forget")
    look(desk)


def test_axe_finds_nothing_on_the_page_of_a_model(desk: Desk, project: Project) -> None:
    desk.open(f"/projects/{project.id}/models/m-policy {project.id}")
    assert desk.violations() == ""


def test_the_overview_goes_on_by_itself(desk: Desk, site: Site, project: Project) -> None:
    desk.open(f"/projects/{project.id}")
    expect(desk.page.locator("#live")).to_have_text("Live")
    rows = desk.page.locator("#accuracies tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("70%")
    expect(rows.last).to_contain_text("too few to say")
    measured = {"heldout_accuracy": 0.25, "heldout_answers": 100.0}
    site.workspace.metrics.log(f"run-{project.id}", "round-2/reward/safe", 99, measured)
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("25%")


def test_a_conflict_is_settled_on_the_page(desk: Desk, site: Site, project: Project) -> None:
    desk.open(f"/projects/{project.id}/quality")
    cards = desk.page.locator("section:has(#contradictions-title) .conflict")
    expect(cards.first).to_contain_text("sure of the opposite")
    card = cards.first
    card.get_by_label("Your word").select_option("tie")
    card.get_by_label("Why (not needed)").fill("Both say the same.")
    with desk.page.expect_navigation():
        card.get_by_role("button", name="Settle").click()
    expect(desk.page.locator("#said")).to_have_text("Your word is kept.")
    said = desk.answer()
    assert (said.choice, said.reason, said.tags) == ("tie", "Both say the same.", ("adjudicated",))


def test_rules_are_kept_as_they_stand_on_the_page(desk: Desk, site: Site, project: Project) -> None:
    desk.open(f"/projects/{project.id}/rules")
    model = f"m-policy {project.id}"
    desk.page.locator("select[name=chat_model]").select_option(model)
    desk.page.locator("input[name=chat_temperature]").fill("0.5")
    with desk.page.expect_navigation():
        desk.page.get_by_role("button", name="Save the rules").click()
    before = project.settings.model_dump()
    after = site.workspace.projects.get(project.id).settings.model_dump()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"chat_model", "chat_temperature"}
    assert after["chat_model"] == model

"""A page draws the form of a kind that it has no form for."""

from browser_desk import Desk, Site
from playwright.sync_api import Browser, expect
from web_helpers import SAMPLES, ids

from backflip.records.feedback import FeedbackBase
from backflip.workspace import Task, Workspace


def test_a_question_is_answered_by_the_keys_of_its_options(
    funnier: type[FeedbackBase], ws: Workspace, chromium: Browser
) -> None:
    ws.samples.add(SAMPLES)
    with Site(ws) as site:
        tasks = [Task(kind="funnier", sample_ids=ids(n, 0, 1)) for n in range(2)]
        project = site.make_project(tasks, overlap=1, guideline=None, rules={"critique": True})
        desk = Desk(site, chromium, project)
        desk.asks("Which reply is funnier?")
        shown = desk.shown()
        expect(desk.page.locator("#task details.more")).to_have_count(1)
        desk.press("3", "2", "Enter")
        desk.says("Saved")
        entry = desk.answer()
        assert isinstance(entry, funnier)
        ((better, worse),) = entry.preferred_pairs()
        texts = {s.id: s.text.replace("**", "") for s in SAMPLES}
        assert [texts[worse], texts[better]] == shown
        desk.page.get_by_role("radio", name="Neither").click()
        desk.drafted()
        desk.press("?")
        expect(desk.page.locator("#keys-list")).to_contain_text("Neither")
        assert desk.leave() == []

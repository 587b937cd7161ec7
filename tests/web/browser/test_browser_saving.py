"""Between a page and its server: slow, lost, refused, late, or done by somebody else."""

from collections.abc import Callable

from browser_desk import Desk, Site
from playwright.sync_api import Page, Route, expect
from web_helpers import PAIR, TASKS, ids

from backflip.workspace import Project, Task

Ask = Callable[..., Project]
Sit = Callable[..., Desk]

PAIRS = [Task(kind="comparison", sample_ids=ids(n, 0, 1)) for n in range(4)]
OFFLINE = "Not saved. The server cannot be reached. Nothing on this page is lost."
GONE = "This question is not yours any more"
ANSWER = "**/api/tasks/*/answer"


def fault(page: Page) -> str:
    """Wait for the alert, and read it."""
    expect(page.locator("#fault")).to_be_visible()
    return page.locator("#fault").inner_text()


def lose(route: Route) -> None:
    """The server gets the request, and the page no response."""
    assert route.fetch().ok
    route.abort()


def test_saved_is_said_when_the_server_has_it_and_not_before(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(*PAIRS))
    held: list[Route] = []
    desk.page.route(ANSWER, lambda route: held.append(route))
    first = desk.asked()
    desk.press("2", "Enter")
    desk.says("Saving…")
    expect(desk.page.locator("#task")).to_have_js_property("inert", True)
    desk.press("7", "Enter", "s", "u")  # nothing of this happens while the answer is under way
    assert desk.answers() == []
    assert desk.asked() == first
    assert "Saved" not in desk.page.locator("body").inner_text()
    assert len(held) == 1
    held[0].continue_()
    desk.says("Saved")
    assert desk.answer().strength == 2
    assert desk.asked() != first


def test_a_page_without_a_server_keeps_everything(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(TASKS["critique"], PAIR))
    desk.excuse("net::ERR_INTERNET_DISCONNECTED")
    desk.press("e", "It is vague.", "Escape", "4", "m", "Space", "Escape")
    desk.drafted()
    desk.context.set_offline(True)
    desk.press("e", "Control+Enter")
    assert fault(desk.page).startswith(OFFLINE)
    assert desk.focused() == "TEXTAREA "
    assert desk.page.locator("#status").inner_text() == ""
    desk.press("Control+End", " Very.", "Control+Enter")
    expect(desk.page.locator("#fault")).to_be_visible()
    assert desk.answers() == []
    desk.context.set_offline(False)
    desk.page.get_by_role("button", name="Try again").click()
    desk.given(1)
    expect(desk.page.locator("#fault")).to_be_hidden()
    entry = desk.answer()
    assert (entry.text, entry.level, entry.tags) == ("It is vague. Very.", 4, ("accurate",))


def test_an_answer_whose_response_was_lost_counts_once(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(*PAIRS))
    desk.excuse("net::ERR_FAILED")

    desk.page.route(ANSWER, lose, times=1)
    first = desk.asked()
    desk.press("3", "Enter")
    assert fault(desk.page).startswith(OFFLINE)
    assert len(desk.answers()) == 1
    assert desk.asked() == first
    desk.page.clock.install()
    desk.page.clock.run_for(5000)  # the same answer five seconds later is still the same
    desk.press("Enter")
    desk.given(1)
    desk.says("Saved")
    assert desk.answer().strength == 1
    assert desk.asked() != first


def test_another_answer_than_the_one_that_was_lost_is_refused(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(*PAIRS))
    desk.excuse("net::ERR_FAILED")
    desk.excuse("status of 409")

    desk.page.route(ANSWER, lose, times=1)
    first = desk.asked()
    desk.press("3", "Enter")
    fault(desk.page)
    desk.press("6", "Enter")
    expect(desk.page.locator("#fault")).to_contain_text("has already answered")
    assert desk.focused() == "fault"
    assert desk.answer().strength == 1
    desk.press("u")  # takes back what had come through; what is on the page stays
    desk.says("Taken back: change it, or answer anew.")
    assert desk.answers() == []
    assert desk.asked() == first
    desk.press("Enter")
    desk.given(1)
    assert desk.answer().strength == 2


def test_what_is_no_answer_of_the_server_is_none(site: Site, ask: Ask, sit: Sit) -> None:
    desk = sit(ask(*PAIRS))
    try:
        for body in (b"<p>Accept the rules of this network.</p>", b"{}", b'{"saved": tr'):
            site.stands_in = (200, body)
            desk.press("1", "Enter")
            assert fault(desk.page).startswith(OFFLINE)
        desk.excuse("status of 502")
        site.stands_in = (502, b"Bad gateway")
        desk.press("Enter")
        expect(desk.page.locator("#fault")).to_contain_text("Not saved. The server has a fault.")
        assert desk.answers() == []
    finally:
        site.stands_in = None
    desk.press("Enter")
    desk.given(1)


def test_the_next_question_was_there_before(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(*PAIRS))
    second, address = [], desk.page.url
    desk.page.goto("about:blank")  # whatever that page was fetching is not waited for below
    with desk.page.expect_response(lambda response: "besides" in str(response.request.post_data)):
        desk.page.goto(address)
    expect(desk.page.locator(".reply")).to_have_count(2)

    def hold_back(route: Route) -> None:
        """Let the answer through, but of what comes next only what the page has already."""
        response = route.fetch()
        second.append(response.json()["task"])
        route.fulfill(response=response, json=response.json() | {"task": None})

    desk.page.route(ANSWER, hold_back)
    first = desk.asked()
    desk.page.route("**/next", lambda route: None)  # never answered from now on
    desk.press("1", "Enter")
    desk.given(1)
    assert desk.asked() not in ("", first)
    assert second[0]["prompt"][0]["source"] not in desk.asked()  # that would have been the third


def test_two_people_and_one_place(site: Site, ask: Ask, sit: Sit) -> None:
    project = ask(PAIR)
    mia, bob = sit(project), sit(project)
    mia.asks("Which reply is better?")
    bob.asks("Nothing more to ask you now. Thank you!")
    mia.press("1", "Enter")
    mia.given(1)
    assert len(site.workspace.journal.active(run=f"run-{project.name.split()[-1]}")) == 1
    bob.page.get_by_role("button", name="Look again").click()
    bob.asks("Nothing more to ask you now. Thank you!")


def test_an_answer_that_comes_too_late(site: Site, ask: Ask, sit: Sit) -> None:
    project = ask(TASKS["critique"], *PAIRS[1:])
    site.workspace.queue.lease_seconds = 0.2
    mia = sit(project)
    mia.excuse("status of 409")
    bob = sit(project)  # mia's time has run out
    site.workspace.queue.lease_seconds = 1800.0
    bob.asks("What do you say of the reply?")
    bob.press("e", "Nice.", "Control+Enter")
    bob.given(1)
    mia.press("e", "Too late.", "Control+Enter")
    assert fault(mia.page).startswith(f"Not saved. {GONE}")
    assert "others have been asked instead" in mia.page.locator("#fault [lang=en]").inner_text()
    assert mia.focused() == "fault"
    assert mia.page.locator("textarea").first.input_value() == "Too late."
    assert mia.answers() == []
    mia.press("Tab", "Enter")
    mia.asks("Which reply is better?")
    expect(mia.page.locator("#fault")).to_be_hidden()
    mia.press("1", "Enter")
    mia.given(1)
    assert mia.answer().kind == "comparison"
    assert bob.answer().text == "Nice."


def test_who_writes_too_late_is_told_while_writing(site: Site, ask: Ask, sit: Sit) -> None:
    project = ask(TASKS["correction"], PAIR)
    site.workspace.queue.lease_seconds = 0.2
    mia = sit(project)
    mia.excuse("status of 409")
    bob = sit(project)
    site.workspace.queue.lease_seconds = 1800.0
    bob.press("s")
    bob.says("Skipped")
    mia.press("e", "Control+End", " More")
    assert fault(mia.page).startswith(f"Not saved. {GONE}")
    assert mia.focused().startswith("TEXTAREA")  # a space that is typed must not press a button


def test_who_is_signed_out_signs_in_and_goes_on(site: Site, ask: Ask, sit: Sit) -> None:
    desk = sit(ask(TASKS["critique"], PAIR))
    desk.excuse("status of 401")
    desk.excuse("status of 403")
    (value,) = [c.get("value") for c in desk.context.cookies() if c.get("name") == "backflip"]
    site.workspace.people.end_session(site.app.state.context.signer.read(value))
    desk.press("e", "It is vague.", "Control+Enter")
    assert fault(desk.page).startswith("Not saved. You are signed out.")
    assert desk.page.get_by_role("link", name="Sign in, in another window").is_visible()
    desk.context.add_cookies([site.cookie(desk.user)])  # as that window would
    desk.page.get_by_role("button", name="Try again").click()
    desk.given(1)
    assert desk.answer().text == "It is vague."


def test_undo_loses_nothing_of_what_is_being_written(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(PAIR, TASKS["critique"]))
    desk.press("1", "Enter")
    desk.given(1)
    desk.press("e", "Not sent yet", "Escape", "u")
    desk.asks("Which reply is better?")
    desk.press("Enter")
    desk.asks("What do you say of the reply?")
    assert desk.page.locator("textarea").first.input_value() == "Not sent yet"
    desk.press("Enter")
    desk.given(2)


def test_an_undo_whose_response_was_lost_is_not_done_twice(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(*PAIRS))
    desk.excuse("net::ERR_FAILED")
    for number in (1, 2):
        desk.press("1", "Enter")
        desk.given(number)

    desk.page.route("**/undo", lose, times=1)
    desk.press("u")
    assert fault(desk.page).startswith("Nothing was taken back. The server cannot be reached.")
    desk.page.get_by_role("button", name="Try again").click()
    desk.given(1)
    assert len(desk.answers()) == 1


def test_new_instructions_are_announced(site: Site, ask: Ask, sit: Sit) -> None:
    project = ask(*PAIRS, guideline="Be kind.")
    desk = sit(project)
    expect(desk.page.locator("#guideline")).to_contain_text("Be kind.")
    desk.press("Escape")
    expect(desk.page.locator("#task")).to_be_focused()
    desk.page.reload()
    desk.asks("Which reply is better?")
    expect(desk.page.locator("#guideline")).to_be_hidden()  # once is enough
    site.workspace.projects.add_guideline(project.id, "Be exact.", "lea")
    desk.press("s")
    desk.says("Skipped")
    desk.press("s")  # the second was handed out before
    button = desk.page.get_by_role("button", name="Read them")
    button.click()
    expect(desk.page.locator("#guideline")).to_contain_text("Be exact.")

"""How the pages look and feel: to axe, on narrow screens, in the dark, in German, to a keyboard."""

import re
from collections.abc import Callable

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import expect
from web_helpers import TASKS

from backflip.records import Completion, Prompt, Sample
from backflip.web.texts import catalogue
from backflip.workspace import Project, Task

Ask = Callable[..., Project]
Sit = Callable[..., Desk]

LONG = [
    Sample.of(
        Prompt.from_text("Say it at length. " + "Why so? " * 600),
        Completion(text="\n\n".join(f"{word} {n}. " * 8 for n in range(40)) + tail, finish="stop"),
    )
    for word, tail in (
        ("One", "\n\n```python\n" + "x = 1  # " + "far " * 60 + "\n```"),
        ("Two", "\n\n| a | b |\n|---|---|\n| " + "c" * 300 + " | $" + "x + " * 60 + "1$ |"),
        ("Three", "w" * 500),
    )
]
LONG_PAIR = Task(kind="comparison", sample_ids=(LONG[0].id, LONG[1].id))


@pytest.fixture(autouse=True)
def samples(site: Site) -> None:
    site.workspace.samples.add(LONG)


@pytest.mark.parametrize("kind", TASKS)
def test_axe_finds_nothing_on_the_labelling_page(ask: Ask, sit: Sit, kind: str) -> None:
    desk = sit(ask(TASKS[kind]))
    assert desk.violations() == ""
    desk.press("m", "Space", "Escape", "x", "1")
    for part in desk.page.locator("details details:not(.changes) > summary").all():
        part.click()
    for box in desk.page.get_by_label("Unsafe", exact=True).and_(desk.page.locator("input")).all():
        box.check()
    if kind == "comparison":
        desk.page.get_by_role("radio", name="A much better").click()
    expect(desk.page.locator("mark").first).to_be_visible()
    assert desk.violations() == ""
    desk.page.emulate_media(color_scheme="dark")
    assert desk.violations("color-contrast") == ""


def test_axe_finds_nothing_in_the_dialogues(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(TASKS["ranking"], guideline="# Be kind\n\n- And exact.\n\n`code`"))
    for dialogue in ("#guideline", "#keys"):
        expect(desk.page.locator(dialogue)).to_be_visible()
        assert desk.violations() == "", dialogue
        desk.page.emulate_media(color_scheme="dark")
        assert desk.violations("color-contrast") == "", dialogue
        desk.page.emulate_media(color_scheme="light")
        desk.press("Escape", "?")


def test_axe_finds_nothing_on_the_other_pages(site: Site, ask: Ask, sit: Sit) -> None:
    project = ask(TASKS["rating"])
    guest, user = sit(guest=True), sit(user=site.make_user(project, None))
    key = site.workspace.people.invite(project.id, "annotator")
    site.workspace.people.add_token(user.user.id, "my notebook")
    pages = [(guest, "/login"), (guest, f"/join/{key}"), (user, f"/join/{key}")]
    for desk, path in [*pages, (user, "/account"), (user, "/"), (user, "/account?saved=true")]:
        desk.open(path)
        desk.page.emulate_media(color_scheme="light")
        assert desk.violations() == "", path
        desk.page.emulate_media(color_scheme="dark")
        assert desk.violations("color-contrast") == "", path


def test_axe_finds_nothing_when_something_went_wrong(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(TASKS["good_bad"]))
    desk.excuse("status of 500")
    desk.page.route("**/answer", lambda route: route.fulfill(status=500, body="{}"))
    desk.press("g", "Enter")
    expect(desk.page.locator("#fault")).to_be_visible()
    assert desk.violations() == ""
    desk.press("s")
    desk.asks("Nothing more to ask you now. Thank you!")
    assert desk.violations() == ""


SCREENS = {
    "narrow": {"viewport": {"width": 320, "height": 640}},
    # 200% of a window of 1280 by 800 pixels.
    "zoomed": {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
    "wide": {"viewport": {"width": 1280, "height": 800}},
}
OVERFLOW = """() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    const out = [...document.querySelectorAll("main *")]
        .filter((e) => !e.closest(".hidden, pre, .table, .math"))
        .filter((e) => e.getBoundingClientRect().right > innerWidth + 1);
    return [scrollWidth - clientWidth, out.map((e) => e.outerHTML.slice(0, 80))];
}"""
"""How much wider the page is than the screen, and what reaches out of it."""
COVERED = """() => {
    const e = document.activeElement, { left, width, top, bottom } = e.getBoundingClientRect();
    const middle = (Math.max(top, 0) + Math.min(bottom, innerHeight)) / 2;
    const above = document.elementFromPoint(left + Math.min(width, 60) / 2, middle);
    if (e.contains(above) || above?.contains(e)) return null;
    return `${e.outerHTML.slice(0, 80)} under ${above?.outerHTML.slice(0, 80)}`;
}"""
"""What has the focus and cannot be seen; null when it can."""


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_is_wider_than_the_screen(site: Site, ask: Ask, sit: Sit, screen: str) -> None:
    long_ranking = Task(kind="ranking", sample_ids=tuple(sample.id for sample in LONG))
    tasks = [*TASKS.values()] if screen == "narrow" else [TASKS["correction"]]
    project = ask(LONG_PAIR, long_ranking, *tasks, guideline="w" * 300)
    desk = sit(project, **SCREENS[screen])
    assert desk.page.evaluate(OVERFLOW) == [0, []]
    desk.press("Escape")
    for number in range(2 + len(tasks)):
        desk.press("m", "Escape", "x", "1")
        assert desk.page.evaluate(OVERFLOW) == [0, []], number
        desk.press("x")
        assert desk.page.evaluate(OVERFLOW) == [0, []], number
        cards = [card.bounding_box() for card in desk.page.locator(".reply").all()]
        if len(cards) == 2:
            beside = cards[0]["y"] == cards[1]["y"]  # pyright: ignore
            assert beside == (screen == "wide")
        desk.skip()
    for path in ("/account", "/"):
        desk.open(path)
        assert desk.page.evaluate(OVERFLOW) == [0, []], path


def test_long_replies_scroll_together(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(LONG_PAIR), viewport={"width": 1280, "height": 800})
    first, second = desk.page.locator(".reply .body").all()
    state = "(e) => [e.scrollTop, e.scrollHeight - e.clientHeight]"
    room = [body.evaluate(state)[1] for body in (first, second)]
    assert min(room) > 300
    assert room[0] != room[1]
    for body, other, to in ((first, second, 0.5), (second, first, 1.0), (first, second, 0.25)):
        body.evaluate("(e, to) => { e.scrollTop = to * (e.scrollHeight - e.clientHeight); }", to)
        desk.page.wait_for_function(
            "([e, to]) => Math.abs(e.scrollTop / (e.scrollHeight - e.clientHeight) - to) < 0.01",
            arg=[other.element_handle(), to],
        )
        top, whole = body.evaluate(state)
        assert top / whole == pytest.approx(to, abs=0.01)  # and the first has stayed there
    # The question and what saves stay in sight below long texts.
    for part in ("#question", "#save", ".answer button >> nth=0"):
        expect(desk.page.locator(part)).to_be_in_viewport(ratio=1)
    turns = desk.page.locator(".turns").evaluate(state)
    assert turns[0] == pytest.approx(turns[1], abs=1) != 0  # at its end


def test_focus_is_seen_and_goes_where_keys_work(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(*TASKS.values()), viewport={"width": 1280, "height": 800})
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    for _ in TASKS:
        assert desk.focused() == "task"
        for _ in range(4):
            desk.press("Tab")
            assert desk.focused() != "task"
            assert desk.page.evaluate(outline) == "solid", desk.focused()
        desk.press("Escape", "m")
        assert desk.page.evaluate(outline) == "solid"
        assert desk.focused() == "BUTTON accurate"
        desk.press("Tab", "m")
        assert desk.focused() == "task"
        assert desk.page.evaluate("scrollY") >= 0
        desk.skip()
    desk.asks("Nothing more to ask you now. Thank you!")
    assert desk.focused() == "task"
    desk.press("Tab")
    assert desk.focused() == "BUTTON Look again"


def test_focus_is_never_below_what_sticks_to_the_edge(ask: Ask, sit: Sit) -> None:
    """As WCAG 2.2 asks in 2.4.11: with every stop of Tab the element can be seen."""
    desk = sit(ask(LONG_PAIR), viewport={"width": 1280, "height": 800})
    desk.press("m", "x", "Escape")
    for _ in range(30):
        desk.press("Tab")
        assert covered(desk) is None


def covered(desk: Desk) -> str | None:
    """What has the focus and cannot be seen when the page has come to rest."""
    left = 100
    while (found := desk.page.evaluate(COVERED)) is not None and left:
        desk.page.wait_for_timeout(50)  # it is scrolled to in a frame of its own
        left -= 1
    return found


@pytest.mark.parametrize(
    ("preference", "scheme", "dark"),
    [
        (None, "light", False),
        (None, "dark", True),
        ("auto", "dark", True),
        ("dark", "light", True),
        ("light", "dark", False),
    ],
)
def test_dark_by_preference_and_by_the_system(
    ask: Ask, sit: Sit, preference: str | None, scheme: str, dark: bool
) -> None:
    preferences = None if preference is None else {"theme": preference}
    desk = sit(ask(TASKS["rating"]), preferences=preferences, color_scheme=scheme)
    colour = "() => getComputedStyle(document.documentElement).backgroundColor"
    red = int(re.findall(r"\d+", desk.page.evaluate(colour))[0])
    assert (red < 60) == dark
    assert (red > 200) == (not dark)


def test_the_preferences_are_chosen_on_the_account_page(site: Site, sit: Sit) -> None:
    desk = sit()
    desk.open("/account")
    desk.page.get_by_label("Colours").select_option("Dark")
    desk.page.get_by_label("Language").select_option("Deutsch")
    desk.page.get_by_role("button", name="Save", exact=True).click()
    expect(desk.page.locator("html")).to_have_attribute("lang", "de")
    expect(desk.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert site.workspace.people.get(desk.user.id).preferences == {
        "theme": "dark",
        "language": "de",
    }


WORDS = """() => [...document.querySelectorAll("body *:not(script, noscript, kbd)")]
    .flatMap((e) => [
        ...[...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data),
        ...["aria-label", "title", "placeholder"].map((name) => e.getAttribute(name) ?? "")])
    .map((text) => text.trim()).filter((text) => /[a-z]{3}/.test(text))"""
"""Every text and label of the page, those of closed parts too."""
SAID = re.compile(
    r"Reply \d\.|It has|two|Question \d|Which one\?|The second\.|mia|Kindness|Backflip"
)
"""What people and models wrote, which stays as it is."""


@pytest.mark.parametrize("by", ["preference", "browser"])
def test_the_page_is_german(ask: Ask, sit: Sit, by: str) -> None:
    options = {"locale": "de-AT"} if by == "browser" else {"preferences": {"language": "de"}}
    tasks = [TASKS["critique"]] if by == "browser" else [*TASKS.values()]
    desk = sit(ask(*tasks, guideline="# Ä"), **options)
    expect(desk.page.locator("html")).to_have_attribute("lang", "de")
    holes = [re.sub(r"\\{\w+\\}", ".*", re.escape(text)) for text in catalogue("de").values()]
    german = re.compile("|".join(holes))
    for _ in tasks:
        desk.press("Escape", "m", "Escape", "x", "1", "?")
        texts = [text for text in desk.page.evaluate(WORDS) if not SAID.search(text)]
        assert len(texts) > 30
        assert [text for text in texts if not german.fullmatch(text)] == []
        assert desk.page.locator("#keys kbd", has_text="Strg").count() == 1
        desk.press("Escape", "Escape", "Escape")
        desk.skip("Übersprungen")
    desk.asks(catalogue("de")["Nothing more to ask you now. Thank you!"])

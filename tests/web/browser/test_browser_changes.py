"""What somebody changes in a reply is shown beside it, word by word."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import expect
from test_browser_look import OVERFLOW
from web_helpers import PAIR, TASKS

from backflip.web.invisible_characters import SIGN
from backflip.workspace import Project

Ask = Callable[..., Project]
Sit = Callable[..., Desk]
DIFFERENCE = """async (pairs) => {
    const { difference } = await import("/static/label/changes.js");
    return pairs.map(([before, after]) => difference(before, after));
}"""
BY_HAND = [
    ("The cat sat.", "The dog sat!", "The |-cat|+dog| sat|-.|+!"),
    ("One two three four.", "Five six three four.", "-One two|+Five six| three four."),
    ("It rains.", "It rains a lot.", "It rains|+ a lot|."),
    ("A very long day.", "A day.", "A |-very long |day."),
    ("a b c d e", "c d e a b", "-a b |c d e|+ a b"),
    ("Über Öl", "Über Äl", "Über |-Öl|+Äl"),
    ("same", "same", "same"),
    ("", "new", "+new"),
    ("gone", "", "-gone"),
]
"""Before, after, and the runs: gone after a minus, new after a plus."""


def spelt(runs: list[dict[str, str]]) -> str:
    signs = {"same": "", "gone": "-", "new": "+"}
    return "|".join(signs[run["is"]] + run["text"] for run in runs)


@pytest.fixture
def desk(ask: Ask, sit: Sit) -> Desk:
    return sit(ask(TASKS["correction"], PAIR))


def test_changes_are_those_that_one_would_make_by_hand(desk: Desk) -> None:
    pairs = [[before, after] for before, after, _ in BY_HAND]
    found = desk.page.evaluate(DIFFERENCE, pairs)
    assert [spelt(runs) for runs in found] == [expected for *_, expected in BY_HAND]


def test_both_texts_can_be_put_together_from_the_changes(desk: Desk) -> None:
    draw = random.Random(7)
    signs = [*"é🙂中 .\n\t\x00", "word", "Wort", "\r\n", "e\u0301", "\u202e"]

    def text(length: int) -> str:
        return "".join(draw.choice(signs) for _ in range(length))

    pairs = []
    for _ in range(300):
        before = text(draw.randrange(40))
        cut = draw.randrange(len(before) + 1)
        edited = before[:cut] + text(draw.randrange(6)) + before[cut + draw.randrange(9) :]
        pairs.append([before, draw.choice([edited, text(draw.randrange(40))])])
    # More than the fewest changes are looked for in.
    pairs.append(["one " * 3000 + "end", "two " * 3000 + "end"])
    for (before, after), runs in zip(pairs, desk.page.evaluate(DIFFERENCE, pairs), strict=True):
        assert "".join(run["text"] for run in runs if run["is"] != "new") == before
        assert "".join(run["text"] for run in runs if run["is"] != "gone") == after
        assert all(run["text"] for run in runs)
        kinds = [run["is"] for run in runs]
        assert all(a != b for a, b in itertools.pairwise(kinds))
        assert ("new", "gone") not in list(itertools.pairwise(kinds))


def shown(changes: Any) -> list[str]:
    """What stands in `del` and `ins`, as a screen reader says it."""
    expect(changes).to_be_visible()
    return changes.locator("del, ins").all_text_contents()


def test_changes_are_shown_while_one_corrects(desk: Desk) -> None:
    changes = desk.page.locator(".answer .changes")
    expect(changes).to_be_hidden()
    desk.press("e", "Control+End", " Really.")
    expect(changes.locator("summary")).to_have_text("Changes: 1")
    assert shown(changes) == ["put in:  Really."]
    assert desk.violations() == ""
    desk.page.emulate_media(color_scheme="dark")
    assert desk.violations("color-contrast") == ""
    desk.page.set_viewport_size({"width": 320, "height": 640})
    assert desk.page.evaluate(OVERFLOW) == [0, []]
    expect(desk.page.locator("#draft")).to_have_text("Draft saved")
    desk.page.reload()
    assert shown(changes) == ["put in:  Really."]
    area = desk.page.locator(".answer textarea")
    area.fill(area.input_value().removesuffix(" Really."))
    expect(changes).to_be_hidden()


def test_changes_are_shown_beside_a_pair(desk: Desk) -> None:
    desk.skip()
    desk.press("m")
    parts = desk.page.locator(".per-reply fieldset")
    parts.nth(1).get_by_text("Write a better B").click()
    area = parts.nth(1).get_by_label("Your better version of B")
    area.fill(area.input_value().replace("two", "no"))
    assert shown(parts.nth(1).locator(".changes")) == ["taken out: two", "put in: no"]
    expect(parts.nth(0).locator(".changes")).to_be_hidden()
    assert desk.violations() == ""


def test_the_lead_sees_what_was_changed(site: Site, desk: Desk, sit: Sit) -> None:
    area = desk.page.locator(".answer textarea")
    area.fill(area.input_value().replace("two", "three <b>\u202e\u200b"))
    area.press("Control+Enter")
    desk.given(1)
    (project,) = site.workspace.projects.roles(user=desk.user.id)
    lea = site.make_user(None, None)
    site.workspace.projects.set_role(project, lea.id, "lead")
    lead = sit(user=lea)
    lead.open(f"/projects/{project}/answers")
    expected = ["taken out: two", "put in: three <b>[U+202E][U+200B]"]
    assert shown(lead.page.locator(".difference")) == expected
    assert lead.violations() == ""


UNSEEN = """async (characters) => {
    const { told } = await import("/static/label/changes.js");
    const shows = (character) => told([{ is: "same", text: character }])[0] !== character;
    return characters.map((code) => shows(String.fromCodePoint(code)));
}"""


def test_the_same_characters_are_shown_as_signs_as_anywhere(desk: Desk) -> None:
    blocks = (0, 0x14000), (0x1B000, 0x1E000), (0xE0000, 0xE1100), (0x10FF00, 0x110000)
    codes = [code for block in blocks for code in range(*block) if code not in (9, 10, 13)]
    found = desk.page.evaluate(UNSEEN, codes)
    different = [
        f"U+{code:04X}"
        for code, as_sign in zip(codes, found, strict=True)
        if bool(SIGN.match(chr(code))) != as_sign
    ]
    assert different == []

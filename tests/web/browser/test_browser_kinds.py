"""Every kind of feedback by keyboard alone, from what stands on the page to the journal."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import expect
from web_helpers import PAIR, TASKS, ids

from backflip.records.feedback import KINDS
from backflip.workspace import Project, Task, User

Ask = Callable[..., Project]
Sit = Callable[..., Desk]

KEYS = {
    "comparison": ["2", "Enter"],
    "ranking": [*"b1d2a2c4l", "ArrowDown", "ArrowDown", "Escape", "Enter"],
    "rating": ["4", "Enter"],
    "good_bad": ["b", "Enter"],
    "correction": ["e", "Control+End", "Really.", "Control+Enter"],
    "demonstration": ["e", "My own reply.", "Tab", "Space", "Enter"],
    "critique": ["e", "It is vague.", "Escape", "2", "Enter"],
    "safety_flag": ["n", "e", "insult", "Control+Enter"],
    "implicit": ["r", "Enter"],
}


def texts_of(site: Site, *names: str) -> list[str]:
    """What samples say, as their pages show it: the asterisks make letters bold."""
    found = site.workspace.samples.get(names)
    return [found[name].text.replace("**", "") for name in names]


def check_comparison(site: Site, entry: Any, shown: list[str]) -> None:
    winner = entry.samples["ab".index(entry.choice)]
    assert (texts_of(site, winner), entry.strength) == ([shown[0]], 2)


def check_ranking(site: Site, entry: Any, shown: list[str]) -> None:
    rank_of = dict(zip(texts_of(site, *entry.samples), entry.ranks, strict=True))
    assert [rank_of[text] for text in shown] == [2, 1, 3, 2]
    # The line was drawn below rank 1, the second of the choices after "no line".
    assert entry.num_acceptable == 1


def check_rating(site: Site, entry: Any, shown: list[str]) -> None:
    assert (texts_of(site, entry.sample), entry.level, entry.num_levels) == (shown, 4, 5)


def check_good_bad(site: Site, entry: Any, shown: list[str]) -> None:
    assert (texts_of(site, entry.sample), entry.good) == (shown, False)


def check_correction(site: Site, entry: Any, shown: list[str]) -> None:
    assert texts_of(site, entry.sample, entry.corrected) == [shown[0], f"{shown[0]}Really."]


def check_demonstration(site: Site, entry: Any, shown: list[str]) -> None:
    # The box that says "better than every one shown" was ticked and is no more.
    assert (texts_of(site, entry.sample), entry.over) == (["My own reply."], ())


def check_critique(site: Site, entry: Any, shown: list[str]) -> None:
    assert (entry.text, entry.level, texts_of(site, entry.sample)) == ("It is vague.", 2, shown)


def check_safety_flag(site: Site, entry: Any, shown: list[str]) -> None:
    assert (entry.safe, entry.category, entry.axis) == (False, "insult", "safe")
    assert texts_of(site, entry.sample) == shown


def check_implicit(site: Site, entry: Any, shown: list[str]) -> None:
    assert (entry.sample, entry.over) == TASKS["implicit"].sample_ids
    assert entry.signal == "regenerated"


def test_every_kind_is_tried() -> None:
    assert set(KEYS) == set(KINDS)
    assert all(f"check_{kind}" in globals() for kind in KINDS)


@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_by_keyboard(site: Site, ask: Ask, sit: Sit, kind: str) -> None:
    desk = sit(ask(TASKS[kind]))
    shown = desk.shown()
    desk.press(*KEYS[kind])
    desk.given(1)
    entry = desk.answer()
    assert entry.kind == kind
    assert 0 < entry.seconds < 600
    globals()[f"check_{kind}"](site, entry, shown)
    desk.asks("Nothing more to ask you now. Thank you!")


@pytest.mark.parametrize("first", [0, 1])
def test_the_question_about_one_of_two_names_the_one(
    site: Site, ask: Ask, sit: Sit, first: int
) -> None:
    project = ask(TASKS["implicit"], overlap=100)
    user = next(user for user in people(site, project) if handed(site, user, project)[0] == first)
    desk = sit(project, user=user)
    desk.asks(f"What would you do with {'AB'[first]}?")
    assert desk.page.locator(".reply.chosen h2").inner_text() == "AB"[first]
    subject = texts_of(site, TASKS["implicit"].sample_ids[0])[0]
    assert desk.shown().index(subject) == first


def people(site: Site, project: Project) -> Iterator[User]:
    """As many as are wanted; the order in which they are shown the replies is drawn for each."""
    for _ in range(100):
        yield site.make_user(project, None)


def handed(site: Site, user: User, project: Project) -> tuple[int, ...]:
    """The order in which a person is shown the next question's samples."""
    task = site.workspace.queue.next(user.annotator, project=project.id)
    assert task is not None
    assert task.shown is not None
    return task.shown


def test_what_is_said_beside_an_answer_by_keyboard(site: Site, ask: Ask, sit: Sit) -> None:
    desk = sit(ask(PAIR, guideline="Be kind."))
    expect(desk.page.locator("#guideline")).to_be_visible()
    desk.press("Escape")
    shown = desk.shown()
    desk.press("6", "m", "Space", "Tab", "Tab", "Enter")  # reasons 1 and 3
    desk.press("Escape", "x", "ArrowDown", "2", "ArrowUp", "Enter")  # wrong; then the same again
    desk.press("Tab", "Tab", "3", "x")  # into B, whose first sentence is unsafe
    assert desk.page.locator("details.more .tag").first.inner_text() == "5"
    desk.page.get_by_label("Why? In your own words").focus()
    desk.press("B says it.", "Tab", "Dull.", "Tab", "Space", "Tab", "rude")  # A's critique and flag
    desk.press("Tab", "Enter", "Tab", "Control+a", "A new one.", "Control+Enter")
    desk.given(1)
    vote, *rest = desk.answers()
    vote, critique, correction, flag = (vote, *rest)
    assert (vote.kind, vote.strength, vote.guideline) == ("comparison", 2, 1)
    assert texts_of(site, vote.samples["ab".index(vote.choice)]) == [shown[1]]
    assert (vote.tags, vote.reason) == (("accurate", "clear"), "B says it.")
    marks = []
    for span in vote.spans:
        whole = site.workspace.samples.get([span.sample])[span.sample].text
        marks.append((whole.replace("**", ""), whole[span.start : span.end], span.tag))
    first = [text.replace("two", "**two**").partition(". ") for text in shown]
    assert marks == [
        (shown[0], first[0][2], "wrong"),
        (shown[0], f"{first[0][0]}.", "wrong"),
        (shown[1], f"{first[1][0]}.", "unsafe"),
    ]
    assert (critique.text, texts_of(site, critique.sample)) == ("Dull.", [shown[0]])
    assert texts_of(site, correction.sample, correction.corrected) == [shown[0], "A new one."]
    assert (flag.safe, flag.category, texts_of(site, flag.sample)) == (False, "rude", [shown[0]])


def test_ranking_by_buttons_and_by_dragging(site: Site, ask: Ask, sit: Sit) -> None:
    desk = sit(ask(TASKS["ranking"]))
    page, shown = desk.page, desk.shown()
    page.get_by_role("button", name="C: a better rank").click()  # the first to be ranked: rank 1
    page.get_by_role("button", name="A: a worse rank").click()  # the next free one: 2
    page.get_by_role("button", name="A: a worse rank").click()  # 3
    page.locator(".chip", has_text="D").drag_to(page.locator(".slots li").nth(2))
    desk.press("Enter")
    desk.says("Not ranked yet: B")
    page.locator(".chip", has_text="B").click()
    page.get_by_role("button", name="rank 4").click()
    assert page.locator(".badge").all_inner_texts() == ["rank 3", "rank 4", "rank 1", "rank 2"]
    desk.press("b", "0", "Enter")
    desk.says("Not ranked yet: B")
    desk.press("b", "3", "Enter")
    desk.given(1)
    entry = desk.answer()
    rank_of = dict(zip(texts_of(site, *entry.samples), entry.ranks, strict=True))
    assert [rank_of[text] for text in shown] == [3, 3, 1, 2]
    assert entry.num_acceptable is None


def test_a_question_is_skipped_with_a_reason(site: Site, ask: Ask, sit: Sit) -> None:
    project = ask(PAIR, TASKS["rating"])
    desk = sit(project)
    desk.press("w", "I do not know this field.", "Enter")
    desk.says("Skipped")
    desk.asks("How good is the reply?")
    assert desk.answers() == []
    places = site.workspace.queue.progress(f"run-{project.name.split()[-1]}", 1)
    assert (places.skipped, places.done) == (1, 0)
    assert skip_reason(site, desk) == "I do not know this field."
    assert desk.page.locator("#reason").input_value() == ""


def skip_reason(site: Site, desk: Desk) -> str:
    """What the queue keeps of why the person skipped."""
    import sqlalchemy as sa

    from backflip.workspace.database import schema

    places = schema.assignments
    query = sa.select(places.c.reason).where(places.c.annotator == desk.user.annotator)
    with site.workspace.database.read() as connection:
        return connection.execute(query.where(places.c.state == "skipped")).scalar_one()


def test_the_last_answers_are_taken_back(site: Site, ask: Ask, sit: Sit) -> None:
    pairs = [Task(kind="comparison", sample_ids=ids(n, 0, 1)) for n in range(3)]
    desk = sit(ask(*pairs))
    asked = []
    for number, key in enumerate("17"):
        asked.append(desk.asked())
        desk.press(key, "Enter")
        desk.given(number + 1)
    assert len(desk.answers()) == 2
    desk.press("u")
    desk.says("Taken back: change it, or answer anew.")
    desk.given(1)
    assert [entry.strength for entry in desk.answers()] == [3]
    desk.press("u")
    desk.given(0)
    assert desk.answers() == []
    assert desk.asked() == asked[0]
    # What was answered stands there again.
    chosen = desk.page.locator(".answer [aria-checked=true]")
    assert chosen.inner_text().startswith("A much better")
    desk.press("3", "Enter")
    desk.given(1)
    assert desk.asked() == asked[1]
    desk.press("Enter")
    desk.given(2)
    assert [(entry.strength, entry.choice) for entry in desk.answers()] == [
        (1, "a" if desk.answers()[0].shown == (0, 1) else "b"),
        (3, "b" if desk.answers()[1].shown == (0, 1) else "a"),
    ]
    for number in (1, 0):
        desk.press("u")
        desk.given(number)
    desk.press("u")
    desk.says("There is nothing to take back.")
    assert desk.answers() == []


def test_the_keys_are_shown(ask: Ask, sit: Sit) -> None:
    desk = sit(ask(TASKS["rating"]))
    keys = desk.page.locator("#keys")
    desk.press("?")
    expect(keys).to_be_visible()
    shown = [line.split() for line in keys.locator("dt, dd").all_inner_texts()]
    assert ["4"] in shown
    assert shown[shown.index(["4"]) + 1] == ["good"]
    desk.press("4", "u")  # they work no more while the list is open
    desk.press("Escape")
    expect(keys).to_be_hidden()
    assert desk.focused() == "task"
    assert desk.page.locator(".answer [aria-checked=true]").count() == 0
    desk.press("s")
    desk.asks("Nothing more to ask you now. Thank you!")
    desk.press("?")
    expect(keys).to_be_visible()


def test_a_held_key_acts_once(ask: Ask, sit: Sit) -> None:
    pairs = [Task(kind="comparison", sample_ids=ids(n, 0, 1)) for n in range(3)]
    desk = sit(ask(*pairs))
    first = desk.asked()
    desk.page.keyboard.down("s")
    desk.says("Skipped")
    for _ in range(3):
        desk.page.keyboard.down("s")  # Chromium marks these as repeats of the first
    desk.page.keyboard.up("s")
    second = desk.asked()
    assert first != second
    desk.press("1", "Enter")
    desk.given(1)
    assert desk.asked() not in (first, second)


def test_drafts_come_back(site: Site, ask: Ask, sit: Sit) -> None:
    project = ask(TASKS["critique"], TASKS["ranking"])
    desk = sit(project)
    desk.press("e", "Half a thou")
    desk.drafted()
    desk.press("ght")
    desk.page.reload()  # at once: what is typed last is kept as the page goes
    expect(desk.page.locator("textarea").first).to_have_value("Half a thought")
    desk.press("s")
    desk.asks("Put the replies in order, the best first.")
    desk.press("b", "1", "c", "3", "l", "ArrowDown", "Escape", "m", "Space")
    desk.drafted()
    desk.page.reload()
    expect(desk.page.locator(".badge")).to_have_text(
        ["not ranked", "rank 1", "rank 3", "not ranked"]
    )
    assert desk.page.locator("select").input_value() == "0"
    assert desk.page.locator("details.more").get_attribute("open") is not None
    desk.press("a", "2", "d", "3", "Enter")
    desk.given(1)
    entry = desk.answer()
    assert (sorted(entry.ranks), entry.num_acceptable, entry.tags) == (
        [1, 2, 3, 3],
        0,
        ("accurate",),
    )

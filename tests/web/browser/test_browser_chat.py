"""The chat, by keyboard, in a real browser: two live replies a turn."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import expect
from test_browser_look import OVERFLOW

from backflip.records import Completion, Sample
from backflip.workspace import ModelRecord, Project, Workspace

Ask = Callable[..., Project]
Sit = Callable[..., Desk]
CHAT = {"chat_model": "m-chat"}


class Drawer(threading.Thread):
    """A worker that writes a reply in two steps, the second only when it is let."""

    def __init__(self, workspace: Workspace):
        super().__init__(daemon=True)
        self._workspace = workspace
        self.let = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        generations = self._workspace.generations
        numbers = itertools.count()
        while not self.over.is_set():
            taken = generations.take("drawer", 2)
            for each in taken:
                generations.write("drawer", {each.id: "Well,"})
            if taken:
                self.let.wait(60)
            for each in taken:
                said = each.prompt.messages[-1].content
                text = f"Well, *{said}* {'AB'[each.index]}{next(numbers)}"
                sample = Sample.of(
                    each.prompt, Completion(text=text, finish="stop"), index=each.index
                )
                generations.finish("drawer", {each.id: sample})
            time.sleep(0.02)


@pytest.fixture
def drawer(site: Site) -> Iterator[Drawer]:
    if "m-chat" not in {model.id for model in site.workspace.models.all()}:
        site.workspace.models.register(
            ModelRecord(id="m-chat", name="m-chat", stage="policy", path="m-chat")
        )
    drawer = Drawer(site.workspace)
    drawer.start()
    yield drawer
    drawer.let.set()
    drawer.over.set()
    drawer.join(60)


@pytest.fixture
def desk(site: Site, ask: Ask, sit: Sit, drawer: Drawer) -> Desk:
    desk = sit(user=site.make_user(project := ask(**CHAT), None))
    desk.project = project
    desk.open(f"/projects/{project.id}/chat")
    return desk


def say(desk: Desk, words: str) -> None:
    expect(desk.page.locator("#say textarea")).to_be_focused()
    desk.press(words, "Control+Enter")
    expect(desk.page.locator("#now")).to_be_visible()


def replies(desk: Desk) -> Any:
    return desk.page.locator("#pair .body")


def test_a_chat_by_keyboard(desk: Desk, drawer: Drawer) -> None:
    say(desk, "Hello there")
    expect(replies(desk).first).to_have_text("Well,")  # as it is written
    expect(desk.page.locator("#judge")).to_be_hidden()
    drawer.let.set()
    desk.says("Both replies are there.")
    first, second = desk.shown()
    assert first.startswith("Well, Hello there A")
    desk.press("?")
    keys = desk.page.locator("#keys-list")
    expect(keys).to_contain_text("Just go on with A")
    expect(keys).to_contain_text("B clearly better")
    assert desk.violations() == ""
    desk.press("Escape")
    expect(keys).to_be_hidden()
    desk.press("6")  # B clearly better
    desk.says("Saved")
    expect(desk.page.locator("#turns")).to_contain_text(second)
    say(desk, "And then?")
    desk.says("Both replies are there.")
    old, _ = desk.shown()
    desk.press("r")
    expect(replies(desk).first).not_to_have_text(old)
    expect(desk.page.locator("#judge")).to_be_visible()
    desk.press("j")  # just goes on with A
    desk.says("Saved")
    compared, *implicit = desk.answers()
    assert (compared.choice, compared.strength) == ("b", 2)
    assert [each.signal for each in implicit] == ["regenerated", "regenerated", "kept"]
    # A key in the text that is written next is no command.
    desk.press("u")
    expect(desk.page.locator("#say textarea")).to_have_value("u")
    desk.page.locator("#undo").click()
    desk.says("Taken back: choose anew.")
    assert [each.kind for each in desk.answers()] == ["comparison", "implicit", "implicit"]
    desk.press("k")
    desk.says("Saved")
    assert [each.signal for each in desk.answers()[1:]] == ["regenerated", "regenerated", "kept"]
    desk.page.reload()
    expect(desk.page.locator("#turns .turn")).to_have_count(4)
    desk.page.locator("#end").click()
    desk.says("This chat has ended.")
    desk.page.locator("#fresh").click()
    expect(desk.page.locator("#turns .turn")).to_have_count(0)
    expect(desk.page.locator("#say textarea")).to_be_focused()


def test_what_is_copied_is_noted(desk: Desk, drawer: Drawer) -> None:
    drawer.let.set()
    desk.context.grant_permissions(["clipboard-read", "clipboard-write"])
    say(desk, "Hello")
    desk.says("Both replies are there.")
    with desk.page.expect_response("**/copied"):
        desk.page.locator("#pair").get_by_role("button", name="Copy").first.click()
    desk.says("Copied.")
    copied = desk.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("Well, *Hello* A")
    with desk.page.expect_response("**/choose"):
        desk.press("j")
    assert [each.signal for each in desk.answers()] == ["copied", "kept"]


@pytest.mark.parametrize("screen", [(1280, 800), (320, 640)])
def test_it_looks_as_it_should(desk: Desk, drawer: Drawer, screen: tuple[int, int]) -> None:
    width, height = screen
    desk.page.set_viewport_size({"width": width, "height": height})
    drawer.let.set()
    for _ in range(2):
        assert desk.violations() == ""
        assert desk.page.evaluate(OVERFLOW) == [0, []]
        say(desk, "Hello")
        desk.says("Both replies are there.")
        assert desk.violations() == ""
        assert desk.page.evaluate(OVERFLOW) == [0, []]
        desk.page.emulate_media(color_scheme="dark")
        assert desk.violations("color-contrast") == ""
        desk.press("1")
        desk.says("Saved")


def test_the_chat_is_german(site: Site, ask: Ask, sit: Sit, drawer: Drawer) -> None:
    drawer.let.set()
    project = ask(**CHAT)
    desk = sit(user=site.make_user(project, {"language": "de"}))
    desk.open(f"/projects/{project.id}/chat")
    say(desk, "Hallo")
    desk.says("Beide Antworten sind da.")
    assert "Einfach mit A weiter" in desk.page.locator("#pair").inner_text()

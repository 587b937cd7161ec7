"""An image in a question: seen, heard, and reached by keyboard."""

from collections.abc import Callable

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import expect

from backflip.records import Completion, Dialogue, ImagePart, Message, Prompt, Sample, TextPart
from backflip.workspace import Project, Task
from pictures import png

ALT = 'A "cat" on <b>a mat</b>'
CONTENT = (
    TextPart(text="What is **this**?"),
    ImagePart.of(png(2400, 300, shade=120), ALT),
    ImagePart.of(png(40, 30)),
    TextPart(text="Say it in a word."),
)
PROMPT = Prompt(content=Dialogue(messages=(Message(role="user", content=CONTENT),)))
PAIR = [Sample.of(PROMPT, Completion(text=text, finish="stop")) for text in ("A cat.", "A mat.")]


@pytest.fixture
def question(site: Site) -> Task:
    site.workspace.samples.add(PAIR)
    return Task(kind="comparison", sample_ids=(PAIR[0].id, PAIR[1].id))


@pytest.mark.parametrize("width", [400, 1400])
def test_images_are_shown_as_wide_as_there_is_room(
    question: Task, ask: Callable[..., Project], sit: Callable[..., Desk], width: int
) -> None:
    desk = sit(ask(question), viewport={"width": width, "height": 800})
    cat = desk.page.get_by_role("img", name=ALT)
    other = desk.page.get_by_role("img", name="image without description")
    for image, natural in ((cat, 2400), (other, 40)):
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("e => e.naturalWidth") == natural
    box = cat.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= width
    assert abs(box["width"] / box["height"] - 8) < 0.2
    assert desk.page.evaluate("document.documentElement.scrollWidth") <= width
    assert desk.violations() == ""
    desk.press("1", "Enter")
    desk.given(1)


def test_an_image_without_words_says_so_in_the_language_of_the_page(
    site: Site, question: Task, ask: Callable[..., Project], sit: Callable[..., Desk]
) -> None:
    project = ask(question)
    desk = sit(project, preferences={"language": "de"})
    expect(desk.page.get_by_role("img", name="Bild ohne Beschreibung")).to_have_count(1)
    expect(desk.page.get_by_role("img", name=ALT)).to_have_count(1)
    desk.press("1", "Enter")
    expect(desk.page.locator("#given")).to_contain_text("1")
    assert desk.user is not None
    site.workspace.projects.set_role(project.id, desk.user.id, "lead")
    desk.open(f"/projects/{project.id}/answers")
    desk.page.locator("summary").first.click()
    expect(desk.page.get_by_role("img", name="Bild ohne Beschreibung")).to_have_count(1)
    assert desk.violations() == ""

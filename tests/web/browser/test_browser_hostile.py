"""Texts that mean harm: nothing of them runs, everything of them stays to be seen and marked."""

from collections.abc import Callable
from typing import Any

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import expect

from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.workspace import Project, Task

Ask = Callable[..., Project]
Sit = Callable[..., Desk]

HOSTILE = [
    "<script>window.ran = 1; alert(1)</script>",
    "<img src=x onerror='window.ran = 1'>",
    "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'>x</a></svg>",
    "[press me](javascript:window.ran=1) and [me](data:text/html,<script>alert(1)</script>)",
    "![picture](https://example.com/x.png) <iframe src='javascript:alert(1)'></iframe>",
    "</div></main></script><style>* { display: none }</style><form action=//example.com>",
    "$\\href{javascript:alert(1)}{x}$ <math><mtext><script>alert(1)</script></mtext></math>",
    "Cheers \u202elive\u202c and \u200bnothing \ufeff\x07.",
    "{{ constructor.constructor('window.ran = 1')() }} ${alert(1)}",
    "<a href='jav&#x0a;ascript:alert(1)' onmouseover=alert(1) style='position:fixed'>x</a>",
]
SAMPLES = [
    Sample.of(
        Prompt(content=Dialogue(messages=(Message(role="user", content=f"{text} Asked."),))),
        Completion(text=said, finish="stop"),
    )
    for text, other in zip(HOSTILE, HOSTILE[1:] + HOSTILE[:1], strict=True)
    for said in (text, f"{other} Or that.")
]
PAIRS = [
    Task(kind="comparison", sample_ids=(SAMPLES[2 * n].id, SAMPLES[2 * n + 1].id))
    for n in range(len(HOSTILE))
]


@pytest.fixture(autouse=True)
def samples(site: Site) -> None:
    site.workspace.samples.add([*SAMPLES, ODD])


def test_no_text_runs_anything(ask: Ask, sit: Sit) -> None:
    """Every text as prompt and reply, laid out, as source, and to be marked; the desk complains
    of dialogues, of errors of scripts, and of what the policy of the page has refused."""
    guideline = "\n\n".join(HOSTILE)
    marks = ("</script><script>window.ran = 1</script>", "<img src=x onerror=alert(1)>")
    desk = sit(ask(*PAIRS, guideline=guideline, reasons=HOSTILE, marks=marks))
    page = desk.page
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    expect(page.locator("#guideline")).to_contain_text("window.ran = 1; alert(1)")
    desk.press("Escape", "m")
    assert page.locator("details.more button").first.inner_text() == HOSTILE[0]
    desk.press("Escape")
    seen = set()
    for number in range(len(HOSTILE)):
        seen |= {text for text in HOSTILE if text in page.locator(".turns").inner_text()}
        desk.press("v")
        sources = page.locator(".reply .text").all_inner_texts()
        desk.press("v", "x", "Enter", "Tab", "Tab", "2")
        assert page.locator(".marking mark").count() >= 2
        assert page.locator("#keys, #guideline, dialog").count() == 2
        desk.press("x")
        for link in page.locator(".text a").all():
            assert str(link.get_attribute("href")).startswith("https://example.com/")
        assert page.locator(".reply :is(img, script, style, iframe, form, svg)").count() == 0
        for text in sources:
            # What has no glyph is shown by its name, and nothing else of the text is changed.
            assert text.replace(" Or that.", "") in [*HOSTILE, SIGNED]
        desk.press("4", "Enter")
        desk.given(number + 1)
    assert page.evaluate("window.ran") is None
    assert {text for text in HOSTILE if text[0] in "<{" and "&" not in text} <= seen
    assert all(url.startswith(desk.site.address) for url in requests)
    spans = [span for entry in desk.answers() for span in entry.spans]
    assert {span.tag for span in spans} == set(marks)


SIGNED = "Cheers [U+202E]live[U+202C] and [U+200B]nothing [U+FEFF][U+0007]."
assert HOSTILE[7] == "Cheers \u202elive\u202c and \u200bnothing \ufeff\x07."


def test_a_hostile_draft_and_name_are_text(site: Site, ask: Ask, sit: Sit) -> None:
    desk = sit(ask(Task(kind="critique", sample_ids=(SAMPLES[0].id,))))
    desk.press("e")
    desk.page.keyboard.insert_text(HOSTILE[0])
    desk.drafted()
    desk.page.reload()
    expect(desk.page.locator("textarea").first).to_have_value(HOSTILE[0])
    desk.press("e", "Control+Enter")
    desk.given(1)
    assert desk.answer().text == HOSTILE[0]


ODD = Sample.of(
    Prompt.from_text("Say it with pictures."),
    Completion(text="Yes 👍🏽 it is.\r\n\r\nA \u202eflag\u202c 🇩🇪 here: 3.5 m. End", finish="stop"),
)
"""Characters that are two in a browser, or none on the screen."""


def span_of(site: Site, entry: Any) -> list[tuple[str, str]]:
    """What the marks of an entry cover, and what they mean."""
    texts = {name: sample.text for name, sample in site.workspace.samples.get([ODD.id]).items()}
    return [(texts[span.sample][span.start : span.end], span.tag) for span in entry.spans]


def test_sentences_are_marked_by_characters(site: Site, ask: Ask, sit: Sit) -> None:
    desk = sit(ask(Task(kind="rating", sample_ids=(ODD.id,))))
    desk.press("x")
    sentences = desk.page.locator(".sentence").all_inner_texts()
    assert sentences == ["Yes 👍🏽 it is.", "A [U+202E]flag[U+202C] 🇩🇪 here: 3.5 m.", "End"]
    desk.press("1", "ArrowRight", "2", "End", "3", "ArrowLeft")
    assert desk.page.locator(".sentence:focus").inner_text().startswith("A [U+202E]flag")
    desk.press("3", "x")  # now unsafe instead of wrong
    assert desk.focused() == "task"
    desk.press("5", "Enter")
    desk.given(1)
    assert span_of(site, desk.answer()) == [
        ("Yes 👍🏽 it is.", "good"),
        ("End", "unsafe"),
        ("A \u202eflag\u202c 🇩🇪 here: 3.5 m.", "unsafe"),
    ]


def test_any_stretch_is_marked_with_the_mouse(site: Site, ask: Ask, sit: Sit) -> None:
    desk = sit(ask(Task(kind="rating", sample_ids=(ODD.id,))))
    page, palette = desk.page, desk.page.locator(".palette")
    desk.press("x")
    palette.get_by_role("radio", name="wrong").click()

    def drag(start: tuple[int, int], end: tuple[int, int]) -> None:
        """From before a character to before another, each a piece of the text and a place in it."""
        at = "([piece, place]) => { const r = document.createRange(); const t = document\
            .querySelectorAll('.marking [data-start]')[piece].firstChild; r.setStart(t, place);\
            r.setEnd(t, place + 1); const b = r.getBoundingClientRect();\
            return [b.left, (b.top + b.bottom) / 2]; }"
        begin, stop = page.evaluate(at, list(start)), page.evaluate(at, list(end))
        page.mouse.move(begin[0] + 1, begin[1])
        page.mouse.down()
        page.mouse.move(stop[0], stop[1], steps=3)
        page.mouse.move(stop[0] + 1, stop[1])
        page.mouse.up()

    pieces = page.locator(".marking [data-start]").all_inner_texts()
    assert pieces[0] == "Yes 👍🏽 it is."
    drag((0, 4), (0, 11))  # in UTF-16: the thumb and its colour are four
    expect(page.locator(".marking mark")).to_have_text("👍🏽 it")
    last = len(page.locator(".marking [data-start]").all()) - 1
    palette.get_by_role("radio", name="good").click()
    drag((last - 2, 6), (last, 2))
    assert page.locator(".marks li q").all_text_contents() == ["👍🏽 it", "here: 3.5 m. En"]
    page.locator(".sentence").first.click()
    assert page.locator(".marks li").count() == 3
    desk.press("x", "m")
    page.get_by_role("button", name="Remove the mark “👍🏽 it”").click()
    desk.press("2", "Enter")
    desk.given(1)
    assert span_of(site, desk.answer()) == [
        ("here: 3.5 m. En", "good"),
        ("Yes 👍🏽 it is.", "good"),
    ]

"""Text made harmless for a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.plain_text import clean_text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("back\x08\x7f", r"back\x08\x7f"),
        ("over\rwritten", r"over\x0dwritten"),
        ("left\u202eright", r"left\u202eright"),
        ("\u2066isolated\u2069", r"\u2066isolated\u2069"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("soft\u00adhyphen", r"soft\xadhyphen"),
        ("half\ud800", r"half\ud800"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("private\ue000", r"private\ue000"),
        ("a\x00b", r"a\x00b"),
        ("z\u0301\u0301\u0301\u0301\u0301", "z\u0301\u0301\u0301\u0301" + r"\u0301"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_by_its_code(hostile: str, shown: str) -> None:
    assert clean_text(hostile) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Plain text, with\nlines.",
        "Zoë naïve Ångström e\u0301",
        "雨が降る",
        "مطر",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "👩\u200d🚒 ❤\ufe0f",
        "[bold]markup[/bold] :smile:",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    assert clean_text(text) == text


def test_line_breaks_of_every_kind_and_tabs() -> None:
    assert clean_text("a\r\nb\u2028c\u2029d\te") == "a\nb\nc\n\nd    e"


@given(st.text(st.characters(), max_size=60))
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    allowed = "\n\u200c\u200d"
    shown = clean_text(text)
    for character in shown:
        assert character in allowed or unicodedata.category(character)[0] != "C"
    assert clean_text(shown) == shown
    shown.encode("utf-8")

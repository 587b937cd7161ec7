"""The safe renderer: what Markdown, mathematics and unseen characters become."""

import unicodedata

import pytest
from strict_html import Page

from backflip.web import markup, rendering
from backflip.web.invisible_characters import SIGN
from backflip.web.rendering import NOTES, Rendered, plain, render


def html(text: str) -> str:
    rendered = render(text)
    Page(rendered.html)
    return rendered.html.strip()


LINK = 'target="_blank" rel="noopener noreferrer nofollow ugc"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("**b** *e* ~~s~~ `c`", "<p><strong>b</strong> <em>e</em> <s>s</s> <code>c</code></p>"),
        ("a\nb", "<p>a<br>\nb</p>"),
        ("# one", "<h3>one</h3>"),
        ("## two", "<h4>two</h4>"),
        ("###### six", "<h6>six</h6>"),
        ("one\n===", "<h3>one</h3>"),
        ("1. a\n2. b", "<ol>\n<li>a</li>\n<li>b</li>\n</ol>"),
        ("7) a", '<ol start="7">\n<li>a</li>\n</ol>'),
        ("> q", "<blockquote>\n<p>q</p>\n</blockquote>"),
        ("a\n\n---", "<p>a</p>\n<hr>"),
        ("    x  y", '<pre tabindex="0"><code>x  y\n</code></pre>'),
        ("```\n\n  x\n```", '<pre tabindex="0"><code>\n  x\n</code></pre>'),
        (
            "```python title\nx<y\n```",
            '<p class="info">python title</p>\n<pre tabindex="0"><code>x&lt;y\n</code></pre>',
        ),
        ("<b onclick=x>", "<p>&lt;b onclick=x&gt;</p>"),
        ("<!-- hidden -->", "<p>&lt;!-- hidden --&gt;</p>"),
        ("[x]: http://a.b 'c'", "<p>[x]: http://a.b 'c'</p>"),
        ("www.a.b http://a.b", "<p>www.a.b http://a.b</p>"),
    ],
)
def test_markdown(text: str, expected: str) -> None:
    assert html(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[a](http://b.c/d)",
            f'<a href="http://b.c/d" {LINK}>a</a> <bdi class="url">(http://b.c/d)</bdi>',
        ),
        (
            '[a](https://b.c "t")',
            f'<a href="https://b.c" {LINK}>a</a> <bdi class="url">(https://b.c "t")</bdi>',
        ),
        ("<http://b.c/d>", f'<a href="http://b.c/d" {LINK}>http://b.c/d</a>'),
        ("<a@b.c>", f'<a href="mailto:a@b.c" {LINK}>a@b.c</a>'),
        (
            "[https://good.org](https://evil.org)",
            f'<a href="https://evil.org" {LINK}>https://good.org</a>'
            ' <bdi class="url">(https://evil.org)</bdi>',
        ),
        (
            "<https://münchen.de>",
            f'<a href="https://xn--mnchen-3ya.de" {LINK}>https://münchen.de</a>'
            ' <bdi class="url">(https://xn--mnchen-3ya.de)</bdi>',
        ),
        ("[a](javascript:b)", "[a](javascript:b)"),
        ("[a](JaVaScRiPt:b)", "[a](JaVaScRiPt:b)"),
        ("[a](data:text/html,b)", "[a](data:text/html,b)"),
        ("[a](vbscript:b)", "[a](vbscript:b)"),
        ("[a](/b)", "[a](/b)"),
        ("[a](//b.c)", "[a](//b.c)"),
        ("[a](#b)", "[a](#b)"),
        ("[a](https:b)", "[a](https:b)"),
        ("[a]()", "[a]()"),
        ("<javascript:a>", "&lt;javascript:a&gt;"),
        (
            "![a *b*](http://c.d/e.png 'f')",
            '<span class="image">a <em>b</em> <bdi class="url">(http://c.d/e.png "f")</bdi></span>',
        ),
        ("![a](data:image/png;base64,AA)", "![a](data:image/png;base64,AA)"),
        ("![a]()", "![a]()"),
        ("![a", "![a"),
    ],
)
def test_links_and_images(text: str, expected: str) -> None:
    assert html(text) == f"<p>{expected}</p>"


def test_table_scrolls_and_keeps_what_a_row_has_too_much() -> None:
    text = r"""
|l|c|r|
|:-|:-:|-:|
|1|2|3|4|5\|6|
|7
"""
    assert html(text) == (
        '<div class="table" tabindex="0"><table>\n<thead>\n<tr>\n<th class="align-left">l</th>\n'
        '<th class="align-center">c</th>\n<th class="align-right">r</th>\n</tr>\n</thead>\n'
        '<tbody>\n<tr>\n<td class="align-left">1</td>\n<td class="align-center">2</td>\n'
        '<td class="align-right">3 | 4 | 5|6</td>\n</tr>\n<tr>\n<td class="align-left">7</td>\n'
        '<td class="align-center"></td>\n<td class="align-right"></td>\n</tr>\n</tbody>\n'
        "</table></div>"
    )


@pytest.mark.parametrize(
    ("character", "name", "note"),
    [
        ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE", "bidi"),
        ("\u2066", "U+2066 LEFT-TO-RIGHT ISOLATE", "bidi"),
        ("\u200f", "U+200F RIGHT-TO-LEFT MARK", "bidi"),
        ("\u061c", "U+061C ARABIC LETTER MARK", "bidi"),
        ("\u200b", "U+200B ZERO WIDTH SPACE", "invisible"),
        ("\ufeff", "U+FEFF ZERO WIDTH NO-BREAK SPACE", "invisible"),
        ("\u2060", "U+2060 WORD JOINER", "invisible"),
        ("\xad", "U+00AD SOFT HYPHEN", "invisible"),
        ("\U000e0041", "U+E0041 TAG LATIN CAPITAL LETTER A", "invisible"),
        ("\x00", "U+0000 CONTROL CHARACTER", "control"),
        ("\x1b", "U+001B CONTROL CHARACTER", "control"),
        ("\r", "U+000D CONTROL CHARACTER", "control"),
        ("\x85", "U+0085 CONTROL CHARACTER", "control"),
        ("\u2028", "U+2028 LINE SEPARATOR", "control"),
        ("\ud83d", "U+D83D LONE SURROGATE", "surrogate"),
    ],
)
def test_unseen_characters_are_made_visible(character: str, name: str, note: str) -> None:
    sign = f'<span class="sign" title="{name}">[{name.split()[0]}]</span>'
    assert render(f"a{character}b") == Rendered(f"<p>a{sign}b</p>\n", (note,))
    assert html(f"`a{character}b`") == f"<p><code>a{sign}b</code></p>"
    assert plain(f"a{character}b") == f'<pre class="plain" tabindex="0">\na{sign}b</pre>'
    assert render(f"a{character}b", max_chars=2).notes == ("plain", note)


def test_unseen_characters_do_not_hide_as_references() -> None:
    assert render("&#x202e;&#8203;").notes == ("bidi", "invisible")
    assert render("[a](http://b.c '&#x202e;')").notes == ("bidi",)
    assert Page(render("[a](http://b.c/\u202e)").html).links == ["http://b.c/%E2%80%AE"]
    assert render("[a](http://b.c/\u202e)").notes == ("bidi",)


@pytest.mark.parametrize("text", ["\x0c", "a\x0b", "# a\x85", "|a|\n|-|\n|\x1f|", "\u2028a"])
def test_controls_that_markdown_trims_are_noted(text: str) -> None:
    assert render(text).notes == ("control",)


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627",
        "क्\u200dष",
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "1\ufe0f\u20e3",
        "葛\U000e0100",
    ],
)
def test_joiners_stay_where_spelling_needs_them(text: str) -> None:
    assert render(text) == Rendered(f"<p>{text}</p>\n", ())
    assert "[U+" in plain(text)


@pytest.mark.parametrize("text", ["a\u200db", "a\u200c", "a\ufe0f", "❤\ufe0f\ufe0f", "葛\u200d"])
def test_joiners_elsewhere_are_made_visible(text: str) -> None:
    assert render(text).notes == ("invisible",)


def test_every_character_without_a_glyph_is_a_sign() -> None:
    """By Unicode's own table: controls, format characters, separators of lines, surrogates."""
    visible = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}
    visible |= {0x110BD, 0x110CD}  # signs that stand around a number
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            expected = code not in visible and chr(code) not in "\t\n"
            assert bool(SIGN.fullmatch(chr(code))) == expected, hex(code)


def test_ordinary_characters_are_no_signs() -> None:
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Ll", "Lu", "Nd", "Po", "Sm", "Sc", "Zs", "Lt"):
            assert not SIGN.match(chr(code)), hex(code)


def test_many_signs_lose_their_names_and_not_their_codes() -> None:
    out = plain("a\u200b" * 30_000)
    assert out.count("[U+200B]") == 30_000
    assert len(out) < 400_000


def test_plain_keeps_every_character() -> None:
    text = "\n\n <b>&amp;\t\"'  x \n"
    assert Page(plain(text)).text == text
    assert Page(plain("a\r\nb")).text == "a\nb"
    assert plain("<") == '<pre class="plain" tabindex="0">\n&lt;</pre>'


def test_long_text_is_shown_whole_and_as_it_is() -> None:
    text = "**word** " * 12_000
    rendered = render(text)
    assert rendered == Rendered(plain(text), ("plain",))
    assert Page(rendered.html).text == text
    assert render("**abc**", max_chars=7).notes == ()
    assert render("**abc**", max_chars=6) == Rendered(plain("**abc**"), ("plain",))


@pytest.mark.parametrize("opening", ["> ", "- ", "1. "])
def test_what_is_too_deep_is_shown_as_it_is(opening: str) -> None:
    """At every depth: the parser itself leaves out the innermost text without a word."""
    kinds = set()
    for depth in range(1, 60):
        rendered = render(opening * depth + "word")
        kinds.add(rendered.notes)
        assert "word" in Page(rendered.html).text
    assert kinds == {(), ("plain",)}


PATHOLOGICAL = {
    "brackets": "[" * 100_000,
    "images": "![" * 50_000,
    "nested images": "![" * 20_000 + "a" + "](b)" * 10_000,
    "nested links": "[" * 20_000 + "a" + "](http://b)" * 7000,
    "stars": "*" * 49_000 + "a" + "*" * 49_000,
    "stars and bars": "*_" * 50_000,
    "strong": "**a" * 15_000 + "b**" * 15_000,
    "strikes": "~~a" * 33_000,
    "cells": "a|" * 200 + "\n" + "-|" * 200 + "\n" + "|\n" * 300,
    "tables": "a|b\n-|-\n" * 12_500,
    "items": "- a\n" * 25_000,
    "headings": "#\n" * 50_000,
    "lines": "x\n" * 50_000,
    "addresses": "<http://a>" * 10_000,
    "entities": "&amp;" * 20_000,
    "formulas": "$x$ " * 25_000,
    "open formulas": "\\[\n" * 33_000,
    "open mathematics": "\\begin{align}\n" * 7000,
    "declarations": "<![CDATA[" * 11_000,
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_what_would_take_too_long_is_shown_as_it_is(name: str) -> None:
    text = PATHOLOGICAL[name]
    rendered = render(text)
    assert rendered.notes == ("plain",)
    assert Page(rendered.html).text == text


@pytest.mark.parametrize(
    "text",
    [
        ">" * 10_000,
        "[" * 10_000,
        "*" * 10_000,
        "(" * 10_000,
        "`" * 10_000 + " a",
        "$" * 10_000,
        "\\(" * 10_000,
        "<" * 10_000,
        "_a" * 4_000,
        " ".join("`" * n for n in range(1, 400)),
        "".join("  " * n + "- a\n" for n in range(200)),
        "".join(">" * n + " a\n" for n in range(300)),
        "$" + "{" * 900 + "}" * 900 + "$",
        "$" + r"\operatorname{" + " " * 1900 + "$",
    ],
)
def test_deep_text_is_rendered_without_an_error(text: str) -> None:
    assert Page(render(text).html)


def test_a_long_text_of_ordinary_markdown_is_not_too_much() -> None:
    paragraph = "Some *words* of `code`, a [link](http://a.b/c) and prose. " * 4
    code = "```python\n" + "x = [1]\n" * 20 + "```"
    text = f"## Title\n\n{paragraph}\n\n- one\n- two\n\n{code}\n\n" * 120
    assert 40_000 < len(text) < 100_000
    assert render(text).notes == ()


def test_failure_of_the_parser_does_not_hide_the_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError("inline rule didn't increment state.pos")

    monkeypatch.setattr(rendering, "to_html", fail)
    assert render("a text of no other test") == Rendered(
        plain("a text of no other test"), ("plain",)
    )
    assert "a text of no other test" not in caplog.text
    assert "23 characters" in caplog.text


def test_gate_is_what_makes_it_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the parser let something through, it does not reach the page."""
    hostile = (
        '<p id="top" onclick="a()" style="position:fixed" class="reply">x</p><script>a()</script>'
        '<a href="javascript:a()">y</a><img src="http://a.b/c.png"><form><input name="d"></form>'
        '<math><mi href="http://a.b" id="e">z</mi><annotation-xml><style>f</style>'
        "</annotation-xml></math><iframe src=//a.b></iframe><!-- g --><svg onload=a()></svg>"
    )
    monkeypatch.setattr(rendering, "to_html", lambda *_: hostile)
    page = Page(render("another text of no other test").html)
    assert page.tags == ["p", "a", "math", "mi"]
    assert page.text == "xyz"
    assert page.links == []


def test_results_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(text: str, signs: object) -> str:
        calls.append(text)
        return f"<p>{text}</p>"

    monkeypatch.setattr(rendering, "to_html", count)
    monkeypatch.setattr(rendering, "_CACHE", rendering._Cache(max_bytes=40_000))
    for text in ("a", "b", "a", "b"):
        render(text)
    assert calls == ["a", "b"]
    render("a", max_chars=50)
    assert calls == ["a", "b", "a"], "another limit is another result"
    fillers = [letter * 2000 for letter in "cdefgh"]
    for text in fillers:
        render(text)
        render("a")
    assert calls[3:] == fillers, "what is asked for again and again stays"
    for letter in "ijk":
        render(letter * 2000)
    calls.clear()
    render("b")
    assert calls == ["b"], "the oldest is forgotten"
    render("x" * 20_000)
    calls.clear()
    render("x" * 20_000)
    render("b")
    assert calls == ["x" * 20_000], "one that would push out the others is not kept"


def test_notes_are_the_documented_ones_in_their_order() -> None:
    text = "\ud800\x00\u200b\u202e"
    assert render(text, max_chars=1).notes == NOTES


def test_limit_of_nesting_lets_real_lists_through() -> None:
    text = "".join("  " * depth + f"- level {depth}\n" for depth in range(12))
    assert render(text).notes == ()
    assert render(text).html.count("<ul>") == 12
    assert markup.MAX_NESTING < 100

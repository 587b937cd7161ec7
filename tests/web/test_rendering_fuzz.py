"""The safe renderer against hostile text: known attacks, and whatever hypothesis makes of them."""

import itertools
import re
from html import unescape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strict_html import UNSEEN, Page

from backflip.web.rendering import plain, render

VECTORS = [
    # Elements that run or load something.
    "<script>alert(1)</script>",
    "<SCRIPT SRC=http://evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script\n>alert(1)</script\n>",
    "<script/xss src=//evil.example></script>",
    "<<script>alert(1);//<</script>",
    "<img src=x onerror=alert(1)>",
    "<img/src=x/onerror=alert(1)>",
    "<img src=`javascript:alert(1)`>",
    '<img """><script>alert(1)</script>">',
    "<image src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert&#40;1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><a xlink:href=javascript:alert(1)><text y=9>x</text></a></svg>",
    "<svg><use href=data:image/svg+xml,<svg id=x onload=alert(1)>#x>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='&lt;script&gt;alert(1)&lt;/script&gt;'>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<body onload=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<select autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<isindex type=image src=1 onerror=alert(1)>",
    "<keygen autofocus onfocus=alert(1)>",
    # Elements that change the page.
    "<base href=http://evil.example/>",
    "<meta http-equiv=refresh content=0;url=javascript:alert(1)>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<style>@import 'http://evil.example/x.css';</style>",
    "<div style=position:fixed;inset:0>x</div>",
    "<div style=background:url(javascript:alert(1))>x</div>",
    "<p id=csrf name=csrf class=reply>x</p>",
    "</div></main></body></html><h1>x</h1>",
    "</pre></code></span><b>x",
    "<plaintext>x",
    "<textarea><script>alert(1)</script>",
    "<title></title><script>alert(1)</script>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    # Comments, declarations, instructions, and unfinished ones.
    "<!--><script>alert(1)</script>-->",
    "<!--[if gte IE 4]><script>alert(1)</script><![endif]-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml-stylesheet href=javascript:alert(1)?>",
    "<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>&y;",
    "<img src=x onerror=alert(1)",
    "<a href='http://a.b",
    # Foreign elements, and parsers that disagree on them.
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<math><annotation-xml encoding=text/html><img src=x onerror=alert(1)></annotation-xml></math>",
    "<math href=javascript:alert(1)>x</math>",
    "<form><math><mtext></form><form><mglyph><svg><mtext><style><path id=</style><img onerror=x>",
    # Links.
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](<java\nscript:alert(1)>)",
    "[x](java&#10;script:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A&#x61&#x76&#x61&#x73&#x63&#x72&#x69&#x70&#x74&#x3A;alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](javascript&#58;alert(1))",
    "[x](&NewLine;javascript:alert(1))",
    "[x]( javascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](\u00a0javascript:alert(1))",
    "[x](\u202ejavascript:alert(1))",
    "[x](javascript\u200b:alert(1))",
    "[x](\uff4a\uff41\uff56\uff41script:alert(1))",
    "[x](java\\script:alert(1))",
    "[x](javascript\\:alert(1))",
    "[x](javascript://evil.example/%0aalert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](data:image/svg+xml,<svg/onload=alert(1)>)",
    "[x](view-source:javascript:alert(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](/logout)",
    "[x](\\\\evil.example)",
    '[x](http://a.b" onclick="alert(1))',
    '[x](http://a.b "\\" onmouseover=\\"alert(1)")',
    "[x](http://a.b '><script>alert(1)</script>')",
    "[x](<http://a.b/?q=\"onclick='alert(1)'>)",
    "[<img src=x onerror=alert(1)>](http://a.b)",
    "[a](http://b.c [d](javascript:alert(1)) e)",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "<JAVASCRIPT:alert(1)>",
    "<http://a.b/'onclick=alert(1)//>",
    "<a@b.c?subject=<script>>",
    "![x](javascript:alert(1))",
    '![x](http://a.b/x.png" onerror="alert(1))',
    "![<script>alert(1)</script>](http://a.b)",
    # Code, tables and headings.
    '```"><script>alert(1)</script>\nx\n```',
    "```x onclick=alert(1) id=top\nx\n```",
    "`</code><script>alert(1)</script>`",
    "|<script>|onclick=x|\n|-|-|\n|</td></table><script>alert(1)</script>|",
    '# x {#top onclick="alert(1)" .reply}',
    # Mathematics.
    "$<script>alert(1)</script>$",
    r"$\text{<script>alert(1)</script>}$",
    r"$\text{</mtext></math><img src=x onerror=alert(1)>}$",
    r"$\text{&lt;script&gt;alert(1)&lt;/script&gt;}$",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\style{background:url(javascript:alert(1))}{x}$",
    r'$\class{x" onclick="alert(1)}{x}$',
    r'$\textcolor{red" onclick="alert(1)}{x}$',
    r'$\hspace{1em" onclick="alert(1)}x$',
    r"$\unicode{x3c}script\unicode{x3e}$",
    r"$\operatorname{<script>}$",
    r"$\begin{array}{c" + '" onclick="alert(1)' + r"}x\end{array}$",
    "$$\n</math><script>alert(1)</script>\n$$",
    r"\[\text{<!--}\] <script>alert(1)</script> \[\text{-->}\]",
]
AROUND = [
    "{}",
    "**{}**",
    "`{}`",
    "# {}",
    "> - {}",
    "|a|\n|-|\n|{}|",
    "[{}](http://a.b)",
    "[a](http://b.c '{}')",
    "[a](<{}>)",
    "![{}](http://a.b)",
    "```{}\nx\n```",
    "${}$",
    r"\[\text{{{}}}\]",
    "<{}>",
]
_MARKS = ["*", "**", "_", "~~", "`", "```", "$", "$$", "\\", "\\(", "\\)", "\\[", "\\]", "[", "]"]
_MARKS += ["(", ")", "![", "](", "<", ">", "|", "#", "- ", "1. ", "> ", "\n", "\n\n", "    ", "&"]
_MARKS += ["|-|", "---", "===", '"', "'", "://", "http://", "mailto:", "@", ";", "{", "}", "^", "%"]
_MARKS += ["\\text{", "\\frac", "\\begin{align}", "\\end{align}", "\\left(", "\\\\", "\t", ":", "!"]
ANY = st.text(st.characters(exclude_categories=()))
PIECES = st.one_of(st.sampled_from(_MARKS), st.sampled_from(VECTORS), ANY)
HOSTILE = st.lists(PIECES, max_size=25).map("".join)
SIGN = re.compile(r'<span class="sign" title="(U\+[0-9A-F]+) [^"]*">\[\1\]</span>')


def test_corpus_is_large_and_varied() -> None:
    assert len(set(VECTORS)) == len(VECTORS) >= 100


@pytest.mark.parametrize("around", AROUND)
def test_known_attacks(around: str) -> None:
    for vector in VECTORS:
        text = around.format(vector)
        Page(render(text).html)
        Page(plain(text))


@pytest.mark.parametrize("vector", VECTORS)
def test_words_of_an_attack_are_shown(vector: str) -> None:
    """An attack is text like any other: the reader sees all of it, be it as a formula."""
    page = Page(render(vector).html)
    shown = squeezed("".join([page.text, *page.formulas]))
    for word in re.findall(r"[A-Za-z]{4,}", re.sub(r"&#?\w+;?", " ", vector)):
        assert word.lower() in shown


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", unescape(text)).lower()


@given(HOSTILE)
@settings(max_examples=200, deadline=None)
@example("[x](http://a.b\ud800)")
@example("<http://[::1]:99999999/\udfff>")
@example("[x](http://xn--/)")
@example("$\ud800$")
def test_any_text_is_safe(text: str) -> None:
    rendered = render(text)
    page = Page(rendered.html)
    assert ("surrogate" in rendered.notes) == bool(re.search("[\ud800-\udfff]", text))
    assert not page.signs or set(rendered.notes) - {"plain"}
    if SEEN_AS_SIGNS.search(text):
        assert set(rendered.notes) - {"plain"}


SEEN_AS_SIGNS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\u202a-\u202e\u2066-\u2069\u200b\ud800-\udfff]"
)


@given(st.one_of(ANY, HOSTILE))
@settings(max_examples=200, deadline=None)
@example("\n\n")
@example("\r\n\r\r\n")
@example("&lt;[U+202E]\u202e")
def test_plain_gives_the_text_back(text: str) -> None:
    out = plain(text)
    Page(out)
    assert not UNSEEN.search(out)
    body = out.removeprefix('<pre class="plain" tabindex="0">\n').removesuffix("</pre>")
    back = "".join(
        chr(int(piece[2:], 16)) if index % 2 else unescape(piece)
        for index, piece in enumerate(SIGN.split(body))
    )
    assert back == text.replace("\r\n", "\n")


WORDS = st.integers(1, 40)


@st.composite
def marked_words(draw: st.DrawFn) -> tuple[list[str], str]:
    """Words that occur once each, between marks of Markdown and mathematics."""
    names = (f"q{chr(97 + a)}{chr(97 + b)}w" for a, b in itertools.product(range(26), repeat=2))
    words = list(itertools.islice(names, draw(WORDS)))
    marks = st.lists(st.sampled_from([*_MARKS, " "]), max_size=4).map("".join)
    return words, "".join(draw(marks) + word for word in words) + draw(marks)


@given(marked_words())
@settings(max_examples=200, deadline=None)
def test_no_word_vanishes(marked: tuple[list[str], str]) -> None:
    words, text = marked
    page = Page(render(text).html)
    shown = page.text
    for formula in page.formulas:
        assert "%" not in re.sub(r"\\.", "", formula), "a comment hides the rest"
    for word in words:
        assert word in shown or any(word in formula for formula in page.formulas), word


@given(HOSTILE, st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_text_over_the_limit_is_the_plain_text(text: str, limit: int) -> None:
    rendered = render(text, max_chars=limit)
    if len(text) > limit:
        assert rendered.html == plain(text)
        assert rendered.notes[0] == "plain"


@pytest.mark.parametrize("unit", ["word ", "<b>&amp;", "\u202eaaaaaaaaa", "\ud800", "a\r\n", "é😀"])
def test_a_megabyte_is_shown_whole(unit: str) -> None:
    text = (unit * (2**20 // len(unit) + 1))[: 2**20]
    rendered = render(text)
    assert "plain" in rendered.notes
    assert rendered.html == plain(text)
    assert len(rendered.html) < 9 * len(text)
    assert rendered.html.count("[U+") == len(re.findall(UNSEEN, text.replace("\r\n", "\n")))
    body = rendered.html.removeprefix('<pre class="plain" tabindex="0">\n').removesuffix("</pre>")
    seen = re.sub(r'<span class="sign" title="[^"]*">|</span>|\[U\+[0-9A-F]+\]', "", body)
    assert unescape(seen) == UNSEEN.sub("", text.replace("\r\n", "\n"))


@given(st.lists(st.sampled_from(_MARKS), min_size=1, max_size=4), st.integers(100, 3000))
@settings(max_examples=60, deadline=None)
def test_repeated_marks_are_bounded(marks: list[str], count: int) -> None:
    """However often, and whatever comes of it: safe, and no more than a constant times as long."""
    text = "".join(marks) * count
    rendered = render(text)
    Page(rendered.html)
    assert len(rendered.html) < 60 * len(text) + 1000

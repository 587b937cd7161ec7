"""Reads HTML and fails at whatever a page must not hold; its lists are its own."""

import re
from html.parser import HTMLParser

import nh3


def words(text: str) -> set[str]:
    return set(text.split())


HTML = words(
    "a bdi blockquote br code div em h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th"
    " thead tr ul"
)
MATHML = words(
    "math mfrac mi mn mo mover mpadded mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd"
    " mtext mtr munder munderover"
)
VOID = {"br", "hr"}
ATTRIBUTES = {
    "a": {"href", "target", "rel"},
    "bdi": {"class"},
    "div": {"class", "tabindex"},
    "math": {"display", "alttext"},
    "mi": {"mathvariant"},
    "mrow": {"class"},
    "mspace": {"width"},
    "mtd": {"class"},
    "ol": {"start"},
    "p": {"class"},
    "pre": {"class", "tabindex"},
    "span": {"class", "title"},
    "td": {"class"},
    "th": {"class"},
}
MATHML_STYLE = words(
    "accent displaystyle fence form largeop linethickness maxsize minsize movablelimits scriptlevel"
    " stretchy"
)
for _tag in ("mfrac", "mo", "mover", "mstyle", "mtable", "munder"):
    ATTRIBUTES[_tag] = MATHML_STYLE
CLASSES = words("align-center align-left align-right box image info math plain sign table url")
ADDRESS = re.compile(r"(?:https?://|mailto:)[!-~]+", re.IGNORECASE)
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
SAME = nh3.Cleaner(
    tags=HTML | MATHML,
    attributes=ATTRIBUTES,
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",
    link_rel=None,
)
"""Parses as browsers do, and changes nothing if every element stands where it is written."""


class Page(HTMLParser):
    """What a browser shows of `html`, which stands in an element of a page.

    Attributes:
        text: the text, as it is read.
        formulas: the sources of the formulas.
        links: where links lead.
        tags: every element, in order.
        signs: unseen characters that are shown as signs.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.formulas: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.signs: list[str] = []
        self._open: list[str] = []
        self._in_new_pre = False
        html.encode("utf-8")
        kept = re.sub('(<pre class="plain" tabindex="0">)\n', r"\1", html, count=1)
        assert SAME.clean(html) == kept.replace("\xa0", "&nbsp;"), (
            "a browser reads other elements than are written"
        )
        assert not UNSEEN.search(html)
        self.feed(html)
        self.close()
        assert self._open == [], "an element is not closed"
        assert self.rawdata == "", "a tag is not ended"

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in HTML | MATHML, f"element {tag}"
        assert (tag in MATHML - {"math"}) == any(t == "math" for t in self._open)
        assert "a" not in self._open or tag != "a", "a link in a link"
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append(tag)
        self._in_new_pre = tag == "pre"
        for name, value in attrs:
            assert name in ATTRIBUTES.get(tag, set()), f"{tag} {name}={value!r}"
            self._check_value(tag, name, value or "")
        if tag == "a":
            assert dict(attrs).get("rel") == "noopener noreferrer nofollow ugc"
            assert dict(attrs).get("target") == "_blank"
        if tag not in VOID:
            self._open.append(tag)

    def _check_value(self, tag: str, name: str, value: str) -> None:
        if name == "href":
            assert ADDRESS.fullmatch(value), f"address {value!r}"
            self.links.append(value)
        elif name == "class":
            assert value in CLASSES | {""}, f"class {value!r}"
        elif name == "alttext":
            self.formulas.append(value)
        elif name == "tabindex":
            assert value == "0"
        elif name == "start":
            assert value.isdecimal()
        elif name == "title":
            assert re.fullmatch(r"U\+[0-9A-F]{4,6} [A-Z0-9 -]+", value)
            self.signs.append(chr(int(value.split()[0][2:], 16)))
        elif name in ("width", "minsize", "maxsize"):
            assert re.fullmatch(r"-?[0-3]?(\.\d+)?em", value)
        elif tag in MATHML:
            assert re.fullmatch("true|false|normal|block|inline|prefix|infix|postfix|[0-2]", value)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/> is not how HTML closes an element")

    def handle_data(self, data: str) -> None:
        # The newline right after <pre> is no content (HTML Living Standard, 13.2.6.4.7).
        self.parts.append(data.removeprefix("\n") if self._in_new_pre else data)
        self._in_new_pre = False

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"comment {data!r}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"declaration {decl!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"instruction {data!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"declaration {data!r}")

"""Untrusted text as HTML that is safe to put into a page.

Prompts, replies and imports are hostile: they may hold markup, scripts, links that are not what
they say, characters that nobody sees, or be made to take for ever. The text is read as Markdown
(`markup`) with mathematics (`mathml`), and what comes out passes one gate with a list of what is
let through; whatever is not on it, however it got there, is taken out. Nothing is cut: a text
that is too long or too deep is shown whole, as it is.

    rendered = render("**Hello** <script>alert(1)</script>")
    rendered.html.startswith("<p><strong>Hello</strong> &lt;script&gt;alert(1)&lt;/script&gt;")
"""

import logging
import sys
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import nh3

from backflip.web import mathml
from backflip.web.invisible_characters import Kind, Signs
from backflip.web.markup import TooMuchError, to_html

LOG = logging.getLogger("backflip.web")
Note = Kind | Literal["plain"]
NOTES: tuple[Note, ...] = ("plain", "bidi", "invisible", "control", "surrogate")
"""What a page warns of above a text, in the order of `Rendered.notes`.

"plain": shown as it is, since too long or too deep for Markdown. The others name the characters
that are shown as signs: "bidi" turns the direction of writing, "invisible" has no width,
"control" is a control character or line separator, "surrogate" half a character.
"""
MAX_CHARS = 100_000
CACHE_BYTES = 32 * 2**20

TAGS = frozenset(
    [
        "a",
        "bdi",
        "blockquote",
        "br",
        "code",
        "div",
        "em",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "span",
        "strong",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ]
) | set(mathml.TAGS)
ATTRIBUTES = {
    "a": {"href", "target"},
    "math": {"alttext", "display"},
    "mi": {"mathvariant"},
    "mspace": {"width"},
    "ol": {"start"},
    "span": {"title"},
} | {tag: set(mathml.ATTRIBUTES) for tag in ("mfrac", "mo", "mover", "mstyle", "mtable", "munder")}
CLASSES = {
    "bdi": {"url"},
    "div": {"math", "table"},
    "mrow": {"box"},
    "mtd": {"align-left", "align-center", "align-right"},
    "p": {"info"},
    "pre": {"plain"},
    "span": {"image", "sign"},
    "td": {"align-left", "align-center", "align-right"},
    "th": {"align-left", "align-center", "align-right"},
}
SCHEMES = frozenset({"http", "https", "mailto"})

_GATE = nh3.Cleaner(
    tags=TAGS,
    attributes=ATTRIBUTES,
    allowed_classes=CLASSES,
    tag_attribute_values={"div": {"tabindex": {"0"}}, "pre": {"tabindex": {"0"}}},
    set_tag_attribute_values={"a": {"target": "_blank"}},
    link_rel="noopener noreferrer nofollow ugc",
    url_schemes=SCHEMES,
    url_relative="deny",
)


@dataclass(frozen=True)
class Rendered:
    """A text as HTML, and what to warn of above it.

    Attributes:
        html: safe as the content of an element of a page, in UTF-8.
        notes: codes from `NOTES`.
    """

    html: str
    notes: tuple[Note, ...]


def render(text: str, *, max_chars: int = MAX_CHARS) -> Rendered:
    """A text in Markdown as safe HTML.

    Args:
        text: any string at all.
        max_chars: above this many characters the text is not read as Markdown but shown as it is.
    """
    key = (text, max_chars)
    found = _CACHE.get(key)
    if found is None:
        found = _render(text, max_chars)
        _CACHE.put(key, found)
    return found


def plain(text: str) -> str:
    """A text as it is, for the view of the source: a `<pre>` with unseen characters as signs."""
    return _plain(text, Signs())


def _render(text: str, max_chars: int) -> Rendered:
    signs = Signs()
    if len(text) <= max_chars:
        # Markdown trims what counts as a blank, and addresses are encoded.
        signs.look(_lines(text))
        try:
            html = _GATE.clean(to_html(_lines(text), signs))
            return Rendered(html, _notes(signs.kinds))
        except TooMuchError:
            pass
        except Exception:
            # A text must not be able to make itself impossible to label.
            LOG.exception("cannot render a text of %d characters as Markdown", len(text))
        signs = Signs()
    html = _plain(text, signs)
    return Rendered(html, _notes({*signs.kinds, "plain"}))


def _plain(text: str, signs: Signs) -> str:
    # A newline right after <pre> is not content, so that one of the text's own is kept.
    return f'<pre class="plain" tabindex="0">\n{signs.exact(_lines(text))}</pre>'


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _notes(found: Collection[Note]) -> tuple[Note, ...]:
    return tuple(note for note in NOTES if note in found)


class _Cache:
    """The results that were last used, bounded by the memory they take and not by their number."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[tuple[str, int], Rendered] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[str, int]) -> Rendered | None:
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: tuple[str, int], rendered: Rendered) -> None:
        with self._lock:
            size = _size(key, rendered)
            if key in self._entries or size > self._max_bytes // 4:
                return
            self._entries[key] = rendered
            self._num_bytes += size
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= _size(*self._entries.popitem(last=False))


def _size(key: tuple[str, int], rendered: Rendered) -> int:
    """Bytes of an entry, its two strings and about what the objects around them take."""
    return sys.getsizeof(key[0]) + sys.getsizeof(rendered.html) + 500


_CACHE = _Cache(CACHE_BYTES)

"""Characters that nobody sees, made visible: direction, zero width, control, half a character.

They can turn a line around, hide words from a reader or smuggle them to a program (Boucher and
Anderson 2021, "Trojan Source"; Unicode Standard Annex 9 for the direction controls).
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from html import escape
from typing import Literal

Kind = Literal["bidi", "invisible", "control", "surrogate"]

CONTROL = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u2028\u2029"
BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
SURROGATE = "\ud800-\udfff"
INVISIBLE = (
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Format characters (Cf) without a glyph, fillers, and what Unicode says to leave undrawn."""

SIGN = re.compile(f"[{CONTROL}{BIDI}{SURROGATE}{INVISIBLE}]+")
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("bidi", re.compile(f"[{BIDI}]")),
    ("control", re.compile(f"[{CONTROL}]")),
    ("surrogate", re.compile(f"[{SURROGATE}]")),
    ("invisible", re.compile(f"[{INVISIBLE}]")),
)

_UNNAMED = {"control": "CONTROL CHARACTER", "surrogate": "LONE SURROGATE"}

_JOINED = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff"
_PICTURE = "\xa9\xae\u203c-\u3299\U0001f000-\U0001faff"
_IDEOGRAPH = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SPELLING = re.compile(
    f"(?<=[{_JOINED}])[\u200c\u200d]"
    f"|(?<=[{_PICTURE}\ufe0f])\u200d(?=[{_PICTURE}])"
    f"|(?<=[{_PICTURE}0-9#*])[\ufe0e\ufe0f]"
    f"|(?<=[{_IDEOGRAPH}])[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
"""Where a single joiner or variation selector belongs to the spelling: Arabic and Indic scripts
(Persian cannot be written without U+200C), emoji, variants of ideographs."""
_SIGN_OR_SPELLING = re.compile(f"(?P<spelling>{_SPELLING.pattern})|{SIGN.pattern}")

MAX_TITLED = 2000
"""Signs of a text that carry their name: a name is ten times as long as the bare sign."""


@lru_cache(maxsize=8192)
def _kind(character: str) -> Kind:
    return next(kind for kind, pattern in _KINDS if pattern.match(character))


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def _titled(character: str) -> str:
    code = _code(character)
    name = unicodedata.name(character, _UNNAMED.get(_kind(character), "UNASSIGNED"))
    return f'<span class="sign" title="{code} {name}">[{code}]</span>'


class _Table(dict[int, str]):
    """A table for `str.translate`, filled as characters come up; there are some 7000."""

    def __init__(self, sign: Callable[[str], str]) -> None:
        super().__init__()
        self._sign = sign

    def __missing__(self, code: int) -> str:
        self[code] = self._sign(chr(code))
        return self[code]


_TITLED = _Table(_titled)
_BARE = _Table(lambda character: f"[{_code(character)}]")


class Signs:
    """Writes pieces of one text as HTML, each unseen character as a sign like `[U+202E]`.

    Attributes:
        kinds: the kinds of unseen characters met so far.
    """

    def __init__(self) -> None:
        self.kinds: set[Kind] = set()
        self._num_titled = 0

    def look(self, text: str) -> None:
        """Note the unseen characters of a text that may lose some before it is written."""
        for match in _SIGN_OR_SPELLING.finditer(text):
            if not match["spelling"]:
                self.kinds.update(map(_kind, set(match[0])))

    def exact(self, text: str) -> str:
        """`text` escaped for HTML, every unseen character but tab and newline as a sign."""
        return SIGN.sub(self._write, escape(text, quote=False))

    def read(self, text: str) -> str:
        """The same, but joiners and variation selectors stay where spelling needs them."""
        return _SIGN_OR_SPELLING.sub(self._write, escape(text, quote=False))

    def _write(self, match: re.Match[str]) -> str:
        run = match[0]
        if match.re is _SIGN_OR_SPELLING and match["spelling"]:
            return run
        self.kinds.update(map(_kind, set(run)))
        self._num_titled += len(run)
        return run.translate(_TITLED if self._num_titled <= MAX_TITLED else _BARE)

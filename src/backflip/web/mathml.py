r"""Mathematics in TeX as MathML, or nothing when it cannot be shown faithfully.

`latex2mathml` reads the formula; its tree is written anew here, element by element, because the
markup that it writes itself carries the text of a formula unescaped. What changes where things
stand or hides them (`\hspace{-9em}`, `\phantom`), what the converter does not know, and what
browsers' MathML (MathML Core) cannot draw without a change of meaning is refused: a reader then
sees the source, which is better than a formula that says something else.
"""

import re
import unicodedata
from collections import Counter
from html import escape
from xml.etree.ElementTree import Element

from latex2mathml.converter import Converter

from backflip.web.invisible_characters import SIGN

MAX_TEX = 2000
"""Characters of one formula; the converter takes up to 0.03 ms for each."""
MAX_DEPTH = 40
"""Elements around an element."""

TAGS = frozenset(
    [
        "math",
        "mfrac",
        "mi",
        "mn",
        "mo",
        "mover",
        "mpadded",
        "mroot",
        "mrow",
        "mspace",
        "msqrt",
        "mstyle",
        "msub",
        "msubsup",
        "msup",
        "mtable",
        "mtd",
        "mtext",
        "mtr",
        "munder",
        "munderover",
    ]
)
_NUM_CHILDREN = {"mfrac": 2, "mover": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2}
_NUM_CHILDREN |= {"msubsup": 3, "munderover": 3}
_BOOLEAN = re.compile("true|false")
_KEPT = {
    "accent": _BOOLEAN,
    "displaystyle": _BOOLEAN,
    "fence": _BOOLEAN,
    "form": re.compile("prefix|infix|postfix"),
    "largeop": _BOOLEAN,
    "linethickness": re.compile("0"),
    "maxsize": re.compile(r"[0-3]\.\d+em"),
    "minsize": re.compile(r"[0-3]\.\d+em"),
    "movablelimits": _BOOLEAN,
    "scriptlevel": re.compile("[0-2]"),
    "stretchy": _BOOLEAN,
}
ATTRIBUTES = frozenset(_KEPT)
"""Attributes that may stand in the MathML, beside those that `to_mathml` and `_write` set."""
_DROPPED = frozenset(
    [
        "accentunder",
        "columnlines",
        "columnspacing",
        "depth",
        "display",
        "height",
        "lspace",
        "mathbackground",
        "mathcolor",
        "mathsize",
        "rowlines",
        "rowspacing",
        "separator",
        "voffset",
        "xmlns",
    ]
)
"""Looks only: without them the same symbols stand in the same order, in full view."""
_SPACE = re.compile(r"-?0?\.\d{1,3}em|[012]em")
_NAMED_SPACE = re.compile("(negative)?(thin|medium|thick)mathspace")

_MACROS = re.compile(r"\\(?:def|newcommand|newenvironment|DeclareMathOperator)(?![A-Za-z])")
_COMMENT = re.compile(r"(?<!\\)(?:\\\\)*%")
_ROW_GAP = re.compile(r"\\\\\[[\d.]+(?:em|ex|pt|mm|cm)\]")
_UPRIGHT = re.compile(r"\\mathrm\{([A-Za-z])\}")
"""Set in italics by the converter, unless there is a second pair of braces."""
_ENVIRONMENT = re.compile(r"(\\(?:begin|end)\s*\{)(aligned|gather\*?|gathered|eqnarray\*?)\}")
_SAME_LOOK = {"aligned": "split"}
"""Environments that the converter does not know, as ones that it does; the others as "matrix"."""
_UNSPOKEN = re.compile(
    r"\\begin\s*\{\w+\*?\}(?:\s*\{[lcr|\s]*\}|\[[lcr|]*\])?|\\end\s*\{\w+\*?\}"
    r"|\\(?:color|textcolor|hspace|mspace)\s*\{[^{}]*\}|\\[A-Za-z]+"
)
"""Parts of a source whose letters and digits are no symbols of the formula."""
_CODE = re.compile(r"&#x([0-9A-Fa-f]+);")
_LETTERS = {
    "bold": "BOLD",
    "bold-fraktur": "BOLD FRAKTUR",
    "bold-italic": "BOLD ITALIC",
    "bold-sans-serif": "SANS-SERIF BOLD",
    "bold-script": "BOLD SCRIPT",
    "double-struck": "DOUBLE-STRUCK",
    "fraktur": "FRAKTUR",
    "italic": "ITALIC",
    "monospace": "MONOSPACE",
    "sans-serif": "SANS-SERIF",
    "sans-serif-bold-italic": "SANS-SERIF BOLD ITALIC",
    "sans-serif-italic": "SANS-SERIF ITALIC",
    "script": "SCRIPT",
}


class _RefusedError(Exception):
    """The formula needs something that is not shown."""


def to_mathml(tex: str, *, display: bool) -> str | None:
    """A `<math>` element with the source as its `alttext`, or None to show the source instead.

    Args:
        tex: the formula without its delimiters.
        display: on a line of its own, with limits above and below its sums.
    """
    if len(tex) > MAX_TEX or SIGN.search(tex) or _MACROS.search(tex) or _COMMENT.search(tex):
        return None
    mode = "block" if display else "inline"
    source = _for_converter(tex)
    out: list[str] = []
    try:
        tree = Converter(display=mode).convert_to_element(source)
        for child in tree:
            _write(child, out, 1)
    except Exception:  # whatever a malformed formula leads the converter into
        return None
    symbols = "".join(map(_decoded, tree.itertext()))
    # The converter skips what follows some commands without a word, and sets the marks between
    # the columns of an environment that it does not know as symbols.
    if _spoken(_UNSPOKEN.sub(" ", source)) - _spoken(symbols):
        return None
    if "&" in symbols and r"\&" not in source:
        return None
    alternative = escape(" ".join(tex.split()))
    return f'<math display="{mode}" alttext="{alternative}">{"".join(out)}</math>'


def _for_converter(tex: str) -> str:
    """The formula in words that the converter knows."""
    tex = _ROW_GAP.sub(r"\\\\", tex)
    tex = _UPRIGHT.sub(r"\\mathrm{{\1}}", tex)
    return _ENVIRONMENT.sub(lambda match: match[1] + _SAME_LOOK.get(match[2], "matrix") + "}", tex)


def _decoded(text: str) -> str:
    """Text of the converter's tree, which holds symbols as hexadecimal references."""
    return _CODE.sub(lambda code: chr(int(code[1], 16)), text)


def _spoken(text: str) -> Counter[str]:
    """How often each letter and digit occurs, whatever its alphabet."""
    return Counter(c for c in unicodedata.normalize("NFKC", text) if c.isalnum())


def _write(element: Element, out: list[str], depth: int) -> None:
    """Append the markup of an element; raises `_RefusedError`, or `ValueError` at a bad code."""
    if depth > MAX_DEPTH:
        raise _RefusedError
    tag, attributes = element.tag, dict(element.attrib)
    box = tag == "menclose" and attributes.pop("notation", None) == "box"
    if box:
        tag = "mrow"
    if tag not in TAGS or len(element) != _NUM_CHILDREN.get(tag, len(element)):
        raise _RefusedError
    out.append(f'<{tag} class="box"' if box else f"<{tag}")
    variant = attributes.pop("mathvariant", None)
    if variant == "normal" and tag == "mi":
        out.append(' mathvariant="normal"')
    for name, value in attributes.items():
        out.append(_attribute(tag, name, value))
    out.append(">")
    if element.text:
        text = _decoded(element.text)
        # A backslash is a command that the converter does not know.
        if "\\" in text or SIGN.search(text):
            raise _RefusedError
        if variant in _LETTERS and tag != "mtext":
            text = "".join(_letter(character, _LETTERS[variant]) for character in text)
        out.append(escape(text, quote=False))
    for child in element:
        _write(child, out, depth + 1)
    out.append(f"</{tag}>")


def _attribute(tag: str, name: str, value: str) -> str:
    """The attribute with a blank before it, or nothing; raises `_RefusedError`."""
    if name == "columnalign" and value in ("left", "right", "center"):
        return f' class="align-{value}"'
    if tag == "mspace" and name == "width":
        if _SPACE.fullmatch(value):
            return f' width="{value}"'
        if _NAMED_SPACE.fullmatch(value):
            return ""
    pattern = _KEPT.get(name)
    if pattern is not None and pattern.fullmatch(value):
        return f' {name}="{value}"'
    if name in _DROPPED or (tag == "mpadded" and name == "width"):
        return ""
    raise _RefusedError


def _letter(character: str, style: str) -> str:
    """A letter or digit in an alphabet of Unicode's, as MathML Core has no other way to draw it.

    Some letters were in Unicode before their alphabet: double-struck R has the shorter name.
    """
    name = re.sub(r"^(LATIN|GREEK) | LETTER", "", unicodedata.name(character, ""))
    for candidate in (f"MATHEMATICAL {style} {name}", f"{style} {name}"):
        try:
            return unicodedata.lookup(candidate)
        except KeyError:
            continue
    return character

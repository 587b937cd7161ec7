"""The Markdown that the pages show: CommonMark, tables, strikethrough and mathematics, no HTML.

Built on markdown-it-py so that nothing of a text is lost on the way: reference definitions and
raw HTML stay text, titles and info strings are shown, a row's surplus cells stay in the row.
What it yields still goes through the gate in `rendering`.
"""

import re
from collections.abc import MutableMapping, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import unescapeAll
from markdown_it.renderer import RendererHTML
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block import table as table_rule
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline import autolink as autolink_rule
from markdown_it.rules_inline import link as link_rule
from markdown_it.token import Token

from backflip.web.invisible_characters import Signs
from backflip.web.mathml import MAX_TEX, to_mathml

MAX_NESTING = 40
"""Blocks within blocks, or emphasis within emphasis; a list counts twice."""
MAX_WORK = 20_000
"""Steps of the parser for one text, each about 10 microseconds."""
MAX_TEX_TOTAL = 8000
"""Characters of TeX of one text, and 8 for each formula, that are set as mathematics.

Formulas beyond that are shown as they are written.
"""

_ADDRESS = re.compile(r"(?:https?://|mailto:)[!-~]+", re.IGNORECASE)
"""Where a link may go: absolute, and in visible ASCII, as markdown-it-py encodes the rest."""

_ESCAPED = r"(?:[^$\\]|\\.)"
_AFTER_DOLLAR = r"(?=(?:st|nd|rd|th|s)?(?![A-Za-z0-9]))"
_INLINE = (
    ("$$", "$$", re.compile(rf"\$\$(?!\$)({_ESCAPED}{{1,{MAX_TEX}}}+)\$\$(?!\$)", re.DOTALL)),
    (
        "$",
        "$",
        re.compile(
            rf"(?<![A-Za-z0-9$])\$(?![\s$])({_ESCAPED}{{1,{MAX_TEX}}}+)(?<!\s)\${_AFTER_DOLLAR}",
            re.DOTALL,
        ),
    ),
    (r"\(", r"\)", re.compile(rf"\\\(((?:[^\\]|\\[^()]){{1,{MAX_TEX}}}+)\\\)", re.DOTALL)),
    (r"\[", r"\]", re.compile(rf"\\\[((?:[^\\]|\\[^\[\]]){{1,{MAX_TEX}}}+)\\\]", re.DOTALL)),
)
"""Opening and closing mark of a formula in a line, and the whole with the formula as group 1."""
_BLOCK = re.compile(r"\$\$(?!\$)|\\\[|\\begin\{(?:equation|align|gather|eqnarray)\*?\}")
_WORD = re.compile(r"\s[A-Za-z]{2}")
_OPERATOR = re.compile(r"[\\^_={}+*<>]")
_RUN = re.compile(r"\*+|_+|~+")
_CLOSING = {"$$": "$$", r"\[": r"\]"}
_ALIGNMENT = {f"text-align:{side}": f"align-{side}" for side in ("left", "center", "right")}


class TooMuchError(Exception):
    """The text would take too long or nests too deeply."""


class Work:
    """What the rendering of one text has used up and collected."""

    def __init__(self, signs: Signs) -> None:
        self.signs = signs
        self.num_columns = 1
        self.links: list[Token] = []
        self._steps = 0
        self._tex = 0

    def spend(self, steps: int) -> None:
        """Count steps of the parser; raises `TooMuchError` when there are too many."""
        self._steps += steps
        if self._steps > MAX_WORK:
            raise TooMuchError

    def mathml(self, tex: str, *, display: bool) -> str | None:
        """`to_mathml`, or None when this text has had its share."""
        self._tex += len(tex) + 8
        return None if self._tex > MAX_TEX_TOTAL else to_mathml(tex.strip(), display=display)


class _Renderer(RendererHTML):
    """HTML of tokens; every method is the rule for the token that it is named after."""

    def text(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return _work(env).signs.read(tokens[idx].content)

    def code_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<code>{_work(env).signs.read(tokens[idx].content)}</code>"

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return _code(_work(env).signs, tokens[idx].content)

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        signs = _work(env).signs
        info = unescapeAll(tokens[idx].info).strip()
        label = f'<p class="info">{signs.read(info)}</p>\n' if info else ""
        return label + _code(signs, tokens[idx].content)

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        address = _open(tokens[idx], env)
        return f'<a href="{escape(address)}">' if address else "["

    def link_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        work = _work(env)
        token = work.links.pop()
        address = token.attrs["href"]
        if not address:
            return "]()"
        shown = tokens[idx - 1].content if tokens[idx - 2] is token else ""
        if address in (shown, f"mailto:{shown}"):
            return "</a>"
        return f"</a> {_address(work.signs, token)}"

    def image_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return '<span class="image">' if _open(tokens[idx], env) else "!["

    def image_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        work = _work(env)
        token = work.links.pop()
        return f" {_address(work.signs, token)}</span>" if token.attrs["href"] else "]()"

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<{_heading(tokens[idx])}>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"</{_heading(tokens[idx])}>\n"

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return '<div class="table" tabindex="0"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return _cell(tokens[idx])

    def math_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        work, token = _work(env), tokens[idx]
        display = token.markup in ("$$", r"\[")
        mathml = work.mathml(token.content, display=display)
        if mathml is not None:
            return mathml
        return f"<code>{work.signs.read(token.markup + token.content + token.info)}</code>"

    def math_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        work, token = _work(env), tokens[idx]
        source = token.markup + token.content + token.info
        tex = token.content if token.markup in _CLOSING else source
        mathml = work.mathml(tex, display=True)
        if mathml is not None:
            return f'<div class="math">{mathml}</div>\n'
        return _code(work.signs, source)


def _work(env: MutableMapping[str, Any]) -> Work:
    return env["work"]


def _open(token: Token, env: MutableMapping[str, Any]) -> str:
    """Remember a link or image until its end; its address, empty in `[text]()`."""
    _work(env).links.append(token)
    return str(token.attrs["href"])


def _code(signs: Signs, text: str) -> str:
    """A block of code; whoever uses a keyboard can stop at it and scroll."""
    return f'<pre tabindex="0"><code>{signs.read(text)}</code></pre>\n'


def _address(signs: Signs, token: Token) -> str:
    """Where a link goes or an image lies, with its title, for the reader to see."""
    title = token.attrs.get("title")
    shown = str(token.attrs["href"]) + (f' "{title}"' if title else "")
    return f'<bdi class="url">({signs.read(shown)})</bdi>'


def _heading(token: Token) -> str:
    """Two levels down: the page's own headings stand above those of a text."""
    return f"h{min(int(token.tag[1:]) + 2, 6)}"


def _cell(token: Token) -> str:
    side = _ALIGNMENT.get(str(token.attrs.get("style")))
    return f'<{token.tag} class="{side}">' if side else f"<{token.tag}>"


def _count_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Counts a line; asked at every row of a table too, which costs by its cells."""
    work = _work(state.env)
    work.spend(3 if state.parentType != "table" else 2 * work.num_columns)
    return False


def _count_inline(state: StateInline, silent: bool) -> bool:
    """Counts a step within a line, by what the rules that its character may start cost."""
    character = state.src[state.pos]
    if character in "*_~":
        run = _RUN.match(state.src, state.pos)
        _work(state.env).spend(1 + len(run[0]) if run else 1)
    else:
        _work(state.env).spend(4 if character in "[!" else 1)
    return False


def _autolink(state: StateInline, silent: bool) -> bool:
    """The autolink rule; an address costs as much as ten other steps."""
    found = autolink_rule(state, silent)
    if found:
        _work(state.env).spend(10)
    return found


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """The table rule, but what a row has more than the header stays in the row's last cell."""
    work, first = _work(state.env), len(state.tokens)
    work.num_columns = 1 + state.src.count("|", state.bMarks[start], state.eMarks[start])
    if not table_rule(state, start, end, silent):
        return False
    work.spend(2 * work.num_columns)
    cells: list[Token] = []
    for token in state.tokens[first:]:
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline":
            cells.append(token)
        elif token.type == "tr_close":
            line = cells[0].map[0] if cells[0].map else start
            columns = escapedSplit(
                state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].strip()
            )
            columns = columns[columns[0] == "" : len(columns) - (columns[-1] == "")]
            surplus = [column.strip() for column in columns[len(cells) :]]
            cells[-1].content = " | ".join([cells[-1].content, *surplus])
    return True


def _image(state: StateInline, silent: bool) -> bool:
    """An image: a link that is not followed, after an exclamation mark.

    Not the rule of markdown-it-py, which parses a description anew: images within images recurse
    without bound.
    """
    start, first = state.pos, len(state.tokens)
    if not state.src.startswith("![", start, state.posMax):
        return False
    state.pos += 1
    if not link_rule(state, silent):
        state.pos = start
        return False
    if not silent:
        opening = next(token for token in state.tokens[first:] if token.type == "link_open")
        opening.type, state.tokens[-1].type = "image_open", "image_close"
    return True


def _price(text: str) -> bool:
    """Whether what stands between two dollar signs is the end of one price and words after it."""
    return text[0].isdigit() and bool(_WORD.search(text)) and not _OPERATOR.search(text)


def _math_inline(state: StateInline, silent: bool) -> bool:
    r"""A formula in a line: `$..$`, `$$..$$`, `\(..\)` or `\[..\]`."""
    if state.src[state.pos] not in "$\\":
        return False
    for markup, closing, pattern in _INLINE:
        match = pattern.match(state.src, state.pos, state.posMax)
        if match is None or not match[1].strip() or (markup == "$" and _price(match[1])):
            continue
        if not silent:
            token = state.push("math_inline", "math", 0)
            token.content, token.markup, token.info = match[1], markup, closing
        state.pos = match.end()
        return True
    return False


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""A formula on lines of its own, none of them blank: `$$`, `\[` or an environment."""
    begin = state.bMarks[start] + state.tShift[start]
    opening = _BLOCK.match(state.src, begin, state.eMarks[start])
    if opening is None or state.is_code_block(start):
        return False
    markup = opening[0]
    closing = _CLOSING.get(markup) or markup.replace("begin", "end")
    lines: list[str] = []
    for line in range(start, end):
        _work(state.env).spend(1)
        left = state.bMarks[line] + state.tShift[line]
        text = state.src[left : state.eMarks[line]].rstrip()
        if line == start:
            text = text.removeprefix(markup)
        elif not text or state.sCount[line] < state.blkIndent:
            return False
        body = text.removesuffix(closing)
        if closing in body:
            return False
        lines.append(body)
        if body != text:
            break
    else:
        return False
    if not silent:
        token = state.push("math_block", "math", 0)
        token.block = True
        token.content, token.markup, token.info = "\n".join(lines), markup, closing
    state.line = start + len(lines)
    return True


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        return _ADDRESS.fullmatch(url) is not None


def _parser() -> MarkdownIt:
    parser = _Markdown(
        "commonmark",
        {"html": False, "breaks": True, "maxNesting": MAX_NESTING},
        renderer_cls=_Renderer,
    )
    parser.enable(["table", "strikethrough"])
    # Definitions of references would vanish, and so would NUL characters.
    parser.disable(["reference", "normalize"])
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    within: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    parser.block.ruler.before("table", "count", _count_block, within)
    parser.block.ruler.before("fence", "math_block", _math_block, within)
    parser.inline.ruler.before("text", "count", _count_inline)
    parser.inline.ruler.before("escape", "math_inline", _math_inline)
    parser.inline.ruler.at("image", _image)
    parser.inline.ruler.at("autolink", _autolink)
    return parser


_PARSER = _parser()


def to_html(text: str, signs: Signs) -> str:
    """HTML of a text in Markdown, not yet sanitised; raises `TooMuchError`.

    Args:
        text: its lines end in a newline alone.
        signs: collects the kinds of unseen characters.
    """
    env = {"work": Work(signs)}
    tokens = _PARSER.parse(text, env)
    # The parser silently leaves out what lies within the deepest block.
    if any(token.nesting == 1 and token.level >= MAX_NESTING - 1 for token in tokens):
        raise TooMuchError
    return _PARSER.renderer.render(tokens, _PARSER.options, env)

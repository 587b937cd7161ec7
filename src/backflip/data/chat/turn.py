"""What a template writes around a reply: found by rendering dialogues that have one."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backflip.data.chat.template import Template, Turn
from backflip.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION: tuple[Turn, ...] = ({"role": "user", "content": "Why does it rain?"},)
PROBES = ("It rains.", "Clouds are water 2")
NOT_FIRST = "a dialogue with its reply does not begin as the prompt does"


@dataclass(frozen=True)
class ReplyTurn:
    """What stands around a reply; a template may write more before some replies.

    Attributes:
        opening: what the template leaves out of the prompt although every reply follows on it.
        before: between the prompt and the reply.
        after: between the reply and the token that ends its turn, where the template writes one.
        end: that token's name; empty where it writes none.
        rest: all that follows a reply in a dialogue that ends with it.
        fault: why replies to prompts cannot be told from whole dialogues; None where they can.
    """

    opening: str = ""
    before: str = ""
    after: str = ""
    end: str = ""
    rest: str = ""
    fault: str | None = None


def reply_of(text: str) -> Turn:
    """A turn that is only a reply."""
    return {"role": "assistant", "content": text}


def find_turn(template: Template, tokenizer: "PreTrainedTokenizerBase") -> ReplyTurn:
    """What a template writes around replies."""
    try:
        prompt = template.render(QUESTION, opening=True)
        unopened = template.render(QUESTION)
        wholes = [template.render([*QUESTION, reply_of(text)]) for text in PROBES]
    except ModelError as error:
        return ReplyTurn(fault=error.what)
    if not all(whole.startswith(prompt) for whole in wholes):
        return ReplyTurn(
            fault=f"{NOT_FIRST}, which ends in {prompt[-40:]!r}",
        )
    around = [
        whole[len(prompt) :].partition(text) for whole, text in zip(wholes, PROBES, strict=True)
    ]
    if not all(found for _, found, _ in around):
        return ReplyTurn(fault="it does not write a reply as it is")
    before, _, rest = around[0]
    if any((b, r) != (before, rest) for b, _, r in around):
        return ReplyTurn(fault="what it writes around a reply depends on the reply")
    turn = ReplyTurn(before=before, rest=rest)
    if prompt == unopened and before.strip():
        # It does not know of openings; only a space before the reply is part of its first token.
        opening = before.rstrip(" ")
        turn = replace(turn, opening=opening, before=before[len(opening) :])
    end = _first_token(rest, tokenizer)
    return turn if end is None else replace(turn, after=rest[: end.start()], end=end[0])


def find_markers(
    template: Template, tokenizer: "PreTrainedTokenizerBase", turn: ReplyTurn
) -> set[str]:
    """Added tokens that mark the turns of any dialogue, whether flagged as special or not.

    What stands between a prompt and a reply is the reply's own, as the marks of a thought are.
    """
    try:
        text = template.render([*QUESTION, reply_of(PROBES[0]), *QUESTION])
    except ModelError:
        return set()
    pattern = _added_tokens(tokenizer)
    return set(pattern.findall(text)) - set(pattern.findall(turn.before)) if pattern else set()


def _first_token(text: str, tokenizer: "PreTrainedTokenizerBase") -> re.Match[str] | None:
    pattern = _added_tokens(tokenizer)
    return None if pattern is None else pattern.search(text)


def _added_tokens(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str] | None:
    """Matches added tokens that are marks, and no words or spaces."""
    names = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    marks = sorted((n for n in names if not n.isspace() and not n.isalnum()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, marks))) if any(marks) else None


def squeezed(text: str) -> str:
    """A text without its white space."""
    return "".join(text.split())


def reply_text(turn: ReplyTurn, written: str | None, text: str) -> str | None:
    """What a reply's turn holds up to where it ends.

    Args:
        turn: what stands around replies.
        written: what the template wrote after the prompt for this reply; None where it did not
            write the prompt first.
        text: the reply.

    Returns:
        As the template writes it, spaces trimmed where it trims them; None where it makes
        something else of the reply, or leaves it out.
    """
    if written is not None and written.endswith(turn.rest):
        body = written[: len(written) - len(turn.rest)]
        if squeezed(body).endswith(squeezed(text)):
            return body
        # Templates leave the thought before an answer out of turns that are over. This one is not:
        # the policy writes its thought.
        kept = squeezed(body.removeprefix(turn.before))
        if kept and squeezed(text).endswith(kept):
            return turn.before + text
    return None


def tail(text: str, marks: re.Pattern[str]) -> str:
    """The end of a text from its last control token, before which nothing changes its tokens."""
    last = 0
    for found in marks.finditer(text):
        last = found.start()
    return text[last:]

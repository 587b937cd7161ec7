"""Dialogues as the tokens of one tokenizer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from backflip.config import ChatSettings
from backflip.data.chat.border import keeps_border
from backflip.data.chat.shapes import Shape, left_out, require_words
from backflip.data.chat.template import SYSTEM_HINT, Template, in_words
from backflip.data.chat.tokens import Codec, begins, end_token
from backflip.data.chat.turn import (
    NOT_FIRST,
    PROBES,
    QUESTION,
    ReplyTurn,
    find_markers,
    find_turn,
    reply_of,
    reply_text,
    squeezed,
    tail,
)
from backflip.errors import ModelError
from backflip.records import Dialogue, Prompt, Sample
from backflip.records.door import whole_text
from backflip.records.samples import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Asked = TypeVar("Asked", Prompt, Dialogue)

_REPLACEMENT = "\ufffd"
_CONTEXTS = ("", "\n", "a", ".", "0")
"""What may stand before a text so that it is encoded as in the middle of another."""


@dataclass(frozen=True)
class _Rendered:
    """A prompt's text, and what it was rendered from; control tokens that it spells are hidden."""

    text: str
    turns: list[dict[str, Any]]
    tools: list[Any]
    hidden: list[str] = field(default_factory=list[str])


class Chat:
    """Encodes prompts and replies for one tokenizer, and reads what was drawn.

    A prompt is rendered by the chat template and closed by the opening of the assistant's turn. A
    reply is what the template writes after that for the dialogue with the reply in it, up to the
    token that ends the turn: what a policy that was trained on such dialogues draws. A template
    that writes no such token ends a reply with the tokenizer's own end of text. A tokenizer
    without a template (a base model's) gets plain turns, `User:`, the text, a blank line, and
    last `Assistant:` on a line of its own, after its own beginning token if it has one.

    What people and models wrote is never read as control tokens: a message that spells out
    `<|im_end|>` is encoded as those ten characters, so a prompt cannot forge a turn of its own.

    Args:
        tokenizer: the policy's or the reward model's.
        settings: which template, and what it is given.
        end_tokens: more tokens that end a reply as it is drawn, by the model's own settings.
        rows: embeddings of the model; None for as many as there are tokens.

    Attributes:
        turn: what the template writes around a reply.

    Raises:
        ModelError: the template that the settings ask for is not there.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        settings: ChatSettings | None = None,
        *,
        end_tokens: Iterable[int] = (),
        rows: int | None = None,
    ):
        self.tokenizer = tokenizer
        self.settings = settings or ChatSettings()
        self.template = Template(tokenizer, self.settings)
        self.turn: ReplyTurn = find_turn(self.template, tokenizer)
        markers = find_markers(self.template, tokenizer, self.turn)
        self._codec = Codec(tokenizer, markers, rows=rows)
        self._more_ends = frozenset(end_tokens)
        self._left_out: dict[Shape, list[str]] = {}
        self._last_tail: tuple[str, IntArray] = ("", np.empty(0, np.int32))

    @property
    def rows(self) -> int | None:
        """Embeddings of the model where some tokens have none; None where all have one."""
        return self._codec.rows

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a reply: the template's, the tokenizer's and the model's."""
        own: list[Any] = [self._codec.control.get(self.turn.end), self.tokenizer.eos_token_id]
        return self._more_ends | {token for token in own if isinstance(token, int)}

    @property
    def end_token(self) -> int:
        """The token that ends a reply that somebody wrote.

        Raises:
            ModelError: neither the template nor the tokenizer has one.
        """
        own = self._codec.control.get(self.turn.end)
        return end_token(self.tokenizer) if own is None else own

    def encode_prompt(self, prompt: Prompt | Dialogue) -> IntArray:
        """(P,) int32 tokens of a dialogue to answer, with the opening of the assistant's turn.

        Raises:
            TypeError: the prompt is a situation of an environment.
            ModelError: the template refuses these turns, or leaves out some of what they say; or
                the model has no embedding of one of the tokens.
        """
        rendered = self._render(_dialogue(prompt))
        return self._codec.readable(self._codec.encode(rendered.text, rendered.hidden))

    def encode_reply(
        self, text: str, *, end: bool = True, prompt: Prompt | Dialogue | None = None
    ) -> IntArray:
        """(T,) int32 tokens of a reply, by default with the end of its turn.

        Args:
            text: the reply without its end token.
            end: False for a reply that was cut off, whose writer never said that it was finished.
            prompt: what it replies to; None for a user's turn.

        Raises:
            ModelError: the template does not write replies after prompts like this one; there is
                no end token; or the model has no embedding of one of the tokens.
        """
        rendered = self._asked if prompt is None else self._render(_dialogue(prompt))
        return self._codec.readable(self._reply(rendered, text, end=end))

    def decode_reply(self, tokens: Sequence[int] | IntArray, *, ended: bool | None = None) -> str:
        """The text of sampled tokens as people read it.

        The end token and special tokens are left out, and what the template writes around
        replies; nothing is tidied.

        Args:
            tokens: (T,) of a reply, whole or under way.
            ended: whether the turn has ended and its end token was taken off; None to look
                whether the last token is one of `end_tokens`.
        """
        drawn = np.asarray(tokens, np.int32)
        if ended is None:
            ended = bool(drawn.size) and int(drawn[-1]) in self.end_tokens
            drawn = drawn[:-1] if ended else drawn
        anchor, before = self._reading
        text, after = self._read(drawn, anchor), self.turn.after
        if not ended and before.startswith(text):
            return ""
        if before.startswith(text) and squeezed(text) == squeezed(before):
            return ""  # an end token may take the white space before it
        text = text.removeprefix(before)
        return text.removesuffix(after) if ended else text

    def encode_sample(self, sample: Sample) -> tuple[IntArray, IntArray]:
        """A text sample as `(prompt_tokens (P,), reply_tokens (T,))` for this tokenizer.

        A sample that this tokenizer drew keeps the tokens that it was drawn with. Otherwise
        (another model's sample, a person's text) both are encoded here. A reply that was cut off
        gets no end token.

        Raises:
            TypeError: the sample is a clip.
            ModelError: as `encode_prompt` and `encode_reply`.
        """
        completion, codec = sample.completion, self._codec
        prompt = self._render(_dialogue(sample.prompt))
        tokens = codec.readable(codec.encode(prompt.text, prompt.hidden))
        if self._drew(sample, tokens):
            return completion.prompt_tokens, codec.readable(completion.tokens)
        reply = self._reply(prompt, completion.text, end=not completion.truncated)
        return tokens, codec.readable(reply)

    def problems(self, dialogues: Iterable[Dialogue] = ()) -> list[str]:
        """Why replies, and these prompts, cannot be encoded as the template means it."""
        found: dict[str, None] = {}
        try:
            _ = self.end_token
            if self.turn.fault:
                found[f"the chat template cannot be used: {self.turn.fault}"] = None
            elif not self._keeps_border:
                ending = self._asked.text[-12:]
                found[
                    f"the chat template's opening ends in {ending!r}, which merges with replies "
                    "into other tokens than those that are drawn after it"
                ] = None
        except ModelError as error:
            found[error.what] = None
        readable: list[Dialogue] = []
        for dialogue in dialogues:
            try:
                self._render(dialogue)
                readable.append(dialogue)
            except ModelError as error:
                found[in_words(error)] = None
        if not found:
            found |= {in_words(error): None for _, error in self.unanswerable(readable)}
        return list(found)

    def unanswerable(self, prompts: Iterable[Asked]) -> Iterator[tuple[Asked, ModelError]]:
        """Prompts after which the template writes no reply, each with the error.

        One prompt is tried for all that have the same turns, their words aside: the first.

        Args:
            prompts: which `encode_prompt` encodes.
        """
        shapes: set[Shape] = set()
        for prompt in prompts:
            dialogue = _dialogue(prompt)
            if (shape := Shape.of(dialogue)) not in shapes:
                shapes.add(shape)
                try:
                    self._try_reply(dialogue)
                except ModelError as error:
                    yield prompt, error

    def _try_reply(self, dialogue: Dialogue) -> None:
        """A `ModelError` where no reply can be encoded, whatever its words."""
        rendered = self._render(dialogue)
        self._reply(rendered, PROBES[0], end=True)
        if self.rows is not None:
            # Of the probe's own words, which nobody wrote, the model may have no embedding.
            self._codec.readable(self._reply(rendered, "", end=True))

    def _render(self, dialogue: Dialogue) -> _Rendered:
        hidden: list[str] = []
        self._check(dialogue)
        turns = self._codec.hide(self.template.turns(dialogue), hidden)
        tools = self._codec.hide([dict(tool) for tool in dialogue.tools], hidden)
        text = self.template.render(turns, tools, opening=True)
        return _Rendered(text + self.turn.opening, turns, tools, hidden)

    def _check(self, dialogue: Dialogue) -> None:
        """A `ModelError` where the model would not be told all of dialogues of this shape."""
        require_words(dialogue, self.template.where)
        shape = Shape.of(dialogue)
        missing = self._left_out.get(shape)
        if missing is None:
            missing = self._left_out[shape] = left_out(self.template, dialogue)
        if missing:
            roles = ", ".join(message.role for message in dialogue.messages)
            raise ModelError(
                f"the chat template leaves out {' and '.join(missing)}",
                where=self.template.where,
                hint=f"turns: {roles}. Another template can be named as model.chat.template. "
                + (SYSTEM_HINT if "system" in roles else ""),
            )

    def _reply(self, prompt: _Rendered, text: str, *, end: bool) -> IntArray:
        turn = self.turn
        if turn.fault is not None:
            raise ModelError(
                f"replies cannot be encoded with the chat template: {turn.fault}",
                where=self.template.where,
                hint="Name a file of another one as model.chat.template.",
            )
        hidden = list(prompt.hidden)
        written = self._written(prompt, self._codec.hide(text, hidden))
        if not end:
            return self._continuation(prompt.text, written, hidden)
        if turn.end:
            return self._continuation(prompt.text, written + turn.after + turn.end, hidden)
        tokens = self._continuation(prompt.text, written, hidden)
        return np.append(tokens, np.int32(self.end_token))

    def _written(self, prompt: _Rendered, text: str) -> str:
        """What the template writes between a prompt and the end of a reply.

        A reply of which it makes something else, as of one that spells the end of a thought, stands
        where a plain one would: no words of a reply may end a run.
        """
        try:
            written = reply_text(self.turn, self._after(prompt, text), text)
        except ModelError:  # the code of a template may trip over the words of a reply
            written = None
        return self._before(prompt) + text if written is None else written

    def _after(self, prompt: _Rendered, text: str) -> str | None:
        """What the template writes behind a prompt for this reply; None: not the prompt first."""
        whole = self.template.render([*prompt.turns, reply_of(text)], prompt.tools)
        return whole[len(prompt.text) :] if whole.startswith(prompt.text) else None

    def _before(self, prompt: _Rendered) -> str:
        """What the template writes between a prompt and a plain reply."""
        after = self._after(prompt, PROBES[0])
        before, found, rest = (after or "").partition(PROBES[0])
        if found and rest == self.turn.rest:
            return before
        what = f"the chat template makes something else of the reply {PROBES[0]!r}"
        if after is None:
            what = f"{NOT_FIRST}, which ends in {prompt.text[-40:]!r}"
        raise self.template.fault(what, [*prompt.turns, reply_of("")])

    def _continuation(self, prompt: str, text: str, hidden: list[str]) -> IntArray:
        """The tokens of a text after those of a prompt."""
        codec = self._codec
        near = tail(prompt, codec.pattern)
        if near != self._last_tail[0]:
            self._last_tail = near, codec.encode(near, hidden)
        head = self._last_tail[1]
        both = codec.encode(near + text, hidden)
        if begins(both, head):
            return both[len(head) :]
        # The border would be inside a token, as of a line that ends the prompt and an empty one
        # that begins the reply. The prompt's tokens are given: the reply goes on from them.
        meant = codec.decode(both)
        found: list[tuple[IntArray, str]] = []
        for context in (_first_mark(near, codec), *_CONTEXTS):
            start = codec.encode(context, [])
            tokens = codec.encode(context + text, hidden)
            if begins(tokens, start):
                rest = tokens[len(start) :]
                found.append((rest, codec.decode(np.concatenate([head, rest]))))
        # White space may go where an end token takes that before it.
        for same in (str, squeezed):
            for rest, read in found:
                if same(read) == same(meant):
                    return rest
        raise ModelError(
            f"no tokens of {codec.reveal(text, hidden)[:40]!r} follow on {near[-40:]!r}",
            where=self.template.where,
        )

    @cached_property
    def _asked(self) -> _Rendered:
        """A prompt like any other."""
        text = self.template.render(QUESTION, opening=True) + self.turn.opening
        return _Rendered(text, list(QUESTION), [])

    @cached_property
    def _reading(self) -> tuple[IntArray, str]:
        """Tokens after which replies are to be read, and what is then read before each reply.

        Read alone, the first token of a text loses its space in some tokenizers.
        """
        nothing = np.empty(0, np.int32)
        if self.turn.fault is not None:
            return nothing, self.turn.before
        codec = self._codec
        opening = codec.encode(tail(self._asked.text, codec.pattern), [])
        probes = [*PROBES, " " + PROBES[0]]
        written = [self._written(self._asked, text) for text in probes]
        meant = [text.removeprefix(self.turn.before) for text in written]
        tokens = [self._reply(self._asked, text, end=False) for text in probes]
        for number in (len(probes), len(PROBES)):  # not all keep a first space in any way
            for anchor in (opening, codec.encode("a", []), nothing):
                read = [self._read(drawn, anchor) for drawn in tokens[:number]]
                before = read[0].removesuffix(meant[0])
                if read == [before + text for text in meant[:number]]:
                    return anchor, before
        return nothing, self.turn.before

    def _read(self, tokens: IntArray, anchor: IntArray) -> str:
        """The text of tokens as they are read after others."""
        before = self._codec.decode(anchor)
        whole = self._codec.decode(np.concatenate([anchor, tokens]))
        return whole[len(before) :] if whole.startswith(before) else self._codec.decode(tokens)

    @cached_property
    def _keeps_border(self) -> bool:
        return keeps_border(self._codec, self._asked.text, self.turn.before)

    def _drew(self, sample: Sample, prompt: IntArray) -> bool:
        """Whether a sample's own tokens are tokens of this tokenizer."""
        completion = sample.completion
        tokens = completion.tokens
        if not tokens.size or not np.array_equal(completion.prompt_tokens, prompt):
            return False
        if tokens.min() < 0 or tokens.max() >= len(self.tokenizer):
            return False
        # Tokenizers with other tokens may agree on a prompt, and do not on what a reply says.
        # How it is spaced, and half characters, may differ where another program decoded it, and
        # what cannot be stored is another in the text.
        told = _letters(completion.text)
        read = [_letters(text) for text in (self.decode_reply(tokens), self._codec.decode(tokens))]
        if told in read:
            return True
        # A stop string is cut from the text and stays in the tokens.
        cut = bool(told) or bool(sample.settings.get("stop"))
        return cut and any(text.startswith(told) for text in read)


def _letters(text: str) -> str:
    return squeezed(whole_text(text)).replace(_REPLACEMENT, "")


def _first_mark(text: str, codec: Codec) -> str:
    found = codec.pattern.match(text)
    return found[0] if found else ""


def _dialogue(prompt: Prompt | Dialogue) -> Dialogue:
    content = prompt.content if isinstance(prompt, Prompt) else prompt
    if not isinstance(content, Dialogue):
        raise TypeError(f"a {content.type} is not a dialogue")
    return content

"""Text to tokens where some names in it are control tokens and others are what somebody wrote.

A template's `<|im_end|>` is a token; the same ten characters in a user's message are text. The
user's are hidden before the template is rendered, under words that no text can hold, so that what
is spelt afterwards is the template's. The whole text is then encoded at once, as the tokenizer
itself would: pieces encoded apart would gain or lose spaces at their borders. Where a user did
spell a control token, a twin of the tokenizer does it, in which the control tokens have names
that no text can hold; everything else in it is the same.
"""

import re
import secrets
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from backflip.data.chat.twin import BYTE_PIECE, make_twin
from backflip.errors import ModelError
from backflip.records.samples import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


class Codec:
    """Encodes rendered text with a tokenizer.

    Args:
        tokenizer: any of transformers'.
        markers: names of added tokens to be read as control tokens beside the special ones.
        rows: embeddings of the model that reads the tokens; None for as many as there are tokens.

    Attributes:
        rows: the same, and None also where no token is without an embedding.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        markers: Collection[str] = (),
        *,
        rows: int | None = None,
    ):
        self.tokenizer = tokenizer
        self.rows = rows if rows is not None and rows <= _last_token(tokenizer) else None
        added = tokenizer.added_tokens_decoder
        names = {*markers, *tokenizer.all_special_tokens}
        self.control = {str(t): i for i, t in added.items() if t.special or str(t) in names}
        words = {str(t) for t in added.values() if t.single_word}
        self.pattern = re.compile(_any_of(self.control, words))
        # Nobody who writes a text can know these words, so none can hold them.
        self._nonce = secrets.token_hex(8)
        self._hidden = re.compile(f"{self._nonce}([0-9]+)z")
        # Unknown characters come out of any text, and pieces that stand for one byte with them.
        unknown: Any = tokenizer.unk_token_id
        self._bytes = {i for name, i in self.control.items() if BYTE_PIECE.fullmatch(name)}
        self._counted = {i for i in self.control.values() if i != unknown} - self._bytes

    def hide(self, value: T, hidden: list[str]) -> T:
        """`value` with each control token that is spelt in it under another word.

        Args:
            value: a text, or lists and dicts that hold texts.
            hidden: what was hidden before, to which more is added; `encode` needs it.
        """
        return cast("T", self._hide(value, hidden))

    def _hide(self, value: Any, hidden: list[str]) -> Any:
        if isinstance(value, str):

            def under(match: re.Match[str]) -> str:
                hidden.append(match[0])
                return f"{self._nonce}{len(hidden) - 1}z"

            return self.pattern.sub(under, value)
        if isinstance(value, dict):
            pairs = cast("dict[Any, Any]", value).items()
            return {self._hide(k, hidden): self._hide(v, hidden) for k, v in pairs}
        if isinstance(value, list | tuple):
            return [self._hide(part, hidden) for part in cast("list[Any]", value)]
        return value

    def reveal(self, text: str, hidden: list[str]) -> str:
        """A text as it was before anything in it was hidden."""
        return self._hidden.sub(lambda match: hidden[int(match[1])], text) if hidden else text

    def encode(self, text: str, hidden: list[str]) -> IntArray:
        """(T,) int32 tokens of a text.

        Control tokens that are spelt in it are tokens, those that are hidden are text. The model
        may have no embedding of one: `readable` tells.

        Raises:
            ModelError: the tokenizer does not find its control tokens in text.
        """
        spelt = [self.control[name] for name in self.pattern.findall(text)]
        expected = [i for i in spelt if i in self._counted]
        if not hidden:
            ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=False)
            if self.control_tokens(ids) == expected:
                return np.asarray(ids, np.int32)
            # A piece of the vocabulary that is spelt like a control token, once normalised.
        names = self._twin.names
        told = self.pattern.sub(lambda match: names.get(match[0], match[0]), text)
        ids = self._twin.encode(self.reveal(told, hidden))
        if self.control_tokens(ids) != expected:
            raise ModelError(
                "the tokenizer does not find its own control tokens in a text",
                where=str(self.tokenizer.name_or_path) or None,
                hint=f"They are {', '.join(self.control)}.",
            )
        return np.asarray(ids, np.int32)

    def readable(self, ids: IntArray) -> IntArray:
        """The same tokens, each of which the model has an embedding of.

        Raises:
            ModelError: it has none of one of them.
        """
        if self.rows is None or not ids.size or (token := int(ids.max())) < self.rows:
            return ids
        raise ModelError(
            f"holds {self.tokenizer.convert_ids_to_tokens(token)!r}, token {token} of the "
            f"tokenizer, and the model has {self.rows} embeddings and none for it",
            hint="Take it out of the text. Or call resize_token_embeddings(len(tokenizer)) on the "
            "model, train it on such texts and save both again.",
        )

    def encode_text(self, text: str) -> IntArray:
        """(T,) int32 tokens of a text in which nothing is a control token, all `readable`."""
        hidden: list[str] = []
        return self.readable(self.encode(self.hide(text, hidden), hidden))

    def control_tokens(self, tokens: Sequence[int]) -> list[int]:
        """The control tokens among `tokens`, those that come out of any text aside, in order."""
        counted = self._counted
        return [token for token in tokens if token in counted]

    def decode(self, tokens: IntArray) -> str:
        """The text of tokens as people read it: special tokens left out, nothing tidied."""
        ids: list[int] = tokens.tolist()
        if self._bytes:  # special by their flag, and still text
            added = self.tokenizer.added_tokens_decoder
            ids = [i for i in ids if i in self._bytes or not (i in added and added[i].special)]
        text = self.tokenizer.decode(
            ids, skip_special_tokens=not self._bytes, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)  # noqa: S101  a single row decodes to a single string
        return text

    @cached_property
    def _twin(self) -> Any:
        return make_twin(self.tokenizer, self.control, self._nonce)


def begins(tokens: IntArray, with_tokens: IntArray) -> bool:
    """Whether the first tokens of some are these others."""
    return np.array_equal(tokens[: len(with_tokens)], with_tokens)


def _last_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    return max(tokenizer.get_vocab().values(), default=-1)


def end_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Id of the token that ends a text; a `ModelError` where the tokenizer has none."""
    token = tokenizer.eos_token_id
    if not isinstance(token, int):
        raise ModelError(
            "the tokenizer has no end token",
            where=str(tokenizer.name_or_path) or None,
            hint="set eos_token in its tokenizer_config.json",
        )
    return token


def _any_of(names: Collection[str], words: Collection[str]) -> str:
    """A pattern that matches each name, the longest first; as whole words those of `words`."""
    parts = [
        rf"(?<!\w){re.escape(name)}(?!\w)" if name in words else re.escape(name)
        for name in sorted(names, key=len, reverse=True)
    ]
    return "|".join(parts) or "(?!)"

"""Between messages and tokens: the one place where text becomes what a language model reads.

A prompt is rendered by the tokenizer's own chat template and closed by the opening of the
assistant's turn; a reply is encoded on its own and ends with the end token. Prompt and reply
tokens are therefore always the same two arrays laid end to end, in sampling as in training:

    prompt = encode_prompt(tokenizer, sample.prompt.messages)     # <|im_start|>user ... assistant
    reply = encode_reply(tokenizer, "It pours.")                  # It pours.<|im_end|>

What people and models wrote is never read as control tokens: a message that spells out
`<|im_end|>` is encoded as those ten characters, so a prompt cannot forge a turn of its own.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from backflip.errors import ModelError
from backflip.records import Completion, Message, Sample
from backflip.records.samples import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PRIVATE_USE = range(0xE000, 0xF8FF)


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> IntArray:
    """Encode turns to answer, up to and including the opening of the assistant's turn.

    A tokenizer without a chat template (a base model's) gets plain turns, `User:`, the text,
    a blank line, and last `Assistant:` on a line of its own, after the tokenizer's own beginning
    token if it has one.

    Args:
        tokenizer: the policy's or the reward model's.
        messages: at least one turn; the last one is normally the user's.

    Returns:
        (P,) int32 token ids.

    Raises:
        ModelError: the chat template refuses these turns (some know no system turn).
    """
    spelt = _control_pattern(tokenizer)
    if spelt is None or not any(spelt.search(m.content) for m in messages):
        return _tokens(tokenizer, _render(tokenizer, messages))
    # Each spelt-out control token is swapped for a mark before rendering, so that the template
    # sees all turns at once, and encoded as plain text where the mark comes out again.
    mark = _unused_character(messages)
    names: list[str] = []

    def hide(match: re.Match[str]) -> str:
        names.append(match[0])
        return f"{mark}{len(names) - 1}{mark}"

    hidden = [m.model_copy(update={"content": spelt.sub(hide, m.content)}) for m in messages]
    pieces = re.split(f"{mark}([0-9]+){mark}", _render(tokenizer, hidden))
    encoded = [
        _tokens(tokenizer, names[int(piece)], plain=True) if i % 2 else _tokens(tokenizer, piece)
        for i, piece in enumerate(pieces)
    ]
    return np.concatenate(encoded)


def encode_reply(tokenizer: "PreTrainedTokenizerBase", text: str, *, end: bool = True) -> IntArray:
    """Encode a reply, by default with the end token behind it.

    Args:
        tokenizer: the policy's or the reward model's.
        text: the reply without its end token.
        end: False for a reply that was cut off, whose writer never said that it was finished.

    Returns:
        (T,) int32 token ids.

    Raises:
        ModelError: the tokenizer has no end token.
    """
    tokens = _tokens(tokenizer, text, plain=True)
    if not end:
        return tokens
    return np.append(tokens, np.int32(end_token(tokenizer)))


def decode_reply(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int] | IntArray) -> str:
    """The text of sampled tokens as people read it: control tokens left out, nothing tidied."""
    text = tokenizer.decode(
        np.asarray(tokens, np.int32).tolist(),
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    assert isinstance(text, str)  # noqa: S101  a single row decodes to a single string
    return text


def encode_sample(
    tokenizer: "PreTrainedTokenizerBase", sample: Sample
) -> tuple[IntArray, IntArray]:
    """A text sample as `(prompt_tokens (P,), reply_tokens (T,))` for this tokenizer.

    The tokens that the sample was drawn with are kept wherever this tokenizer could have drawn
    them: it encodes the prompt to the same tokens and reads the reply's tokens as the reply's
    text. Otherwise (another model's sample, a person's text) both are encoded here. A reply that
    was cut off gets no end token.

    Raises:
        TypeError: the sample is a clip.
        ModelError: as `encode_prompt` and `encode_reply`.
    """
    completion = sample.completion
    prompt = encode_prompt(tokenizer, sample.prompt.messages)
    if _drawn_with(tokenizer, completion, prompt):
        return completion.prompt_tokens, completion.tokens
    return prompt, encode_reply(tokenizer, completion.text, end=not completion.truncated)


def end_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Id of the token that ends a reply; a `ModelError` where the tokenizer has none."""
    token = tokenizer.eos_token_id
    if not isinstance(token, int):
        raise ModelError(
            "the tokenizer has no end token",
            where=str(tokenizer.name_or_path) or None,
            hint="set eos_token in its tokenizer_config.json",
        )
    return token


def _drawn_with(
    tokenizer: "PreTrainedTokenizerBase", completion: Completion, prompt: IntArray
) -> bool:
    """Whether the completion's own tokens are tokens of this tokenizer."""
    tokens = completion.tokens
    if not tokens.size or not np.array_equal(completion.prompt_tokens, prompt):
        return False
    if tokens.min() < 0 or tokens.max() >= len(tokenizer):
        return False
    # A stop string is cut from the text and stays in the tokens: the text is a beginning of theirs.
    return decode_reply(tokenizer, tokens).startswith(completion.text)


def _render(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> str:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    if not tokenizer.chat_template:
        plain = "".join(f"{m.role.capitalize()}:\n{m.content}\n\n" for m in messages)
        return f"{_beginning(tokenizer)}{plain}Assistant:\n"
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        raise ModelError(
            f"the chat template refuses these turns: {error}",
            where=str(tokenizer.name_or_path) or None,
            hint="turns: " + ", ".join(m.role for m in messages),
        ) from None
    assert isinstance(text, str)  # noqa: S101  tokenize=False renders one string
    return text


def _beginning(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The beginning token, for tokenizers that put one before every text."""
    empty = tokenizer.encode("")
    begins = bool(empty) and empty[0] == tokenizer.bos_token_id
    return str(tokenizer.bos_token) if begins else ""


def _tokens(tokenizer: "PreTrainedTokenizerBase", text: str, *, plain: bool = False) -> IntArray:
    """Encode text; `plain` reads control tokens in it as the characters they are spelt with."""
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain)
    return np.asarray(ids, np.int32)


def _control_pattern(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str] | None:
    """Matches every control token as it would be spelt in a text."""
    added = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    names = sorted({*added, *map(str, tokenizer.all_special_tokens)}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names))) if names else None


def _unused_character(messages: Sequence[Message]) -> str:
    used = {c for m in messages for c in m.content}
    return next(chr(code) for code in _PRIVATE_USE if chr(code) not in used)

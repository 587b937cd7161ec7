"""Between messages and tokens: the one place where text becomes what a language model reads.

    chat = Chat(tokenizer, settings)
    prompt = chat.encode_prompt(sample.prompt.content)   # <|im_start|>user ... assistant
    reply = chat.encode_reply("It pours.")               # It pours.<|im_end|>

Prompt and reply laid end to end are, token for token, what the chat template writes for the whole
dialogue up to the end of the reply's turn, in sampling as in training; `Chat` says how. Text that
is no dialogue is encoded by a `Codec`.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from backflip.config import ChatSettings
from backflip.data.chat.chat import Chat
from backflip.data.chat.template import in_words
from backflip.data.chat.tokens import Codec, end_token
from backflip.errors import ModelError
from backflip.records import Dialogue, Message, Sample
from backflip.records.samples import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Chat",
    "Codec",
    "decode_reply",
    "encode_prompt",
    "encode_reply",
    "encode_sample",
    "end_token",
    "template_problems",
]


def template_problems(
    tokenizer: "PreTrainedTokenizerBase",
    settings: ChatSettings | None = None,
    dialogues: Iterable[Dialogue] = (),
) -> list[str]:
    """Why a model's chat template cannot be trained on, or not with these prompts; in words.

    To be asked before anything is drawn or trained: where it says nothing, `Chat` encodes replies
    to these prompts.
    """
    try:
        return Chat(tokenizer, settings).problems(dialogues)
    except ModelError as error:
        return [in_words(error)]


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> IntArray:
    """`Chat.encode_prompt` under the default settings."""
    return Chat(tokenizer).encode_prompt(Dialogue(messages=tuple(messages)))


def encode_reply(tokenizer: "PreTrainedTokenizerBase", text: str, *, end: bool = True) -> IntArray:
    """`Chat.encode_reply` under the default settings."""
    return Chat(tokenizer).encode_reply(text, end=end)


def decode_reply(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int] | IntArray) -> str:
    """`Chat.decode_reply` under the default settings."""
    return Chat(tokenizer).decode_reply(tokens)


def encode_sample(
    tokenizer: "PreTrainedTokenizerBase", sample: Sample
) -> tuple[IntArray, IntArray]:
    """`Chat.encode_sample` under the default settings."""
    return Chat(tokenizer).encode_sample(sample)

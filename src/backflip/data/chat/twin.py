"""Twins of tokenizers whose control tokens have names that no text can hold.

The same ids, flags, pieces and merges: a twin encodes as the tokenizer does, but for the names.
"""

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backflip.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
"""A piece that stands for one byte of a character that the vocabulary lacks, by its name."""
_NEVER = -1e6
"""Score of a piece that no text is cut into: far below that of any other."""


@dataclass(frozen=True)
class Twin:
    """How a twin encodes, and what its control tokens are called, by what they were called.

    Pieces of bytes keep their names, which a tokenizer looks for where it lacks a character, and
    are no control tokens there: as text their names are letters like any other.
    """

    encode: Callable[[str], list[int]]
    names: Mapping[str, str]


def make_twin(tokenizer: "PreTrainedTokenizerBase", control: Mapping[str, int], nonce: str) -> Twin:
    """The twin of a tokenizer.

    Args:
        tokenizer: on the tokenizers library, or in Python.
        control: names and ids of the tokens that get other names.
        nonce: is in all these, and in no text.

    Raises:
        ModelError: this tokenizer cannot have one.
    """
    # The first character belongs to no piece of a vocabulary, so that no match begins before it.
    names = {name: f"\ue000{nonce}t{i}t\ue000" for i, name in enumerate(control)}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return Twin(_in_python(tokenizer, names), names)
    from tokenizers import Tokenizer

    data = json.loads(backend.to_str())
    for piece in _byte_pieces(data["model"]):
        names.pop(piece, None)
    twin = Tokenizer.from_str(_renamed(data, names))
    added = {i: names.get(str(t), str(t)) for i, t in tokenizer.added_tokens_decoder.items()}
    moved = [name for i, name in added.items() if twin.token_to_id(name) != i]
    if moved or twin.get_vocab_size() != backend.get_vocab_size():
        raise ModelError(
            "the tokenizer's added tokens have ids that do not follow its vocabulary",
            where=str(tokenizer.name_or_path) or None,
            hint="A text that spells a control token cannot be encoded with it.",
        )
    return Twin(lambda text: twin.encode(text, add_special_tokens=False).ids, names)


def _byte_pieces(model: Mapping[str, Any]) -> set[str]:
    """Pieces of bytes that a model of the tokenizers library makes characters of."""
    if not model.get("byte_fallback"):
        return set()
    pieces = model["vocab"]
    named = pieces if isinstance(pieces, dict) else (piece for piece, _ in pieces)
    return {piece for piece in named if BYTE_PIECE.fullmatch(piece)}


def _renamed(data: dict[str, Any], names: Mapping[str, str]) -> str:
    """A tokenizer of the tokenizers library, in its JSON, with other names for some tokens."""
    data = {**data, "truncation": None, "padding": None, "post_processor": None}
    bytes_of = _byte_pieces(data["model"])
    data["added_tokens"] = [
        {**token, "content": names.get(token["content"], token["content"])}
        for token in data["added_tokens"]
        if token["content"] not in bytes_of
    ]
    model: dict[str, Any] = dict(data["model"])
    data["model"] = model
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): i for piece, i in vocabulary.items()}
    else:
        model["vocab"] = [
            [names.get(piece, piece), _NEVER if piece in bytes_of else score]
            for piece, score in vocabulary
        ]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        # A control token that merges lead to, or from, would come out of text.
        model["merges"] = [
            pair
            for pair in model["merges"]
            if not {*(parts := pair.split(" ") if isinstance(pair, str) else pair), "".join(parts)}
            & names.keys()
        ]
    return json.dumps(data)


def _in_python(
    tokenizer: "PreTrainedTokenizerBase", names: Mapping[str, str]
) -> Callable[[str], list[int]]:
    """The encoding of a twin of a tokenizer that is written in Python."""
    from tokenizers import AddedToken
    from transformers.tokenization_python import PythonBackend, Trie

    if not isinstance(tokenizer, PythonBackend):
        raise ModelError(
            f"a text that spells a control token cannot be encoded with a "
            f"{type(tokenizer).__name__}",
            where=str(tokenizer.name_or_path) or None,
            hint="Use the model's tokenizer.json.",
        )
    twin: Any = copy.deepcopy(tokenizer)
    added = {
        i: AddedToken(
            names.get(str(token), str(token)),
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
            special=token.special,
        )
        for i, token in tokenizer.added_tokens_decoder.items()
    }
    twin._added_tokens_decoder = added
    twin._added_tokens_encoder = {str(token): i for i, token in added.items()}
    twin.tokens_trie = Trie()
    twin._update_trie()
    # A stretch of text that is spelt like a token with a role would be taken for it.
    twin._special_tokens_map = {
        role: names.get(str(token), token) if isinstance(token, str | AddedToken) else token
        for role, token in tokenizer._special_tokens_map.items()
    }
    twin._extra_special_tokens = [
        names.get(str(token), str(token)) for token in tokenizer._extra_special_tokens
    ]
    return lambda text: twin.encode(text, add_special_tokens=False)

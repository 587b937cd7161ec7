"""Whether the tokens of a prompt stay as they are, whatever reply comes after it.

Where the border lies inside a token, that token begins with the end of the opening and goes on: so
the tokenizer's own vocabulary tells which replies to try. Where a pre-tokenizer cuts the opening
otherwise, it goes by the kind of character that follows, and the first characters of the tokens
are of all kinds that this tokenizer knows.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

from backflip.data.chat.tokens import Codec, begins
from backflip.data.chat.turn import PROBES, tail

_MOST = 1000
"""Replies of either sort that are tried: a vocabulary may give a hundred thousand."""
_RARE = ("\u96e8", "\u0416", "\u2603", "\U0001f327", "\ue000")
"""Characters that a small vocabulary does not have, of several kinds."""
_SPACES = "\u0120\u010a\u2581 \n"
"""How the first spaces of a token are spelt."""


def keeps_border(codec: Codec, prompt: str, before: str = "") -> bool:
    """Whether no reply changes the tokens of the prompt that it comes after.

    Replies that begin with white space are not asked about.

    Args:
        codec: encodes both.
        prompt: its text.
        before: what always stands between it and a reply.

    Raises:
        ModelError: the text of a plain reply cannot be encoded.
    """
    head = codec.encode(prompt, [])
    if not all(begins(codec.encode(prompt + before + text, []), head) for text in PROBES):
        return False
    near = tail(prompt, codec.pattern)
    head = codec.encode(near, [])
    replies = probes(codec, near, before)
    return all(begins(codec.encode(near + before + text, []), head) for text in replies)


def probes(codec: Codec, prompt: str, before: str = "") -> Iterator[str]:
    """Replies that may merge with the end of a prompt, by the tokens that there are."""
    vocabulary = [
        piece for piece in codec.tokenizer.get_vocab() if piece and piece not in codec.control
    ]
    decoder = getattr(getattr(codec.tokenizer, "backend_tokenizer", None), "decoder", None)
    in_bytes = decoder is not None and decoder.decode(["\u010a"]) == "\n"
    yield from _RARE
    for found in (
        _continuing(vocabulary, codec.pattern.split(prompt)[-1], before, in_bytes=in_bytes),
        _first_characters(vocabulary, in_bytes=in_bytes),
    ):
        yield from _spread(sorted({text for text in found if _may_begin(text)}))


def _may_begin(text: str) -> bool:
    """Whether people begin a reply with it: white space, controls and bare accents they do not."""
    return bool(text) and not text[0].isspace() and unicodedata.category(text[0])[0] not in "CMZ"


def _continuing(
    vocabulary: Sequence[str], opening: str, before: str, *, in_bytes: bool
) -> Iterator[str]:
    """What is left, behind `before`, of tokens that begin with an end of the opening."""
    spelt = {_spelt(text, in_bytes=in_bytes) for text in (opening, opening.lower())}
    ends = {text[place:] for text in spelt for place in range(len(text))}
    begun = tuple(f"{mark}{end}" for end in ends for mark in ("", "##"))
    for piece in filter(lambda piece: piece.startswith(begun), vocabulary):
        bare = piece.removeprefix("##")
        for size in range(1, len(bare)):
            if bare[:size] in ends:
                rest = _read(bare[size:], in_bytes=in_bytes)
                if rest.startswith(before):
                    yield rest[len(before) :]


def _first_characters(vocabulary: Sequence[str], *, in_bytes: bool) -> Iterator[str]:
    """The first character that can be seen of each token."""
    size = 4 if in_bytes else 1
    seen = {piece.removeprefix("##").lstrip(_SPACES)[:size] for piece in vocabulary}
    for piece in seen:
        yield _read(piece, in_bytes=in_bytes)[:1]


def _spread(found: list[str]) -> list[str]:
    """All of a list, or as many as are tried, from all over it."""
    if len(found) <= _MOST:
        return found
    return [found[place * len(found) // _MOST] for place in range(_MOST)]


def _spelt(text: str, *, in_bytes: bool) -> str:
    """A text as pieces of a vocabulary spell it."""
    if in_bytes:
        names = _names_of_bytes()
        return "".join(names[byte] for byte in text.encode())
    return text.replace(" ", "\u2581")


def _read(piece: str, *, in_bytes: bool) -> str:
    """The text of a piece that begins with a whole character; half a last one is made whole."""
    if not in_bytes:
        return piece.removesuffix("</w>").replace("\u2581", " ")
    bytes_of = _bytes_by_name()
    spelt = bytes(bytes_of[name] for name in piece if name in bytes_of)
    for more in range(4):
        for byte in (b"\x80", b"\xa0"):
            try:
                return (spelt + byte * more).decode()
            except UnicodeDecodeError:
                continue
    return spelt.decode(errors="ignore")


@cache
def _names_of_bytes() -> tuple[str, ...]:
    """How byte-level vocabularies spell each byte: as itself where it can be seen, else above."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in shown else chr(next(others)) for byte in range(0x100))


@cache
def _bytes_by_name() -> dict[str, int]:
    return {name: byte for byte, name in enumerate(_names_of_bytes())}

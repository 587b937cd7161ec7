"""Packing: many texts in few rows of one length, and none of them sees another.

Each row is cut into segments, one a text. Positions begin at 0 in every segment and attention
stays inside it, so that a text gets the same log-probabilities packed as alone:

    tokens     [ a a a a | b b | . . ]
    segments   [ 1 1 1 1   2 2   0 0 ]     0 is padding
    positions  [ 0 1 2 3   0 1   0 0 ]
    mask       [ . . a a   . b   . . ]     counts in the loss: here the replies

`mask` marks targets: True at t means that token t, predicted from t - 1 in the same segment,
counts. The first token of a segment is never a target.
"""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from backflip.errors import FormatError
from backflip.records.samples import IntArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Packed:
    """B rows of L tokens.

    Attributes:
        tokens: (B, L) int32; 0 where padded, which stands for nothing: `segments` alone says what
            is padding.
        segments: (B, L) int32, from 1 in every row; 0 is padding.
        mask: (B, L) bool, the tokens that count in the loss.
    """

    tokens: IntArray
    segments: IntArray
    mask: BoolArray

    @property
    def num_rows(self) -> int:
        return len(self.tokens)

    @property
    def num_targets(self) -> int:
        return int(self.mask.sum())

    @property
    def positions(self) -> IntArray:
        """(B, L) int32 place of each token in its segment, from 0; 0 where padded."""
        places = np.arange(self.segments.shape[1], dtype=np.int32)
        starts = np.ones(self.segments.shape, bool)
        starts[:, 1:] = self.segments[:, 1:] != self.segments[:, :-1]
        first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
        return np.where(self.segments > 0, places - first, 0).astype(np.int32)

    def select(self, rows: Sequence[int] | NDArray[np.integer]) -> Self:
        """The rows with these indices, cut to the longest of them."""
        segments = self.segments[rows]
        filled = np.flatnonzero((segments > 0).any(axis=0))
        end = int(filled[-1]) + 1 if filled.size else 0
        return type(self)(self.tokens[rows, :end], segments[:, :end], self.mask[rows, :end])


def pack_dialogues(
    dialogues: Sequence[tuple[IntArray, IntArray]],
    *,
    length: int,
    packing: bool = True,
    names: Sequence[str] | None = None,
) -> Packed:
    """Lay prompts and replies into as few rows as best-fit decreasing finds; replies count.

    Best fit decreasing: longest first, each into the fullest row that still has room (at most
    11/9 of the fewest possible rows, plus four; Johnson et al. 1974). Ties keep the given order,
    so that the result depends on the dialogues alone.

    Args:
        dialogues: `(prompt_tokens (P,), reply_tokens (T,))`, P and T at least 1.
        length: tokens in a row.
        packing: False gives every dialogue a row of its own, in the given order.
        names: of the dialogues, for errors; None: their indices.

    Raises:
        FormatError: a dialogue that is longer than a row, or has an empty part; it is named.
    """
    sizes = [len(prompt) + len(reply) for prompt, reply in dialogues]
    for i, ((prompt, reply), size) in enumerate(zip(dialogues, sizes, strict=True)):
        name = names[i] if names else f"dialogue {i}"
        if size > length:
            raise FormatError(
                f"{size} tokens do not fit a row of {length}",
                where=name,
                hint="raise sequence_length, or leave the dialogue out",
            )
        if not len(prompt) or not len(reply):
            raise FormatError("has an empty prompt or reply", where=name)
    bins = _best_fit(sizes, length) if packing else [[i] for i in range(len(sizes))]
    packed = _blank(len(bins), length)
    for row, members in enumerate(bins):
        start = 0
        for segment, i in enumerate(members, 1):
            prompt, reply = dialogues[i]
            middle, end = start + len(prompt), start + sizes[i]
            packed.tokens[row, start:middle] = prompt
            packed.tokens[row, middle:end] = reply
            packed.segments[row, start:end] = segment
            packed.mask[row, middle:end] = True
            start = end
    return packed


def pack_texts(texts: Iterable[IntArray], *, length: int, end_token: int) -> Packed:
    """Lay texts end to end and cut the stream into rows; every token counts once.

    Each text is closed by `end_token`. A text that is cut at a row's end goes on in the next row
    as a segment of its own that begins with the last token of the row before, so that no target
    is lost to the cut; what stood earlier is out of its sight.

    Args:
        texts: (n,) token ids of each text, without the end token; empty ones are left out.
        length: tokens in a row, at least 2.
        end_token: id of the token that ends a text.

    Returns:
        Full rows, the last one padded. Targets are all tokens but each text's first.
    """
    if length < 2:
        raise ValueError(f"a row of {length} has no room for a token and its target")
    rows: list[list[IntArray]] = []
    room = 0
    for text in texts:
        if not len(text):
            continue
        rest = np.append(text, np.int32(end_token)).astype(np.int32)
        while len(rest) > 1:  # a lone token was a target already
            if room < 2:
                rows.append([])
                room = length
            piece = rest[:room]
            rows[-1].append(piece)
            room -= len(piece)
            rest = rest[len(piece) - 1 :]
    packed = _blank(len(rows), length)
    for row, pieces in enumerate(rows):
        start = 0
        for segment, piece in enumerate(pieces, 1):
            end = start + len(piece)
            packed.tokens[row, start:end] = piece
            packed.segments[row, start:end] = segment
            packed.mask[row, start + 1 : end] = True
            start = end
    return packed


def _blank(rows: int, length: int) -> Packed:
    shape = (rows, length)
    return Packed(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool))


def _best_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Indices of the items in each row."""
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, bin), sorted: the fullest that fits is found
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        place = bisect.bisect_left(room, (sizes[i], 0))
        free, best = room.pop(place) if place < len(room) else (length, len(bins))
        if best == len(bins):
            bins.append([])
        bins[best].append(i)
        bisect.insort(room, (free - sizes[i], best))
    return bins

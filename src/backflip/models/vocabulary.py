"""Ids that a language model can give out and that stand for no text.

Embeddings are often padded to a round number of rows, and vocabularies may have holes. What such
an id says cannot be written down or read again, so none is ever drawn; and as the rest of the
distribution is drawn from, it is the rest that is learned: both sides leave out the same ids.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from backflip.models.padding import same_tokens


def ids_without_text(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor | None:
    """(M,) int64 ids below `size` that are no token of the tokenizer; None where all are."""
    known: Collection[int] = tokenizer.get_vocab().values()
    without = torch.ones(size, dtype=torch.bool)
    without[[number for number in known if 0 <= number < size]] = False
    found = without.nonzero()[:, 0]
    return found if len(found) else None


def drawn_and_not_read(
    drawing: PreTrainedTokenizerBase,
    size: int | None,
    reading: PreTrainedTokenizerBase,
    rows: int | None,
) -> list[int]:
    """Ids that one model may draw and another has no embedding of, in order.

    Where the other has tokens of its own it reads text, which holds those of its ids that it
    finds in text: all but special tokens.

    Args:
        drawing: tokenizer of the model that draws.
        size: ids that it tells apart; None for as many as there are tokens.
        reading: tokenizer of the model that reads.
        rows: its embeddings; None for as many as there are tokens.
    """
    if rows is None:
        return []
    if same_tokens(drawing, reading):
        known = drawing.get_vocab().values()
        return sorted(i for i in known if i >= rows and (size is None or i < size))
    special = {i for i, token in reading.added_tokens_decoder.items() if token.special}
    return sorted(i for i in reading.get_vocab().values() if i >= rows and i not in special)

"""Ids that a language model can give out and that stand for no text.

Embeddings are often padded to a round number of rows, and vocabularies may have holes. What such
an id says cannot be written down or read again, so none is ever drawn; and as the rest of the
distribution is drawn from, it is the rest that is learned: both sides leave out the same ids.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


def ids_without_text(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor | None:
    """(M,) int64 ids below `size` that are no token of the tokenizer; None where all are."""
    known: Collection[int] = tokenizer.get_vocab().values()
    without = torch.ones(size, dtype=torch.bool)
    without[[number for number in known if 0 <= number < size]] = False
    found = without.nonzero()[:, 0]
    return found if len(found) else None

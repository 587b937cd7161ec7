"""Cutting samples into forward passes that fit into memory."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from backflip.records import Sample
from backflip.rewards.base import Inputs, Scorer

SCORING_TOKENS = 8192
"""Padded tokens in one forward pass without gradients."""
_COLLATED_AT_ONCE = 1024


def pack(lengths: Sequence[int], limit: int, sizes: Sequence[int] | None = None) -> list[list[int]]:
    """Pack items into groups whose padded size fits.

    Args:
        lengths: tokens of the longest row of each item.
        limit: most padded tokens in a group; an item above it is a group of its own.
        sizes: rows of each item; 1 each when not given.

    Returns:
        indices of the items of each group, shortest first, so that little is padded.
    """
    sizes = sizes or [1] * len(lengths)
    groups: list[list[int]] = []
    rows = 0
    for item in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if not groups or (rows + sizes[item]) * lengths[item] > limit:
            groups.append([])
            rows = 0
        groups[-1].append(item)
        rows += sizes[item]
    return groups


def row_lengths(inputs: Inputs) -> list[int]:
    """Tokens or steps of each row."""
    return [int(n) for n in inputs.row_lengths.tolist()]


def score_rows(scorer: Scorer, inputs: Inputs, *, max_tokens: int = SCORING_TOKENS) -> Tensor:
    """(B, ...) what the scorer gives for all rows without gradients, whatever their number."""
    with torch.no_grad():
        groups = pack(row_lengths(inputs), max_tokens)
        if len(groups) == 1 and len(groups[0]) == inputs.num_rows:
            return scorer(inputs)
        parts = [scorer(inputs.select(torch.tensor(group))) for group in groups]
        order = torch.tensor([row for group in groups for row in group])
        return torch.cat(parts)[torch.argsort(order).to(parts[0].device)]


def score_samples(
    scorer: Scorer, samples: Sequence[Sample], *, max_tokens: int = SCORING_TOKENS
) -> Tensor:
    """(S, ...) what the scorer gives for samples without gradients, in their order."""
    parts = [
        score_rows(scorer, scorer.collate(chunk), max_tokens=max_tokens)
        for chunk in chunks(samples)
    ]
    return torch.cat(parts) if parts else torch.zeros(0)


def chunks(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Stretches of samples small enough to be padded together in memory."""
    for start in range(0, len(samples), _COLLATED_AT_ONCE):
        yield samples[start : start + _COLLATED_AT_ONCE]

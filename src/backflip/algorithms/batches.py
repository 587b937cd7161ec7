"""Batches that losses are computed on, cut into micro-batches, and the terms of a loss."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from backflip.rewards.base import Inputs

Unit = Literal["action", "item"]


class ActionInputs(Inputs, Protocol):
    """Inputs of a policy: samples as tensors, with the actions that were taken."""

    @property
    def mask_BT(self) -> Tensor:
        """(B, T) bool, True where an action was taken."""
        ...


class PolicyOutput(Protocol):
    """What a policy says of the actions in its inputs."""

    @property
    def logprobs_BT(self) -> Tensor: ...

    @property
    def entropy_BT(self) -> Tensor | None: ...


@dataclass(frozen=True, kw_only=True)
class TrainBatch:
    """Rows to learn from. `rows_per_item` rows stand together and are never parted: 2 for pairs.

    An algorithm whose loss reads more has a class of its own with those tensors, each (B, T) like
    `mask_BT` and with a name that ends in `_BT`.
    """

    inputs: ActionInputs
    rows_per_item: int = 1

    @property
    def mask_BT(self) -> Tensor:
        return self.inputs.mask_BT

    @property
    def num_items(self) -> int:
        return self.inputs.num_rows // self.rows_per_item

    def totals(self) -> dict[Unit, float]:
        """What sums are divided by: actions and items of this batch."""
        return {"action": float(self.mask_BT.sum()), "item": float(self.num_items)}

    def select(self, items: Tensor) -> Self:
        """The items with these indices, padding beyond the longest of them cut off."""
        K = self.rows_per_item
        rows = (items[:, None] * K + torch.arange(K)).flatten()
        inputs = self.inputs.select(rows)
        width = inputs.mask_BT.shape[1]
        taken = {
            name: tensor[rows][:, :width]
            for name, tensor in vars(self).items()
            if name.endswith("_BT")
        }
        return replace(self, inputs=inputs, **taken)

    def micro_batches(self, max_tokens: int) -> Iterator[Self]:
        """Cut into batches of at most `max_tokens` padded tokens, at least one item each.

        Items are taken shortest first, so that little is padded.
        """
        tokens = self.inputs.row_lengths.view(self.num_items, self.rows_per_item).amax(1)
        for items in micro_batch_indices(tokens * self.rows_per_item, max_tokens):
            yield self.select(items)


def micro_batch_indices(sizes: Tensor, limit: int) -> Iterator[Tensor]:
    """Group indices, smallest size first, so that a group's count times its largest fits."""
    group: list[int] = []
    for index in torch.argsort(sizes, stable=True).tolist():
        if group and int(sizes[index]) * (len(group) + 1) > limit:
            yield torch.tensor(group)
            group = []
        group.append(index)
    if group:
        yield torch.tensor(group)


@dataclass(frozen=True)
class LossTerm:
    """A part of a loss, or with weight 0 a metric: a sum, and the unit of the batch it is over.

    The learner divides by the unit's count over the *whole* batch, so that the result does not
    depend on micro-batches.
    """

    name: str
    sum: Tensor
    unit: Unit = "action"
    weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PolicyBatch(TrainBatch):
    """Rollouts with their advantages.

    Attributes:
        old_logprobs_BT: log-probabilities of the actions under the policy as it acted.
        advantages_BT: how much better each action was than what was expected.
    """

    old_logprobs_BT: Tensor
    advantages_BT: Tensor


@dataclass(frozen=True, kw_only=True)
class PairBatch(TrainBatch):
    """Pairs of samples: rows 2i preferred, rows 2i + 1 not."""

    rows_per_item: int = 2


@dataclass(frozen=True, kw_only=True)
class ReferencePairBatch(PairBatch):
    """Pairs, and the log-probabilities of what was done under the reference."""

    ref_logprobs_BT: Tensor

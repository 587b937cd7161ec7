"""Inputs without a network: lengths, and numbers that a network might have given."""

from dataclasses import dataclass

import torch
from torch import Tensor

T = 6


@dataclass(frozen=True)
class Rows:
    """Rows of `lengths` actions with log-probabilities `logits`; `marks` tells rows apart."""

    lengths: Tensor
    logits: Tensor
    marks: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.lengths)

    @property
    def row_lengths(self) -> Tensor:
        return self.lengths

    @property
    def mask_BT(self) -> Tensor:
        return torch.arange(int(self.lengths.max())) < self.lengths[:, None]

    def select(self, rows: Tensor) -> "Rows":
        lengths = self.lengths[rows]
        return Rows(lengths, self.logits[rows, : int(lengths.max())], self.marks[rows])


def make_rows(number: int, seed: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (number,), generator=generator)
    lengths[0] = T
    logits = torch.randn(number, T, generator=generator, dtype=torch.float64)
    return Rows(lengths, logits, torch.arange(number))

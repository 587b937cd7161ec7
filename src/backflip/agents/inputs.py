"""Clips as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backflip.errors import ModelError
from backflip.records import Clip

OTHER_WORLD = "A clip is of another environment, or of another version of it."


@dataclass(frozen=True)
class ClipInputs:
    """Clips, right-padded with zeros.

    Attributes:
        observations_BSO: (B, T + 1, O) float32; row T_b of a clip is what it saw at the end.
        actions_BTA: (B, T) int64 for discrete actions, (B, T, A) float32 for continuous ones.
        lengths_B: (B,) actions of each clip.
    """

    observations_BSO: Tensor
    actions_BTA: Tensor
    lengths_B: Tensor

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> "ClipInputs":
        """Stack clips of one environment.

        Raises:
            ModelError: what was seen or done in them differs in shape or kind.
        """
        if len({_form(clip) for clip in clips}) > 1:
            raise ModelError(
                "clips whose observations or actions differ cannot stand together", hint=OTHER_WORLD
            )
        lengths = torch.tensor([clip.num_steps for clip in clips])
        longest = int(lengths.max())
        discrete = np.issubdtype(clips[0].actions.dtype, np.integer)
        return cls(
            _pad([c.observations.reshape(c.num_steps + 1, -1) for c in clips], longest + 1).float(),
            _pad([c.actions for c in clips], longest).to(
                torch.int64 if discrete else torch.float32
            ),
            lengths,
        )

    @property
    def num_rows(self) -> int:
        return len(self.lengths_B)

    @property
    def row_lengths(self) -> Tensor:
        return self.lengths_B

    @property
    def mask_BT(self) -> Tensor:
        return torch.arange(self.actions_BTA.shape[1]) < self.lengths_B[:, None]

    def select(self, rows: Tensor) -> "ClipInputs":
        lengths = self.lengths_B[rows]
        longest = int(lengths.max())
        return ClipInputs(
            self.observations_BSO[rows, : longest + 1], self.actions_BTA[rows, :longest], lengths
        )


def _form(clip: Clip) -> tuple[int, tuple[int, ...], bool]:
    """Numbers in an observation, shape of an action, and whether actions are discrete."""
    seen = clip.observations[0].size
    return seen, clip.actions.shape[1:], bool(np.issubdtype(clip.actions.dtype, np.integer))


def _pad(arrays: Sequence[np.ndarray], length: int) -> Tensor:
    padded = np.zeros((len(arrays), length, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return torch.from_numpy(padded)

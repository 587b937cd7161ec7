"""Replies to one prompt, read behind one copy of it.

The two sides of a comparison and the K candidates of a ranking answer the same prompt, which is
often the longest part of a row. Instead of B rows

    prompt reply_1
    prompt reply_2

there is one row for each prompt,

    prompt reply_1 reply_2

in which each reply counts its positions from the end of the prompt, and sees the prompt and itself
alone. Every token sees what it saw in a row of its own, so its state is the same up to rounding,
and gradients of the replies meet in the one prompt.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from backflip.models.inputs import TextInputs

_PADDING = -1


@dataclass(frozen=True, eq=False)
class SharedRows:
    """G rows that hold the B rows of some inputs, each prompt once.

    Attributes:
        tokens_GL: prompt, its replies end to end, padding.
        positions_GL: place of each token in its own row of the inputs; 0 in the padding.
        segments_GL: 0 in the prompt, n in its nth reply, -1 in the padding.
        row_B: which of the G rows holds each of the B.
        start_B: column there of its reply's first token.
        prompt_lengths_B: tokens of its prompt.
    """

    tokens_GL: Tensor
    positions_GL: Tensor
    segments_GL: Tensor
    row_B: Tensor
    start_B: Tensor
    prompt_lengths_B: Tensor

    @classmethod
    def of(cls, inputs: TextInputs) -> Self | None:
        """Gather rows by their prompts; None where that leaves no fewer tokens, padding with them.

        It does not where no two rows have the same prompt, or where so few have that the longer
        rows they make pad all others by more than is saved.
        """
        ids_BL = inputs.input_ids_BL.cpu().numpy()
        prompts, replies = inputs.prompt_lengths_B.tolist(), inputs.reply_lengths_B.tolist()
        groups: dict[bytes, list[int]] = {}
        for row, length in enumerate(prompts):
            groups.setdefault(ids_BL[row, :length].tobytes(), []).append(row)
        longest = max(prompts[g[0]] + sum(replies[row] for row in g) for g in groups.values())
        if len(groups) * longest >= ids_BL.size:
            return None
        shape = (len(groups), longest)
        tokens_GL = np.full(shape, inputs.pad_id, np.int64)
        positions_GL = np.zeros(shape, np.int64)
        segments_GL = np.full(shape, _PADDING, np.int64)
        row_B, start_B = np.zeros(len(prompts), np.int64), np.zeros(len(prompts), np.int64)
        for group, rows in enumerate(groups.values()):
            column = length = prompts[rows[0]]
            tokens_GL[group, :length] = ids_BL[rows[0], :length]
            positions_GL[group, :length] = np.arange(length)
            segments_GL[group, :length] = 0
            for segment, row in enumerate(rows, start=1):
                row_B[row], start_B[row] = group, column
                reply = slice(column, column + replies[row])
                tokens_GL[group, reply] = ids_BL[row, length : length + replies[row]]
                positions_GL[group, reply] = np.arange(length, length + replies[row])
                segments_GL[group, reply] = segment
                column += replies[row]
        device = inputs.input_ids_BL.device
        return cls(
            tokens_GL=torch.from_numpy(tokens_GL).to(device),
            positions_GL=torch.from_numpy(positions_GL).to(device),
            segments_GL=torch.from_numpy(segments_GL).to(device),
            row_B=torch.from_numpy(row_B).to(device),
            start_B=torch.from_numpy(start_B).to(device),
            prompt_lengths_B=inputs.prompt_lengths_B,
        )

    @property
    def mask_G1LL(self) -> Tensor:
        """True where a token (third axis) sees another (fourth); every token sees itself."""
        own_GL1, other_G1L = self.segments_GL[:, :, None], self.segments_GL[:, None, :]
        places_L = torch.arange(self.tokens_GL.shape[1], device=self.tokens_GL.device)
        before_LL = places_L[None, :] <= places_L[:, None]
        return (before_LL & ((other_G1L == 0) | (other_G1L == own_GL1)))[:, None]

    def columns(self, rows_N: Tensor, places_N: Tensor) -> Tensor:
        """(N,) columns here of tokens at `places_N` of rows `rows_N` of the inputs."""
        shift_N = (self.start_B - self.prompt_lengths_B)[rows_N]
        return places_N + torch.where(places_N < self.prompt_lengths_B[rows_N], 0, shift_N)

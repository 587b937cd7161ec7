"""Prompts and replies as padded tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from backflip.errors import ModelError


@dataclass(frozen=True, eq=False)
class TextInputs:
    """B prompts, each with its reply, as rows that are padded on the right.

    Where a row ends is known from its lengths alone: `pad_id` may well be a token of the text
    (many models pad with their end token), so nothing is ever read off the padding.

        inputs = TextInputs.of([[5, 6, 7]], [[8, 9]], pad_id=0)
        inputs.input_ids_BL   # [[5, 6, 7, 8, 9]]
        inputs.actions_BT     # [[8, 9]]
        inputs.predicting_BT  # [[2, 3]]: the token at 2 predicts the first of the reply

    Attributes:
        input_ids_BL: prompt, reply, padding; int64.
        prompt_lengths_B, reply_lengths_B: tokens of each row; int64.
        pad_id: what stands in the padding.
    """

    input_ids_BL: Tensor
    prompt_lengths_B: Tensor
    reply_lengths_B: Tensor
    pad_id: int

    @classmethod
    def of(cls, prompts: Sequence[ArrayLike], replies: Sequence[ArrayLike], pad_id: int) -> Self:
        """Lay prompts and replies, one 1-D array of token ids each, into rows.

        Raises:
            ModelError: no rows, a prompt without tokens, or prompts and replies of other number.
        """
        if len(prompts) != len(replies):
            raise ModelError(f"{len(prompts)} prompts but {len(replies)} replies")
        if not prompts:
            raise ModelError("there are no rows to read")
        heads = [_tokens(prompt, f"prompt {row}") for row, prompt in enumerate(prompts)]
        tails = [_tokens(reply, f"reply {row}") for row, reply in enumerate(replies)]
        for row, head in enumerate(heads):
            if not len(head):
                raise ModelError(
                    "has no tokens, so nothing predicts the first of its reply",
                    where=f"prompt {row}",
                )
        longest = max(len(h) + len(t) for h, t in zip(heads, tails, strict=True))
        ids = np.full((len(heads), longest), pad_id, np.int64)
        for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
            ids[row, : len(head)] = head
            ids[row, len(head) : len(head) + len(tail)] = tail
        return cls(
            torch.from_numpy(ids),
            torch.tensor([len(h) for h in heads]),
            torch.tensor([len(t) for t in tails]),
            pad_id,
        )

    @property
    def num_rows(self) -> int:
        return len(self.input_ids_BL)

    @property
    def row_lengths(self) -> Tensor:
        """(B,) tokens of each row, prompt and reply."""
        return self.prompt_lengths_B + self.reply_lengths_B

    @property
    def mask_BT(self) -> Tensor:
        """True at the tokens of a reply; T is the length of the longest reply."""
        longest = int(self.reply_lengths_B.max())
        places_T = torch.arange(longest, device=self.input_ids_BL.device)
        return places_T < self.reply_lengths_B[:, None]

    @cached_property
    def predicting_BT(self) -> Tensor:
        """Place in the row of the token before each reply token; 0 where masked."""
        places_T = torch.arange(self.mask_BT.shape[1], device=self.input_ids_BL.device)
        before_BT = self.prompt_lengths_B[:, None] - 1 + places_T
        return before_BT.masked_fill(~self.mask_BT, 0)

    @cached_property
    def actions_BT(self) -> Tensor:
        """Reply tokens; `pad_id` where masked."""
        if not self.mask_BT.shape[1]:
            return self.input_ids_BL[:, :0]
        following_BT = (self.predicting_BT + 1).clamp(max=self.input_ids_BL.shape[1] - 1)
        return self.input_ids_BL.gather(1, following_BT).masked_fill(~self.mask_BT, self.pad_id)

    def select(self, rows: Tensor) -> Self:
        """The rows with these indices, padding beyond the longest of them cut off."""
        rows = rows.to(self.input_ids_BL.device)
        prompts, replies = self.prompt_lengths_B[rows], self.reply_lengths_B[rows]
        longest = int((prompts + replies).max())
        return type(self)(self.input_ids_BL[rows, :longest], prompts, replies, self.pad_id)

    def to(self, device: torch.device) -> Self:
        """The same rows on a device."""
        if self.input_ids_BL.device == device:
            return self
        moved = (self.input_ids_BL, self.prompt_lengths_B, self.reply_lengths_B)
        return type(self)(*(tensor.to(device) for tensor in moved), pad_id=self.pad_id)


def _tokens(ids: Any, where: str) -> np.ndarray:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ModelError("is not a row of token ids", where=where)
    return array

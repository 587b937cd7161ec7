"""The decoder for models whose attention is their own: rows are laid out as they expect them.

All rows of a forward pass end at the same place, and what lies before the beginning of the shorter
ones is masked. Models know such rows from batches that are padded on the left, and count positions
and distances right by the mask. How far a row is padded follows from its own length: rows are taken
together where that comes to the same room.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from backflip.records.samples import IntArray
from backflip.sampling.cache import ROOM_STEP, PromptStates, RowCache
from backflip.sampling.decoder import Decoder


class AlignedCache(RowCache):
    """A row cache that shows the model rows which all end at the same place."""

    def align(self, rows_N: Tensor, lengths_N: Tensor, room: int) -> None:
        """Let these rows act next, which hold so many keys now; `room` with the one to come."""
        self.require(room)
        self._shown = room
        self._rows_N, self._lengths_N = rows_N, lengths_N
        place_R = torch.arange(room, device=lengths_N.device)
        # Before its beginning a row shows its first key; the mask hides it.
        self._places_NR = (place_R - (room - 1) + lengths_N[:, None]).clamp(min=0)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._shown - 1

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self._shown, 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by the model's layers: write this step's keys, return all of them."""
        layer = self.layer(layer_idx)
        layer.make(self.rows, self.room, key_states, value_states)
        keys, values = layer.buffers()
        return self._write(keys, key_states), self._write(values, value_states)

    def _write(self, buffer: Tensor, new: Tensor) -> Tensor:
        buffer[self._rows_N, :, self._lengths_N] = new[:, :, 0]
        shown = buffer[self._rows_N[:, None], :, self._places_NR]
        return shown.transpose(1, 2).contiguous()


class AlignedDecoder(Decoder):
    """For models that attend in their own way, by a mask, to keys in a cache they are given."""

    note = "replies are drawn with the model's own attention, in steps of rows of like length"

    def rows(self, number: int) -> AlignedCache:
        return AlignedCache(number)

    def read(self, prompts: Sequence[IntArray]) -> PromptStates:
        # One by one and without padding: nothing has to be masked, nothing depends on the others.
        return PromptStates.joined([self._read(prompt[:-1]) for prompt in prompts])

    def _read(self, tokens: IntArray) -> PromptStates:
        states = DynamicCache()
        self.model.base_model(
            input_ids=self._ids(tokens)[None], past_key_values=states, use_cache=True
        )
        return PromptStates.of(states)

    def step(self, tokens_N: IntArray, lengths_N: IntArray, rows: AlignedCache) -> Tensor:
        groups: dict[int, list[int]] = defaultdict(list)
        for row, length in enumerate(lengths_N.tolist()):
            groups[self._room(length)].append(row)
        parts = [
            self._step(np.array(members), tokens_N[members], lengths_N[members], rows, room)
            for room, members in groups.items()
        ]
        order = np.argsort([row for members in groups.values() for row in members])
        return torch.cat(parts)[self._ids(order)]

    def _room(self, length: int) -> int:
        """Keys that a row of `length` shows when it has one more, hidden ones among them."""
        room = -(-(length + 1) // ROOM_STEP) * ROOM_STEP
        return (
            room if self.num_positions is None else min(room, max(self.num_positions, length + 1))
        )

    def _step(
        self, members: Any, tokens_M: IntArray, lengths_M: IntArray, rows: AlignedCache, room: int
    ) -> Tensor:
        """(M, V) logits of rows of equal room; the first one again in the places left over."""
        number = len(members)
        free = self.rounding.whole(number) - number
        filled = np.append(np.arange(number), np.zeros(free, np.int64))
        lengths = self._ids(lengths_M[filled])
        rows.align(self._ids(members[filled]), lengths, room)
        seen = torch.arange(room, device=self.device) >= room - 1 - lengths[:, None]
        inputs = {
            "input_ids": self._ids(tokens_M[filled])[:, None],
            "attention_mask": seen.long(),
            "past_key_values": rows,
            "use_cache": True,
        }
        if "position_ids" in self._takes:
            inputs["position_ids"] = lengths[:, None]
        return self.model(**inputs).logits[:number, -1]

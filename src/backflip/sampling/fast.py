"""The decoder with attention and cache of the engine's own: all rows in one step, no masks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from backflip.records.samples import IntArray
from backflip.sampling.attention import decoding, in_place
from backflip.sampling.cache import PromptStates, RowCache
from backflip.sampling.decoder import Decoder, Shape
from backflip.sampling.packed import PackedLinears, multiplier
from backflip.sampling.rounding import Multiplier, Rounding, owners, plain

# An opening of fewer tokens is read with each prompt: that costs less than joining the parts.
LEAST_OPENING = 8


class FastDecoder(Decoder):
    """For models that let their attention be replaced and are told the positions of tokens."""

    def __init__(self, model: PreTrainedModel, opening: IntArray, rounding: Rounding | None = None):
        self._packed = PackedLinears(model)
        super().__init__(model, opening if len(opening) >= LEAST_OPENING else opening[:0], rounding)
        self._opened: PromptStates | None = None
        self._made_of: list[tuple[int, int]] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        with super().active(), in_place(self.model):
            self._renew()
            with self._packed.in_place():
                yield

    def _renew(self) -> None:
        """Make anew what was made of the weights, unless they are the same as before.

        A tensor counts how often it was written to; writing to its `.data` escapes that.
        """
        weights = self.model.parameters()
        state = [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]
        if state != self._made_of:
            self._made_of = state
            self._opened = None
            self._packed.pack(self.rounding.most)

    def _multipliers(self) -> Iterator[Multiplier]:
        packed = self._packed.layers
        yield from map(multiplier, packed)
        for module in owners(self.model):
            if module not in packed:
                yield from plain(module)

    def shape(self, prompt: IntArray) -> Shape:
        shared = len(self.opening)
        if len(prompt) - 1 <= shared or not np.array_equal(prompt[:shared], self.opening):
            shared = 0
        # Prompts of equal padded length are read together: so padding, too, does not depend on
        # neighbours.
        return Shape(shared, self.rounding.whole(len(prompt) - 1 - shared))

    def rows(self, number: int) -> RowCache:
        return RowCache(self.rounding.whole(number))

    def read(self, prompts: Sequence[IntArray]) -> PromptStates:
        shared, own = self.shape(prompts[0])
        if not shared:
            return self._read([prompt[:-1] for prompt in prompts], own, None)
        if self._opened is None:
            self._opened = self._read([self.opening], shared, None)
        return self._read([prompt[shared:-1] for prompt in prompts], own, self._opened)

    def _read(
        self, parts: Sequence[IntArray], length: int, before: PromptStates | None
    ) -> PromptStates:
        """Read parts of prompts, padded to `length`, that all come after the one row `before`."""
        tokens_BP = np.zeros((len(parts), length), np.int64)
        for row, part in enumerate(parts):
            tokens_BP[row, : len(part)] = part
        states = DynamicCache()
        if before is not None:
            for index, (keys, values) in enumerate(before.layers):
                wide = (len(parts), -1, -1, -1)
                states.update(keys.expand(*wide), values.expand(*wide), index)
        start = 0 if before is None else before.room
        # Causal attention: the padding on the right changes nothing on its left, so it may stand
        # on the last position where the model has no more.
        last = start + length if self.num_positions is None else self.num_positions - 1
        positions = torch.arange(start, start + length, device=self.device).clamp(max=last)
        self.model.base_model(
            input_ids=self._ids(tokens_BP),
            position_ids=positions[None],
            past_key_values=states,
            use_cache=True,
        )
        return PromptStates.of(states)

    def step(self, tokens_N: IntArray, lengths_N: IntArray, rows: RowCache) -> Tensor:
        number = len(tokens_N)
        tokens, lengths = np.zeros((2, self.rounding.whole(number)), np.int64)
        tokens[:number], lengths[:number] = tokens_N, lengths_N
        lengths_W = self._ids(lengths)
        with decoding(rows.begin(lengths_W, int(lengths.max()))):
            output = self.model(
                input_ids=self._ids(tokens)[:, None],
                position_ids=lengths_W[:, None],
                past_key_values=rows,
                use_cache=True,
            )
        return output.logits[:number, -1]

"""Keys and values of the rows that are being drawn.

Row r of a layer's buffers holds its keys at places 0 to length_r - 1, so a row is laid out the same
whatever rows stand beside it: there is no left padding to shift it. The active rows are the first
ones of the buffers, hence one contiguous view; a finished row's place is given to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

# Room is made for so many tokens at a time. Attention runs over the whole room (contiguous keys
# multiply twice as fast as a slice of them), so a larger step costs work and a smaller one copies.
ROOM_STEP = 32


@dataclass(frozen=True)
class PromptStates:
    """Keys and values of B prompts, right-padded to P: two (B, H, P, D) tensors for each layer."""

    layers: Sequence[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, cache: Cache) -> Self:
        """What a model has written to a cache; a `TypeError` where that is not keys and values."""
        return cls([_held(layer) for layer in cache.layers])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The prompts of several, all of the same length, as one."""
        layers = zip(*(part.layers for part in parts), strict=True)
        return cls(
            [(torch.cat(k), torch.cat(v)) for k, v in (zip(*of, strict=True) for of in layers)]
        )

    @property
    def room(self) -> int:
        return self.layers[0][0].shape[2]


class Step:
    """One decoding step: which rows act, and where each writes and may look.

    Args:
        lengths_N: (N,) int64, keys that each row holds before this step.
        room: places of a row's buffer.
    """

    def __init__(self, lengths_N: Tensor, room: int):
        self.lengths_N = lengths_N
        self.room = room
        self._biases: dict[tuple[int | None, int], Tensor] = {}
        self._places: dict[int, Tensor] = {}

    def bias(self, window: int | None, num_heads: int) -> Tensor:
        """(N * H, 1, room) float32: 0 where a row may look, -inf elsewhere.

        With a sliding window a token sees itself and the `window - 1` tokens before it.
        """
        known = self._biases.get((window, num_heads))
        if known is not None:
            return known
        place_T = torch.arange(self.room, device=self.lengths_N.device)
        own_N1 = self.lengths_N[:, None]
        hidden_NT = place_T > own_N1
        if window is not None:
            hidden_NT = hidden_NT | (place_T <= own_N1 - window)
        bias_NT = torch.zeros(hidden_NT.shape, device=hidden_NT.device)
        bias_NT.masked_fill_(hidden_NT, float("-inf"))
        bias = bias_NT.repeat_interleave(num_heads, dim=0)[:, None]
        return self._biases.setdefault((window, num_heads), bias)

    def places(self, num_heads: int) -> Tensor:
        """(N * H,) flat place of each row's new key in a (rows * H * room, D) buffer."""
        known = self._places.get(num_heads)
        if known is not None:
            return known
        device = self.lengths_N.device
        row_N1 = torch.arange(len(self.lengths_N), device=device)[:, None]
        head_H = torch.arange(num_heads, device=device)
        places = (row_N1 * num_heads + head_H) * self.room + self.lengths_N[:, None]
        return self._places.setdefault(num_heads, places.reshape(-1))


class RowLayer(DynamicLayer):
    """One layer's buffers: (rows, H, room, D) keys and values."""

    def make(self, rows: int, room: int, like: Tensor, like_value: Tensor) -> None:
        """Make the buffers on first use, for keys of `like`'s heads and width."""
        if self.is_initialized:
            return
        self.dtype, self.device = like.dtype, like.device
        # Zeros, not empty: what is hidden gets weight 0, and 0 times a stray NaN is NaN.
        self.keys = like.new_zeros(rows, like.shape[1], room, like.shape[3])
        self.values = like_value.new_zeros(rows, like_value.shape[1], room, like_value.shape[3])
        self.is_initialized = True

    def buffers(self) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            raise RuntimeError("the layer holds nothing yet")
        return self.keys, self.values

    def widen(self, room: int) -> None:
        if self.is_initialized:
            self.keys, self.values = (_widened(b, room) for b in self.buffers())

    def write(self, keys: Tensor, values: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Add one (N, H, 1, D) key and value to the first N rows; returns what they hold."""
        for buffer, new in zip(self.buffers(), (keys, values), strict=True):
            flat = buffer.view(-1, buffer.shape[-1])
            flat.index_copy_(0, step.places(new.shape[1]), new.reshape(-1, new.shape[-1]))
        held_keys, held_values = self.buffers()
        return held_keys[: len(keys)], held_values[: len(keys)]


class RowCache(Cache):
    """A cache of `rows` rows whose lengths differ; see the module's docstring.

    `begin` says which rows act in the next forward pass; `put` and `move` fill rows between passes.
    """

    def __init__(self, rows: int):
        super().__init__(layer_class_to_replicate=RowLayer)
        self.rows = rows
        self.room = ROOM_STEP
        self.step: Step | None = None

    def layer(self, index: int) -> RowLayer:
        while len(self.layers) <= index:
            self.layers.append(RowLayer())
        layer = self.layers[index]
        if not isinstance(layer, RowLayer):
            raise TypeError(f"layer {index} is a {type(layer).__name__}")
        return layer

    def require(self, room: int) -> None:
        """Make room for rows of so many tokens."""
        if room > self.room:
            self.room = -(-room // ROOM_STEP) * ROOM_STEP
            for index in range(len(self.layers)):
                self.layer(index).widen(self.room)

    def put(self, slots: Sequence[int], states: PromptStates, places: Sequence[int]) -> None:
        """Copy the states of the prompts at `places` to `slots`, one for one."""
        self.require(states.room)
        device = states.layers[0][0].device
        to, of = (torch.tensor(rows, device=device) for rows in (slots, places))
        for index, (keys, values) in enumerate(states.layers):
            layer = self.layer(index)
            layer.make(self.rows, self.room, keys, values)
            for buffer, new in zip(layer.buffers(), (keys, values), strict=True):
                buffer[to, :, : states.room] = new[of]

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows over other rows."""
        for index in range(len(self.layers)):
            for buffer in self.layer(index).buffers():
                buffer[list(targets)] = buffer[list(sources)]

    def begin(self, lengths_N: Tensor, longest: int) -> Step:
        """Let the first N rows act next, which hold so many keys now, `longest` the most."""
        self.require(longest + 1)
        self.step = Step(lengths_N, self.room)
        return self.step

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by the model's layers: write this step's keys, return all of them."""
        if self.step is None or key_states.shape[2] != 1:
            raise RuntimeError("a row cache takes one token a row, after begin()")
        layer = self.layer(layer_idx)
        layer.make(self.rows, self.room, key_states, value_states)
        return layer.write(key_states, value_states, self.step)


def _widened(buffer: Tensor, room: int) -> Tensor:
    wider = buffer.new_zeros(*buffer.shape[:2], room, buffer.shape[3])
    wider[:, :, : buffer.shape[2]] = buffer
    return wider


def _held(layer: object) -> tuple[Tensor, Tensor]:
    if type(layer) is not DynamicLayer or layer.keys is None or layer.values is None:
        raise TypeError(f"{type(layer).__name__} holds other things than keys and values")
    return layer.keys, layer.values

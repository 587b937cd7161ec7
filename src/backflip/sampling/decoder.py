"""A language model as two calls: read prompts, and take one step of many rows.

    rows = decoder.rows(8)
    with decoder.active():
        states = decoder.read(prompts)          # what is known after all but their last tokens
        rows.put(slots, states, places)
        logits = decoder.step(tokens, lengths, rows)

A prompt's last token is left to the first step, so every drawn token comes out of the same code,
and no logits are computed while prompts are read.

There are several; `sampling.probe.pick_decoder` finds the quickest that is right for a model:

    FastDecoder       attention and cache of the engine's own
    AlignedDecoder    the model's own attention on the engine's cache
    SingleDecoder     the model's own forward pass and cache, one row at a time
    RereadingDecoder  the model's own forward pass over the whole row, for each token

With each of them the logits of a row depend on that row alone.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from backflip.models.limits import position_limit
from backflip.models.quiet import quiet
from backflip.records.samples import IntArray
from backflip.sampling import experts
from backflip.sampling.rounding import (
    Multiplier,
    Rounding,
    find_rounding,
    in_parts,
    owners,
    plain,
    swapped,
)


class Shape(NamedTuple):
    """How a prompt is read: its tokens in the shared opening, and its own ones with padding."""

    shared: int
    own: int


NOTHING = Shape(0, 0)  # a prompt of one token


class Rows(Protocol):
    """What is known of the rows that are being drawn, each in a slot."""

    def put(self, slots: Sequence[int], states: Any, places: Sequence[int]) -> None:
        """Copy what `Decoder.read` gave for the prompts at `places` to `slots`, one for one."""
        ...

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows over other rows."""
        ...


class Decoder(ABC):
    """Runs `model` row by row; see the module's docstring.

    Args:
        model: is used in place; nothing is done to it here.
        opening: tokens that most prompts begin with, which may be read once for all of those.
        rounding: how many rows may share a product; found out if not given.
    """

    note: str | None = None
    """What somebody who waits for this model's replies should know."""

    def __init__(self, model: PreTrainedModel, opening: IntArray, rounding: Rounding | None = None):
        self.model = model
        self.opening = opening
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        self.rounding = rounding or find_rounding(model, self._multipliers())

    @contextmanager
    def active(self) -> Iterator[None]:
        """`read` and `step` work inside this block; after it the model is as it was before."""
        model, training = self.model, self.model.training
        model.eval()
        try:
            rows = experts.in_place(model, self.rounding.unit)
            parts = swapped(in_parts(model, self.rounding.most))
            with torch.inference_mode(), quiet(), rows, parts:
                yield
        finally:
            model.train(training)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def num_positions(self) -> int | None:
        """Positions that the model knows; None where it does not say."""
        return position_limit(self.model.config)

    def shape(self, prompt: IntArray) -> Shape:
        """How `prompt` is read. Prompts of one shape are read together."""
        return Shape(0, len(prompt) - 1)

    @abstractmethod
    def rows(self, number: int) -> Any:
        """Slots for so many rows."""

    @abstractmethod
    def read(self, prompts: Sequence[IntArray]) -> Any:
        """Read all but the last token of prompts whose `shape` is the same, and not `NOTHING`."""

    @abstractmethod
    def step(self, tokens_N: IntArray, lengths_N: IntArray, rows: Any) -> Tensor:
        """Feed one token to each of the first N rows.

        Args:
            tokens_N: (N,) next token of each row.
            lengths_N: (N,) tokens that each row has read before it; a row of length 0 is new,
                whatever was known in its slot.
            rows: of this decoder; they know N tokens more afterwards.

        Returns:
            (N, V) logits in the model's precision.
        """

    def _multipliers(self) -> Iterable[Multiplier]:
        """The products that a step is made of."""
        return (product for module in owners(self.model) for product in plain(module))

    def _ids(self, tokens: Any) -> Tensor:
        """Token ids as the model takes them."""
        return torch.from_numpy(np.asarray(tokens, np.int64)).to(self.device)

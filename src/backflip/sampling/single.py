"""The decoder for every other model: one row at a time, by the model's own forward pass.

Slow, and right for whatever a model keeps of the tokens it has read: the states of recurrent
layers, or caches of a kind of its own. A model that keeps nothing reads a row anew for each token.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from backflip.records.samples import IntArray
from backflip.sampling.decoder import Decoder
from backflip.sampling.rounding import Rounding, untried

# Names under which models of transformers take what they keep, and give it back.
_KEPT = ("past_key_values", "cache_params", "state")


@dataclass
class RowState:
    """A row's tokens, and what the model has kept of them."""

    tokens: list[int]
    kept: Any = None


class SingleRows:
    """States of rows by their slots."""

    def __init__(self) -> None:
        self.states: dict[int, RowState] = {}

    def put(self, slots: Sequence[int], states: list[RowState], places: Sequence[int]) -> None:
        for slot, place in zip(slots, places, strict=True):
            self.states[slot] = copy.deepcopy(states[place])

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        for source, target in zip(sources, targets, strict=True):
            self.states[target] = self.states.pop(source)


class SingleDecoder(Decoder):
    """For every causal language model whose own cache gives the logits of its forward pass."""

    note = "replies are drawn one by one: the model keeps states of its own kind"

    def __init__(self, model: PreTrainedModel, opening: IntArray, rounding: Rounding | None = None):
        super().__init__(model, opening, rounding or untried(model))
        self._name = next((name for name in _KEPT if name in self._takes), None)

    def rows(self, number: int) -> SingleRows:
        return SingleRows()

    def read(self, prompts: Sequence[IntArray]) -> list[RowState]:
        states = [RowState([]) for _ in prompts]
        for state, prompt in zip(states, prompts, strict=True):
            self._forward(state, prompt[:-1].tolist())
        return states

    def step(self, tokens_N: IntArray, lengths_N: IntArray, rows: SingleRows) -> Tensor:
        logits = []
        for row, (token, length) in enumerate(zip(tokens_N.tolist(), lengths_N, strict=True)):
            if not length:
                rows.states[row] = RowState([])
            logits.append(self._forward(rows.states[row], [token]))
        return torch.stack(logits)

    def _forward(self, state: RowState, tokens: list[int]) -> Tensor:
        """(V,) logits after these tokens."""
        state.tokens += tokens
        if self._name is None:
            raise TypeError("the model keeps nothing of what it has read")
        inputs: dict[str, Any] = {"input_ids": self._ids([tokens]), "use_cache": True}
        if state.kept is not None:
            inputs[self._name] = state.kept
        output = self.model(**inputs)
        state.kept = output[self._name]
        return output.logits[0, -1]


class RereadingDecoder(SingleDecoder):
    """For every causal language model: each row is read anew for each token."""

    note = "replies are drawn one by one, each read anew for every token: the model has no cache"

    def read(self, prompts: Sequence[IntArray]) -> list[RowState]:
        return [RowState(prompt[:-1].tolist()) for prompt in prompts]

    def _forward(self, state: RowState, tokens: list[int]) -> Tensor:
        state.tokens += tokens
        return self.model(input_ids=self._ids([state.tokens])).logits[0, -1]

"""The rows that the engine draws at once, and the reading of their prompts."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backflip.config import SamplingSettings
from backflip.errors import ModelError
from backflip.records.samples import IntArray
from backflip.sampling.decoder import NOTHING, Decoder, Rows, Shape
from backflip.sampling.draw import draw
from backflip.sampling.filters import filtered

# Prompts ahead of the queue are read together up to this many padded tokens: enough to keep the
# matrix products large, little enough to hold beside the rows.
READ_AHEAD_TOKENS = 2048


@dataclass
class Reply:
    """One reply under way: the k-th answer to a prompt; no answer to it begins after the last."""

    number: int
    prompt: int
    index: int
    last: bool
    uniforms: NDArray[np.float64]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str = ""
    text: str | None = None


class ReplyRules(Protocol):
    """What the rows ask of their sampler: what may be drawn, what ends a reply, what it says.

    Attributes:
        model_id: id of the model in the workspace.
        end_tokens: ids that end a reply.
    """

    model_id: str | None
    end_tokens: frozenset[int]

    def stop_tokens(self, settings: SamplingSettings) -> frozenset[int]:
        """Ids of the stop strings that are special tokens."""
        ...

    def never_drawn(self, size: int) -> Tensor | None:
        """(M,) ids among `size` that are not drawn; None if all are."""
        ...

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of a reply's tokens."""
        ...


class PromptReader:
    """Reads prompts some way ahead of the replies that need them, and forgets them after."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self._tokens: dict[int, IntArray] = {}
        self._waiting: deque[int] = deque()
        self._held: dict[int, tuple[Any, int]] = {}

    def expect(self, prompt: int, tokens: IntArray) -> None:
        """Name a prompt that will be asked for, after those that were named before."""
        self._tokens[prompt] = tokens
        if self.decoder.shape(tokens) != NOTHING:
            self._waiting.append(prompt)

    def tokens(self, prompt: int) -> IntArray:
        return self._tokens[prompt]

    def states(self, prompt: int) -> tuple[Any, int] | None:
        """The states that hold a prompt, and its place there; None for a prompt of one token."""
        if self.decoder.shape(self._tokens[prompt]) == NOTHING:
            return None
        while prompt not in self._held:
            self._read_more()
        return self._held[prompt]

    def forget(self, prompt: int) -> None:
        self._held.pop(prompt, None)
        del self._tokens[prompt]

    def _read_more(self) -> None:
        shape = self._next_shape()
        most = max(1, READ_AHEAD_TOKENS // max(shape.own, 1))
        group: list[int] = []
        while self._waiting and len(group) < most and self._next_shape() == shape:
            group.append(self._waiting.popleft())
        states = self.decoder.read([self._tokens[prompt] for prompt in group])
        self._held.update({prompt: (states, row) for row, prompt in enumerate(group)})

    def _next_shape(self) -> Shape:
        return self.decoder.shape(self._tokens[self._waiting[0]])


class DecodeBatch:
    """The rows that are drawn at once. Active rows are the first ones; each holds a reply."""

    def __init__(
        self, rules: ReplyRules, settings: SamplingSettings, reader: PromptReader, *, rows: int
    ):
        self._rules = rules
        self._settings = settings
        self._ends = rules.end_tokens | rules.stop_tokens(settings)
        self._reader = reader
        self._decoder = reader.decoder
        self._capacity = rows
        self._rows: Rows = self._decoder.rows(rows)
        self._replies: list[Reply] = []
        self._tokens = np.zeros(rows, np.int32)
        self._lengths = np.zeros(rows, np.int32)
        self._uniforms = np.zeros((rows, settings.max_tokens))

    def step(self, waiting: Iterator[Reply]) -> list[Reply] | None:
        """Draw a token for every reply under way, and for as many that wait as there is room for.

        A reply whose `finish` is set, here or by anybody else, leaves before the next step.

        Returns:
            The replies that are finished; None when there was nothing to draw.
        """
        free = [slot for slot, reply in enumerate(self._replies) if reply.finish]
        self._refill(free, waiting)
        if not self._replies:
            return None
        self._advance()
        return [reply for reply in self._replies if reply.finish]

    def _refill(self, free: list[int], waiting: Iterator[Reply]) -> None:
        """Give free places to waiting replies; where there are none, close the gaps."""
        slots = [*free, *range(len(self._replies), self._capacity)]
        started: list[tuple[int, Reply]] = []
        for slot in slots:
            reply = next(waiting, None)
            if reply is None:
                break
            started.append((slot, reply))
            if slot < len(self._replies):
                self._replies[slot] = reply
            else:
                self._replies.append(reply)
            prompt = self._reader.tokens(reply.prompt)
            self._tokens[slot], self._lengths[slot] = prompt[-1], len(prompt) - 1
            self._uniforms[slot] = reply.uniforms
        self._place(started)
        gaps = free[len(started) :]
        if gaps:
            self._close(gaps)

    def _place(self, started: Sequence[tuple[int, Reply]]) -> None:
        """Copy the prompts' states to the rows that answer them."""
        groups: dict[int, tuple[Any, list[int], list[int]]] = {}
        for slot, reply in started:
            held = self._reader.states(reply.prompt)
            if held is not None:
                states, place = held
                _, slots, places = groups.setdefault(id(states), (states, [], []))
                slots.append(slot)
                places.append(place)
            if reply.last:
                self._reader.forget(reply.prompt)
        for states, slots, places in groups.values():
            self._rows.put(slots, states, places)

    def _close(self, gaps: list[int]) -> None:
        """Move the last rows into the gaps, so that the active rows are the first ones again."""
        remaining = len(self._replies) - len(gaps)
        empty = set(gaps)
        targets = [slot for slot in gaps if slot < remaining]
        sources = [s for s in range(remaining, len(self._replies)) if s not in empty]
        if targets:
            self._rows.move(sources, targets)
            for source, target in zip(sources, targets, strict=True):
                self._replies[target] = self._replies[source]
            for array in (self._tokens, self._lengths, self._uniforms):
                array[targets] = array[sources]
        del self._replies[remaining:]

    def _advance(self) -> None:
        """Draw a token for every active row."""
        count = len(self._replies)
        logits = self._decoder.step(self._tokens[:count], self._lengths[:count], self._rows)
        tokens, logprobs = self._draw(logits)
        self._tokens[:count] = tokens
        self._lengths[:count] += 1
        rows = zip(self._replies, tokens.tolist(), logprobs.tolist(), strict=True)
        for reply, token, logprob in rows:
            reply.tokens.append(token)
            reply.logprobs.append(logprob)
            self._end(reply)

    def _draw(self, logits: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        settings = self._settings
        never_M = self._rules.never_drawn(logits.shape[-1])
        if never_M is not None:
            logits.index_fill_(-1, never_M, -math.inf)
        if settings.temperature == 0:
            top, tokens = logits.max(-1)
            self._require_finite(top)
            return tokens.cpu().numpy(), np.zeros(len(logits), np.float32)
        places = [len(reply.tokens) for reply in self._replies]
        uniform = torch.from_numpy(self._uniforms[np.arange(len(places)), places])
        scaled = filtered(
            logits,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            min_p=settings.min_p,
        )
        tokens, logprobs = draw(scaled, uniform.to(scaled.device))
        self._require_finite(logprobs)
        return tokens.cpu().numpy(), logprobs.cpu().numpy()

    def _require_finite(self, values: Tensor) -> None:
        if not bool(values.isfinite().all()):
            raise ModelError(
                "the model's logits are not finite",
                where=self._rules.model_id,
                hint="training has diverged: go back to an earlier checkpoint",
            )

    def _end(self, reply: Reply) -> None:
        """Set the reply's `finish` where its last token has ended it."""
        ended = reply.tokens[-1] in self._ends
        if ended or (self._settings.stop and self._has_stop_string(reply)):
            reply.finish = "stop"
        elif len(reply.tokens) == self._settings.max_tokens:
            reply.finish = "length"

    def _has_stop_string(self, reply: Reply) -> bool:
        text = self._rules.text_of(reply.tokens)
        cuts = [text.find(stop) for stop in self._settings.stop]
        found = [cut for cut in cuts if cut >= 0]
        if found:
            reply.text = text[: min(found)]
        return bool(found)

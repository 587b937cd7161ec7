"""Backflip's own engine for sampling text: many replies at once, each as if drawn alone.

Every prompt is read once and its keys and values are copied to the K rows that answer it. Rows
whose reply is finished leave at once and others take their place (continuous batching), so no step
is spent on padding. What a row does depends on its own prompt, seed and index and on nothing else:
rows are right-padded, masked by their own length, and draw from a random stream of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backflip.config import SamplingSettings
from backflip.data.chat import decode_reply, encode_prompt
from backflip.errors import ModelError, SettingsError
from backflip.records import Completion, Message, Prompt, Sample
from backflip.records.samples import IntArray
from backflip.sampling.base import Advance
from backflip.sampling.cache import PromptStates, RowCache
from backflip.sampling.decoder import MIN_ROWS, NOTHING, Decoder
from backflip.sampling.draw import draw, uniforms
from backflip.sampling.filters import filtered
from backflip.sampling.weights import copy_weights

# Prompts ahead of the queue are read together up to this many padded tokens: enough to keep the
# matrix products large, little enough to hold beside the rows.
READ_AHEAD_TOKENS = 2048


@dataclass
class _Reply:
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


class TextSampler:
    """Draws completions from a causal language model of transformers.

    The model is the sampler's own: `load` writes into its weights. It is put in evaluation mode,
    and its attention replaced, only while it samples. One thread at a time.

    Args:
        model: any decoder-only transformer that lets its attention be replaced.
        tokenizer: the model's; it renders the prompts' chat template.
        model_id: id of the model in the workspace, written on every sample.

    Raises:
        ModelError: the engine does not reproduce this model's own logits.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model_id: str | None = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.model_id = model_id
        self.version = 0
        self.end_tokens = _end_tokens(model, tokenizer)
        self._decoder = Decoder(model, _opening(tokenizer))

    def load(self, weights: Mapping[str, Tensor], *, version: int) -> None:
        """Act with these weights, a plain state dict of the model, and call them `version`.

        Raises:
            ModelError: names or shapes that are not the model's; nothing is changed then.
        """
        copy_weights(self.model, weights)
        self.version = version

    def sample(
        self,
        prompts: Sequence[Prompt],
        settings: SamplingSettings,
        *,
        num_samples: int = 1,
        seed: int,
        advance: Advance | None = None,
    ) -> list[Sample]:
        """Draw K = `num_samples` replies to each prompt, prompt by prompt, K in a row.

        Log-probabilities are those of the distribution that was drawn from, after temperature and
        filters; at temperature 0 that is a point mass, and they are 0.

        Raises:
            SettingsError: a prompt is too long, or with its reply longer than the model's
                positions.
            ModelError: the model's logits are not finite.
        """
        encoded = [self._encode(prompt, settings) for prompt in prompts]
        # What is read together stands together, and short ones come first: rows beside each other
        # then need about the same room.
        order = sorted(
            range(len(prompts)), key=lambda i: (self._decoder.shape(encoded[i]), len(encoded[i]))
        )
        waiting = (
            _Reply(
                number=i * num_samples + k,
                prompt=i,
                index=k,
                last=k == num_samples - 1,
                uniforms=uniforms(seed, prompts[i].id, k, settings.max_tokens),
            )
            for i in order
            for k in range(num_samples)
        )
        reader = _Reader(self._decoder, encoded, order)
        total = len(prompts) * num_samples
        batch = _Batch(self, settings, reader, encoded, rows=min(settings.batch_size, total))
        done: list[_Reply | None] = [None] * total
        with self._decoder.active():
            for finished in batch.run(waiting):
                for reply in finished:
                    done[reply.number] = reply
                if advance is not None:
                    advance(len(finished))
        origin = {
            "model": self.model_id,
            "weights_version": self.version,
            "seed": seed,
            "settings": settings.model_dump(mode="json", exclude={"batch_size"}),
        }
        replies = [reply for reply in done if reply is not None]
        contents = [self._completion(reply, encoded[reply.prompt]) for reply in replies]
        return [
            Sample.of(prompts[reply.prompt], content, index=reply.index, **origin)
            for reply, content in zip(replies, contents, strict=True)
        ]

    def _encode(self, prompt: Prompt, settings: SamplingSettings) -> IntArray:
        tokens = encode_prompt(self.tokenizer, prompt.messages)
        if len(tokens) > settings.max_prompt_tokens:
            raise SettingsError(
                f"the prompt has {len(tokens)} tokens, max_prompt_tokens is "
                f"{settings.max_prompt_tokens}",
                where=prompt.id,
                hint=f"raise sampling.max_prompt_tokens or shorten it: {prompt.text[:80]!r}",
            )
        positions = self._decoder.num_positions
        if positions is not None and len(tokens) + settings.max_tokens > positions:
            raise SettingsError(
                f"the prompt's {len(tokens)} tokens and a reply of {settings.max_tokens} exceed "
                f"the model's {positions} positions",
                where=prompt.id,
                hint="lower sampling.max_tokens or shorten the prompt",
            )
        return tokens

    def _completion(self, reply: _Reply, prompt_tokens: IntArray) -> Completion:
        text = reply.text
        if text is None:
            ended = reply.tokens[-1] in self.end_tokens
            text = decode_reply(self.tokenizer, reply.tokens[:-1] if ended else reply.tokens)
        return Completion(
            text=text,
            prompt_tokens=prompt_tokens,
            tokens=np.array(reply.tokens, np.int32),
            logprobs=np.array(reply.logprobs, np.float32),
            finish="stop" if reply.finish == "stop" else "length",
        )


class _Reader:
    """Reads prompts some way ahead of the replies that need them, and forgets them after."""

    def __init__(self, decoder: Decoder, encoded: Sequence[IntArray], order: Sequence[int]):
        self._decoder = decoder
        self._encoded = encoded
        self._order = list(order)
        self._next = 0
        self._held: dict[int, tuple[PromptStates, int]] = {}

    def states(self, prompt: int) -> tuple[PromptStates, int] | None:
        """The states that hold a prompt, and its row there; None for a prompt of one token."""
        if self._decoder.shape(self._encoded[prompt]) == NOTHING:
            return None
        while prompt not in self._held:
            self._read_more()
        return self._held[prompt]

    def forget(self, prompt: int) -> None:
        self._held.pop(prompt, None)

    def _read_more(self) -> None:
        start = self._next
        shape = self._decoder.shape(self._encoded[self._order[start]])
        most = max(1, READ_AHEAD_TOKENS // max(shape.own, 1))
        group: list[int] = []
        while self._next < len(self._order) and len(group) < most:
            prompt = self._order[self._next]
            if self._decoder.shape(self._encoded[prompt]) != shape:
                break
            group.append(prompt)
            self._next += 1
        if shape != NOTHING:
            states = self._decoder.read([self._encoded[i] for i in group])
            self._held.update({prompt: (states, row) for row, prompt in enumerate(group)})


class _Batch:
    """The rows that are drawn at once. Active rows are the first ones; each holds a reply."""

    def __init__(
        self,
        sampler: TextSampler,
        settings: SamplingSettings,
        reader: _Reader,
        encoded: Sequence[IntArray],
        *,
        rows: int,
    ):
        self._sampler = sampler
        self._decoder = sampler._decoder
        self._settings = settings
        self._reader = reader
        self._encoded = encoded
        self._capacity = rows
        self._cache = RowCache(max(rows, MIN_ROWS))
        self._replies: list[_Reply] = []
        self._tokens = np.zeros(rows, np.int32)
        self._lengths = np.zeros(rows, np.int32)
        self._uniforms = np.zeros((rows, settings.max_tokens))

    def run(self, waiting: Iterator[_Reply]) -> Iterator[list[_Reply]]:
        """Draw all replies; yields those that each step finished."""
        free: list[int] = []
        while True:
            self._refill(free, waiting)
            if not self._replies:
                return
            free = self._advance()
            if free:
                yield [self._replies[slot] for slot in free]

    def _refill(self, free: list[int], waiting: Iterator[_Reply]) -> None:
        """Give free places to waiting replies; where there are none, close the gaps."""
        slots = [*free, *range(len(self._replies), self._capacity)]
        started: list[tuple[int, _Reply]] = []
        for slot in slots:
            reply = next(waiting, None)
            if reply is None:
                break
            started.append((slot, reply))
            if slot < len(self._replies):
                self._replies[slot] = reply
            else:
                self._replies.append(reply)
            prompt = self._encoded[reply.prompt]
            self._tokens[slot], self._lengths[slot] = prompt[-1], len(prompt) - 1
            self._uniforms[slot] = reply.uniforms
        self._place(started)
        gaps = free[len(started) :]
        if gaps:
            self._close(gaps)

    def _place(self, started: Sequence[tuple[int, _Reply]]) -> None:
        """Copy the prompts' states to the rows that answer them."""
        groups: dict[int, tuple[PromptStates, list[int], list[int]]] = {}
        for slot, reply in started:
            held = self._reader.states(reply.prompt)
            if held is not None:
                states, row = held
                _, slots, rows = groups.setdefault(id(states), (states, [], []))
                slots.append(slot)
                rows.append(row)
            if reply.last:
                self._reader.forget(reply.prompt)
        device = self._decoder.device
        for states, slots, rows in groups.values():
            self._cache.put(
                torch.tensor(slots, device=device), states, torch.tensor(rows, device=device)
            )

    def _close(self, gaps: list[int]) -> None:
        """Move the last rows into the gaps, so that the active rows are the first ones again."""
        remaining = len(self._replies) - len(gaps)
        empty = set(gaps)
        targets = [slot for slot in gaps if slot < remaining]
        sources = [s for s in range(remaining, len(self._replies)) if s not in empty]
        if targets:
            device = self._decoder.device
            self._cache.move(
                torch.tensor(sources, device=device), torch.tensor(targets, device=device)
            )
            for source, target in zip(sources, targets, strict=True):
                self._replies[target] = self._replies[source]
            for array in (self._tokens, self._lengths, self._uniforms):
                array[targets] = array[sources]
        del self._replies[remaining:]

    def _advance(self) -> list[int]:
        """Draw a token for every active row; returns the places of the rows that finished."""
        count = len(self._replies)
        logits = self._decoder.step(self._tokens[:count], self._lengths[:count], self._cache)
        tokens, logprobs = self._draw(logits)
        self._tokens[:count] = tokens
        self._lengths[:count] += 1
        finished = []
        rows = zip(self._replies, tokens.tolist(), logprobs.tolist(), strict=True)
        for slot, (reply, token, logprob) in enumerate(rows):
            reply.tokens.append(token)
            reply.logprobs.append(logprob)
            if self._has_ended(reply):
                finished.append(slot)
        return finished

    def _draw(self, logits: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        settings = self._settings
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
                where=self._sampler.model_id,
                hint="training has diverged: go back to an earlier checkpoint",
            )

    def _has_ended(self, reply: _Reply) -> bool:
        ended = reply.tokens[-1] in self._sampler.end_tokens
        if ended or (self._settings.stop and self._has_stop_string(reply)):
            reply.finish = "stop"
        elif len(reply.tokens) == self._settings.max_tokens:
            reply.finish = "length"
        return bool(reply.finish)

    def _has_stop_string(self, reply: _Reply) -> bool:
        text = decode_reply(self._sampler.tokenizer, reply.tokens)
        cuts = [text.find(stop) for stop in self._settings.stop]
        found = [cut for cut in cuts if cut >= 0]
        if found:
            reply.text = text[: min(found)]
        return bool(found)


def _opening(tokenizer: PreTrainedTokenizerBase) -> IntArray:
    """The tokens that every prompt of one user turn begins with, by the chat template."""
    pair = [encode_prompt(tokenizer, [Message(role="user", content=c)]) for c in ("a", "1")]
    length = min(len(tokens) for tokens in pair)
    same = pair[0][:length] == pair[1][:length]
    return pair[0][: int(np.argmin(same)) if not same.all() else length]


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end a reply, by the model's generation settings and by the tokenizer."""
    found: set[int] = set()
    settings = getattr(model, "generation_config", None)
    for value in (getattr(settings, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(int(token) for token in value)
    return frozenset(found)

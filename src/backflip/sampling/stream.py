"""Replies that come and go one by one, and are looked at while they grow.

    with streaming(sampler, settings, rows=8) as stream:
        stream.add("a", prompt, seed=3)
        while stream.keys:
            for key, sample in stream.step(): ...
            show(stream.texts())

A reply is the same as `TextSampler.sample` gives for the same prompt, settings, seed and index,
whatever else is under way. Text is decoded only when it is asked for: a step costs no more than
without anybody looking.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from backflip.config import SamplingSettings
from backflip.records import Prompt, Sample
from backflip.records.samples import IntArray
from backflip.sampling.batch import DecodeBatch, PromptReader, Reply
from backflip.sampling.draw import uniforms
from backflip.sampling.engine import TextSampler

REPLACEMENT = "\ufffd"
"""What tokenizers write for bytes that are no character, or not one yet."""


@contextmanager
def streaming(sampler: TextSampler, settings: SamplingSettings, *, rows: int) -> "Iterator[Stream]":
    """A stream of replies; inside the block nothing else may use the sampler.

    Args:
        sampler: whose model replies.
        settings: of all replies; their `batch_size` is not asked.
        rows: replies under way at once.
    """
    with sampler.decoder.active():
        yield Stream(sampler, settings, rows)


@dataclass
class _Asked:
    prompt: Prompt
    prompt_tokens: IntArray
    seed: int
    reply: Reply
    shown: str = ""


class Stream:
    """Replies under way, each under a key of the caller's; see `streaming`."""

    def __init__(self, sampler: TextSampler, settings: SamplingSettings, rows: int):
        self._sampler = sampler
        self._settings = settings
        self._rows = rows
        self._reader = PromptReader(sampler.decoder)
        self._batch = DecodeBatch(sampler, settings, self._reader, rows=rows)
        self._waiting: deque[Reply] = deque()
        self._asked: dict[str, _Asked] = {}
        self._number = 0

    @property
    def keys(self) -> list[str]:
        """Those under way, in the order in which they were added."""
        return list(self._asked)

    @property
    def num_free(self) -> int:
        """Replies that may be added now."""
        return self._rows - len(self._asked)

    def add(self, key: str, prompt: Prompt, *, seed: int, index: int = 0) -> None:
        """Begin a reply with the next step.

        Raises:
            ValueError: the key is under way already, or no place is free.
            SettingsError: the prompt is too long, or with its reply longer than the model's
                positions.
            ModelError: the chat template refuses its turns.
        """
        if key in self._asked or not self.num_free:
            raise ValueError(f"{key} is under way already, or no place is free")
        tokens = self._sampler.encode(prompt, self._settings)
        draws = uniforms(seed, prompt.id, index, self._settings.max_tokens)
        number = self._number = self._number + 1
        reply = Reply(number=number, prompt=number, index=index, last=True, uniforms=draws)
        self._reader.expect(number, tokens)
        self._waiting.append(reply)
        self._asked[key] = _Asked(prompt, tokens, seed, reply)

    def drop(self, key: str) -> None:
        """End a reply that nobody wants any more; nothing comes of it."""
        self._asked.pop(key).reply.finish = "dropped"

    def step(self) -> list[tuple[str, Sample]]:
        """Draw a token for each reply; returns those that are finished, as samples.

        Raises:
            ModelError: the model's logits are not finite.
        """
        self._batch.step(self._started())
        ended = [(key, asked) for key, asked in self._asked.items() if asked.reply.finish]
        for key, _ in ended:
            del self._asked[key]
        return [
            (
                key,
                self._sampler.as_sample(
                    asked.reply, asked.prompt, asked.prompt_tokens, self._settings, asked.seed
                ),
            )
            for key, asked in ended
        ]

    def texts(self) -> dict[str, str]:
        """The text so far of each reply, by its key; each begins with what was told of it before.

        It has no half characters, and nothing that may turn out to be a stop string.
        """
        for asked in self._asked.values():
            text = visible(self._sampler.text_of(asked.reply.tokens), self._settings.stop)
            # Some tokenizers take back characters while the bytes of the next one are incomplete.
            if text.startswith(asked.shown):
                asked.shown = text
        return {key: asked.shown for key, asked in self._asked.items()}

    def _started(self) -> Iterator[Reply]:
        while self._waiting:
            yield self._waiting.popleft()


def visible(text: str, stops: Sequence[str]) -> str:
    """As much of a reply under way as will stay whatever comes next.

    Args:
        text: what its tokens say so far; no stop string is in it.
        stops: strings that a reply ends before.

    Returns:
        The text without a half character, and without what a stop string may begin with, at its
        end.
    """
    text = text.rstrip(REPLACEMENT)
    begun = (n for stop in stops for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n]))
    return text[: len(text) - max(begun, default=0)]

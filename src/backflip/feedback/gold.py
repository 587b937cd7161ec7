"""Gold measures: what simulated annotators judge by, and what a run is checked against.

A gold measure stands for what people would really say. Teachers answer by it, with faults; the
reward model learns from those answers and never sees it; the report compares the two.

**sentiment**, for completions. VADER (Hutto & Gilbert 2014) gives a text a compound value from -1
to 1. The measure is that of the whole reply, less a penalty for rambling:

    gold = compound of the whole reply, read as one text
         - 0.01 for every word beyond 60, at most 1
         - share of the word trigrams that already stood earlier in the reply
         - 0.25 when the reply is unfinished

VADER's time grows with the square of a text's length, so one of more than 100 words between spaces
is read in pieces of 100, and its compound is their mean. The words that penalties count are runs of
letters, digits and apostrophes, compared without regard to case. A reply is unfinished when it was
cut off (finish "length") or its last character is a letter, a digit, a comma, a colon, a semicolon
or a hyphen. An empty reply has gold -1 and no penalty. The value lies above -3.25 and is at most 1.

Sentences, which do not enter the measure, are what teachers edit and quote. They end at a line
break, or at ".", "!", "?" or an ellipsis before a space.

**environment**, for clips: the sum of the environment's own rewards over the clip's steps.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from backflip.errors import FormatError, SettingsError
from backflip.records import Sample

WORD_LIMIT = 60
WORD_PENALTY = 0.01
MAX_LENGTH_PENALTY = 1.0
UNFINISHED_PENALTY = 0.25
PIECE_WORDS = 100

_WORD = re.compile(r"[\w']+")
_SENTENCE_END = re.compile(r"[.!?…][\"'\u2019\u201d)\]*_]*(?=\s)")


@dataclass(frozen=True)
class TextFacts:
    """What the sentiment measure sees in a reply.

    Attributes:
        sentences: its sentences, in order.
        compounds: VADER's compound value of each sentence by itself, from -1 to 1.
        sentiment: VADER's compound value of the whole reply, from -1 to 1; not their mean.
        num_words: how long it is.
        repeated: share of its word trigrams that already stood earlier.
        unfinished: whether it was cut off or stops in mid-sentence.
    """

    sentences: tuple[str, ...]
    compounds: tuple[float, ...]
    sentiment: float
    num_words: int
    repeated: float
    unfinished: bool

    @property
    def value(self) -> float:
        """The measure itself; see the module's docstring."""
        if not self.sentences:
            return -1.0
        length = min(WORD_PENALTY * max(0, self.num_words - WORD_LIMIT), MAX_LENGTH_PENALTY)
        unfinished = UNFINISHED_PENALTY if self.unfinished else 0.0
        return self.sentiment - length - self.repeated - unfinished


@dataclass(frozen=True)
class Gold:
    """A gold measure.

    Attributes:
        name: what recipes call it.
        measure: the function of one sample.
        description: one line for reports.
        scale: values that count as very bad and very good, between which rating levels are
            spread evenly; None when it has no fixed scale and the samples at hand set it.
    """

    name: str
    measure: Callable[[Sample], float]
    description: str
    scale: tuple[float, float] | None = None

    def __call__(self, sample: Sample) -> float:
        """Gold of one sample; a `FormatError` naming the sample when it is not finite."""
        value = float(self.measure(sample))
        if not math.isfinite(value):
            raise FormatError(
                f"the {self.name} measure is {value}",
                where=sample.id,
                hint="The sample holds a value that is not a number; leave it out.",
            )
        return value


def split_sentences(text: str) -> list[tuple[str, str]]:
    """Split a text into (gap, sentence) pairs; joined up they give the text without its margins.

    The gap is the white space before the sentence, empty for the first, so that an edit that
    leaves sentences out keeps the lines of the rest.
    """
    pieces: list[tuple[str, str]] = []
    text = text.strip()
    end = 0
    for line in _line_spans(text):
        starts = [line[0], *(m.end() for m in _SENTENCE_END.finditer(text, *line)), line[1]]
        for start, stop in pairwise(starts):
            raw = text[start:stop]
            if sentence := raw.strip():
                first = start + len(raw) - len(raw.lstrip())
                pieces.append((text[end:first], sentence))
                end = first + len(sentence)
    return pieces


def _line_spans(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    start = 0
    for line in text.splitlines(keepends=True):
        spans.append((start, start + len(line)))
        start += len(line)
    return spans


def count_words(text: str) -> int:
    """Number of words: runs of letters, digits and apostrophes."""
    return sum(1 for _ in _WORD.finditer(text))


def read_text(text: str, *, cut_off: bool = False) -> TextFacts:
    """Measure a reply; `cut_off` says that the policy was stopped before it ended."""
    words = [word.lower() for word in _WORD.findall(text)]
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    sentences = tuple(sentence for _, sentence in split_sentences(text))
    last = text.rstrip()[-1:]
    return TextFacts(
        sentences=sentences,
        compounds=tuple(compound(sentence) for sentence in sentences),
        sentiment=compound(" ".join(sentences)),
        num_words=len(words),
        repeated=1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0,
        unfinished=cut_off or last.isalnum() or last in (",", ":", ";", "-"),
    )


@lru_cache(maxsize=1)
def _analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@lru_cache(maxsize=16384)
def compound(text: str) -> float:
    """VADER's compound value of a text, from -1 to 1; that of a long one is the mean of pieces."""
    words = text.split()
    if len(words) <= PIECE_WORDS:
        return float(_analyser().polarity_scores(text)["compound"])
    pieces = [words[i : i + PIECE_WORDS] for i in range(0, len(words), PIECE_WORDS)]
    return sum(compound(" ".join(piece)) for piece in pieces) / len(pieces)


def sentiment_gold(sample: Sample) -> float:
    """Sentiment of a completion less its penalties; a `TypeError` for a clip."""
    completion = sample.completion
    return read_text(completion.text, cut_off=completion.truncated).value


def environment_gold(sample: Sample) -> float:
    """Sum of the environment's rewards over a clip; a `TypeError` for a completion."""
    return float(np.sum(sample.clip.rewards, dtype=np.float64))


GOLDS: dict[str, Gold] = {
    gold.name: gold
    for gold in (
        Gold(
            "sentiment",
            sentiment_gold,
            "VADER sentiment of a reply, less penalties for more than "
            f"{WORD_LIMIT} words, repeated phrases and an unfinished end",
            scale=(-1.0, 1.0),
        ),
        Gold(
            "environment",
            environment_gold,
            "sum of the environment's own rewards over a clip",
        ),
    )
}


def find_gold(name: str) -> Gold:
    """The gold measure of this name; a `SettingsError` naming the known ones otherwise."""
    try:
        return GOLDS[name]
    except KeyError:
        raise SettingsError(
            f"unknown gold measure {name!r}", hint=f"Known measures: {', '.join(GOLDS)}."
        ) from None


def describe_gold(name: str) -> str:
    """One line on what a gold measure is, for reports."""
    return find_gold(name).description

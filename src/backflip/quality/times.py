"""How long annotators take, and how often they answer faster than anybody can read."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from backflip.records.feedback import FeedbackBase
from backflip.statistics.figures import MIN_ANSWERS, MIN_TIMED, Figure, Withheld, share_of, too_few

SPEED_FLOOR = 2.0
"""Seconds below which an answer was hardly read.

Silent reading of English takes a second for about four words (Brysbaert 2019, "How many words do
we read per minute?": 238 a minute), so two seconds are eight words, the choice not counted.
"""


@dataclass(frozen=True)
class Quartiles:
    """The quarter, half and three-quarter points of times, in seconds."""

    lower: float
    median: float
    upper: float


@dataclass(frozen=True)
class Times:
    """How long one annotator takes.

    Attributes:
        num_timed: answers of any kind whose time is known.
        quartiles: of those times.
        fast: share of those answers that took less than the floor.
    """

    num_timed: int
    quartiles: Quartiles | Withheld
    fast: Figure


def measure_times(
    entries: Iterable[FeedbackBase], *, floor: float = SPEED_FLOOR, confidence: float = 0.95
) -> dict[str, Times]:
    """The times of each annotator, over all kinds and axes; every entry counts.

    Args:
        entries: of any kinds.
        floor: seconds; an answer that took less is fast.
        confidence: of the interval of the share.
    """
    seconds: dict[str, list[float]] = {}
    for entry in entries:
        known = seconds.setdefault(entry.annotator, [])
        if entry.seconds is not None:
            known.append(entry.seconds)
    return {name: _times(np.array(seconds[name]), floor, confidence) for name in sorted(seconds)}


def _times(seconds: np.ndarray, floor: float, confidence: float) -> Times:
    count = len(seconds)
    of = "answers with a time"
    fast = int((seconds < floor).sum())
    return Times(
        num_timed=count,
        quartiles=Quartiles(*np.quantile(seconds, [0.25, 0.5, 0.75]).tolist())
        if count >= MIN_TIMED
        else too_few(count, MIN_TIMED, of),
        fast=share_of(fast, count, minimum=MIN_ANSWERS, of=of, confidence=confidence),
    )

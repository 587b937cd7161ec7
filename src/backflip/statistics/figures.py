"""What a page may show: an estimate with its interval, or the reason why there is none.

A share of seven answers looks like one of seven thousand. Below the thresholds here a figure is
withheld, and says so, since readers would act on it.
"""

from dataclasses import dataclass

from backflip.statistics.intervals import Estimate, wilson

MIN_ITEMS = 20
"""Items answered twice, below which agreement is not shown.

A 95% interval of alpha on 20 items reaches about 0.3 either way (three annotators, simulated): it
tells good agreement from none, and no more. On 10 items it would reach 0.4.
"""
MIN_ANSWERS = 20
"""Answers of one annotator, below which no share of them is shown.

With 20, it takes 15 on one side and 5 on the other before the interval leaves one half out.
"""
MIN_TIMED = 20
"""Answers with a time, below which quartiles are not shown: the lower one then rests on five."""
MIN_GOLD = 10
"""Gold answers of one annotator, below which no accuracy is shown.

Gold is scarce, and the question is a coarse one: 10 right of 10 leave out whoever is right in less
than 72%, and 5 of 10 whoever is right in more than 76%.
"""
MIN_ANCHORS = 20
"""Anchor items answered in two rounds, below which no drift is shown; as for `MIN_ITEMS`."""


@dataclass(frozen=True)
class Withheld:
    """A figure that is not shown, and why; `count` is what there was to draw it from."""

    reason: str
    count: float


Figure = Estimate | Withheld
"""Either; `isinstance(figure, Estimate)` tells which."""


def share_of(
    successes: float, count: float, *, minimum: int, of: str, confidence: float = 0.95
) -> Figure:
    """The share with its Wilson interval, or the reason why not.

    Args:
        successes: from 0 to `count`.
        count: what the share is of.
        minimum: count below which it is withheld.
        of: what is counted, for the reason: "answers with a known order".
        confidence: of the interval.
    """
    if count < minimum:
        return too_few(count, minimum, of)
    return wilson(successes, count, confidence)


def too_few(count: float, minimum: int, of: str) -> Withheld:
    """The reason of a figure drawn from fewer than `minimum` of something."""
    return Withheld(f"fewer than {minimum} {of}", count)

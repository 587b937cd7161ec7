"""Estimates with the interval that says how sure they are, and the test of an even share."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A measured value, the bounds of its confidence interval, and how much it was drawn from."""

    value: float
    low: float
    high: float
    count: float


@dataclass(frozen=True)
class Share(Estimate):
    """A share of `count` answers and its Wilson interval."""


def quantile(confidence: float) -> float:
    """How many standard errors a two-sided interval of this confidence reaches either way."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(successes: float, count: float, confidence: float = 0.95) -> Share:
    """A share and its score interval (Wilson 1927), which stays within [0, 1] for small counts.

    Args:
        successes: from 0 to `count`; parts of an answer are allowed.
        count: answers, above 0.
        confidence: above 0, below 1.
    """
    if not (0 < confidence < 1 and count > 0 and -1e-9 <= successes <= count + 1e-9):
        raise ValueError(f"{successes} of {count} at confidence {confidence}")
    share = min(max(successes / count, 0.0), 1.0)
    z = quantile(confidence)
    shrink = 1 + z * z / count
    middle = (share + z * z / (2 * count)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Share(share, max(float(middle - half), 0.0), min(float(middle + half), 1.0), count)


def paired_difference(
    total: float, squares: float, count: int, confidence: float = 0.95
) -> Estimate:
    """Mean of paired differences from -1 to 1, with the interval of Bonett & Price (2012).

    That interval, an adjusted Wald's, adds one pair that differs each way, and so keeps a width
    where all pairs are alike. They give it for differences of -1, 0 and 1; parts are allowed here.

    Args:
        total: sum of the differences.
        squares: sum of their squares.
        count: differences, above 0.
        confidence: above 0, below 1.
    """
    value = total / count
    middle = total / (count + 2)
    spread = (squares + 2) / (count + 2) - middle * middle
    half = quantile(confidence) * float(np.sqrt(spread / (count + 2)))
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Estimate(value, min(low, value), max(high, value), count)


def sign_test(successes: int, count: int) -> float:
    """Probability of a share at least as far from one half, were both sides as likely: exact.

    Twice the lower tail of the binomial distribution for 1/2, at most 1.

    Args:
        successes: from 0 to `count`.
        count: answers, above 0.
    """
    fewer = min(successes, count - successes)
    steps = np.arange(1, fewer + 1)
    # log of C(count, i) / 2 ** count for i from 0 to `fewer`.
    logs = np.concatenate(([0.0], np.cumsum(np.log((count - steps + 1) / steps))))
    return min(1.0, 2 * float(np.exp(logs - count * np.log(2)).sum()))

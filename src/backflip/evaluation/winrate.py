"""Is the policy better than where it started, by how much, and how sure is that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backflip.records import derive_seed
from backflip.statistics import wilson

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A measured value and the bounds of its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def outcomes(
    policy: Sequence[float], start: Sequence[float], *, tie: float = 0.0
) -> NDArray[np.float64]:
    """(N,) 1 where the policy's gold is higher, 0 where it is lower, 0.5 within `tie`."""
    difference = np.asarray(policy, np.float64) - np.asarray(start, np.float64)
    return np.where(np.abs(difference) <= tie, 0.5, (difference > 0).astype(np.float64))


def win_rate(
    policy: Sequence[float], start: Sequence[float], num_prompts: int, *, confidence: float = 0.95
) -> Interval:
    """Share of samples on which the policy's measure is higher, ties counting half.

    The interval is Wilson's with one observation a prompt, since samples of one prompt are not
    independent; unlike a bootstrap it keeps a width where every sample was won.

    Args:
        policy: (N,) the measure of the policy's samples.
        start: (N,) that of the starting model's samples of the same prompts.
        num_prompts: prompts that the N samples answer.
        confidence: of the interval.
    """
    share = float(outcomes(policy, start).mean())
    bounds = wilson(share * num_prompts, num_prompts, confidence)
    # Rounding may put a bound beyond a share of exactly 0 or 1.
    return Interval(share, min(bounds.low, share), max(bounds.high, share))


def clustered_interval(
    values: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `values` with a percentile bootstrap interval over clusters.

    Samples of one prompt are not independent, so prompts are drawn, not samples (Efron &
    Tibshirani 1993, section 13.3 for the interval; Field & Welsh 2007 for the cluster bootstrap).

    Args:
        values: (N,) one number a sample.
        clusters: (N,) the prompt of each.
        confidence: of the interval.
        seed: of the resampling.

    Raises:
        ValueError: no values.
    """
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise ValueError("there is nothing to take the mean of")
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=array, minlength=len(names))
    counts = np.bincount(index, minlength=len(names)).astype(np.float64)
    rng = np.random.Generator(np.random.Philox(derive_seed(seed, "bootstrap")))
    drawn = rng.integers(0, len(names), size=(RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(array.mean()), float(low), float(high))

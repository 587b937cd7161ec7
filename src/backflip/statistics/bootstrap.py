"""Bootstrap intervals of any figure that is a function of sums over questions.

Answers to one question are not independent, so questions are drawn again, with all their answers
(the cluster bootstrap, Field & Welsh 2007). A resample is a weighting of the questions, so a
thousand of them are one product of matrices. Questions that add the same to the sums are kept
once, with their number, and their weights are drawn together: the distribution of the sums is the
same, and half a million answers come down to some hundred kinds of questions.

Intervals are BCa (Efron 1987, "Better bootstrap confidence intervals"): plain percentiles of alpha
cover too little where questions are few.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from backflip.statistics.figures import Figure, Withheld
from backflip.statistics.intervals import Estimate, quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Coefficient = Callable[[Floats], Floats]
"""From (..., S) sums to (...,) values; NaN where not defined."""

NUM_RESAMPLES = 1000
"""Enough that a bound moves by some hundredths of the interval's width between two seeds."""
_BLOCK = 2_000_000
_MOST_UNDEFINED = 0.05


@dataclass(frozen=True)
class Stock:
    """What is drawn from: P kinds of questions, and how many there are of each.

    Attributes:
        parts: (P, S) what one question of the kind adds to the sums.
        number: (P,) questions of that kind.
    """

    parts: Floats
    number: Indices

    @property
    def sums(self) -> Floats:
        """(S,) the sums over all questions."""
        return self.number @ self.parts

    def draw(self, generator: np.random.Generator, num_resamples: int) -> Floats:
        """(R, S) the sums over as many questions, drawn with replacement, R times."""
        drawn = np.empty((num_resamples, self.parts.shape[1]))
        step = max(1, _BLOCK // len(self.number))
        for start in range(0, num_resamples, step):
            rows = min(step, num_resamples - start)
            drawn[start : start + rows] = self._weights(generator, rows) @ self.parts
        return drawn

    def _weights(self, generator: np.random.Generator, num_resamples: int) -> Floats:
        """(R, P) how often each kind is drawn: multinomial.

        A number for each kind is quick where kinds are few, counting single draws where nearly
        every question is a kind of its own; the distribution is the same.
        """
        kinds, size = len(self.number), int(self.number.sum())
        if kinds * 10 < size:
            drawn = generator.multinomial(size, self.number / size, size=num_resamples)
            return drawn.astype(np.float64)
        owner = np.repeat(np.arange(kinds), self.number)
        weights = np.empty((num_resamples, kinds))
        for row in weights:
            row[:] = np.bincount(owner[generator.integers(0, size, size)], minlength=kinds)
        return weights


@dataclass(frozen=True)
class Resamples:
    """Resampled sums, and what intervals are made of them.

    Attributes:
        stock: what was drawn from.
        drawn: (R, S) resampled sums.
        extremes: (E, S) sums that bound a value from which no resample differs: a bootstrap of
            questions that were all answered with one voice knows no other.
        confidence: of the intervals.
    """

    stock: Stock
    drawn: Floats
    extremes: Floats
    confidence: float

    def figure(self, coefficient: Coefficient, count: int) -> Figure:
        """A coefficient with its interval; `count` is the questions that it rests on.

        It is withheld where it is not defined, or is not in more than one resample of twenty.
        """
        value = float(coefficient(self.stock.sums))
        values = coefficient(self.drawn)
        values = values[~np.isnan(values)]
        if np.isnan(value) or len(values) < (1 - _MOST_UNDEFINED) * len(self.drawn):
            return Withheld("nearly every answer is the same", count)
        if np.allclose(values, value, rtol=0, atol=1e-12):
            bounds = coefficient(self.extremes)
            low, high = np.nanmin(bounds), np.nanmax(bounds)
        else:
            low, high = np.quantile(values, self._levels(coefficient, value, values))
        return Estimate(value, min(float(low), value), max(float(high), value), count)

    def _levels(self, coefficient: Coefficient, value: float, values: Floats) -> list[float]:
        """The quantiles to take: those of the confidence, corrected for bias and skew (BCa)."""
        normal = NormalDist()
        below = float(np.mean(values < value) + np.mean(values <= value)) / 2
        edge = 1 / (2 * len(values))
        bias = normal.inv_cdf(min(max(below, edge), 1 - edge))
        skew = self._skew(coefficient)
        reach = quantile(self.confidence)
        ends = (bias - reach, bias + reach)
        return [normal.cdf(bias + end / (1 - skew * end)) for end in ends]

    def _skew(self, coefficient: Coefficient) -> float:
        """BCa's acceleration, from the value without one question (Efron 1987, section 7)."""
        without = coefficient(self.stock.sums - self.stock.parts)
        known = ~np.isnan(without)
        number, without = self.stock.number[known], without[known]
        away = np.average(without, weights=number) - without
        spread = float(number @ away**2)
        return float(number @ away**3) / (6 * spread**1.5) if spread > 0 else 0.0

"""Where a gold value stands: among the samples at hand, and on a rating scale."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from backflip.errors import SettingsError
from backflip.feedback.gold import Gold
from backflip.records import Sample


@dataclass(frozen=True)
class GoldPool:
    """The gold values of the samples at hand, in rising order: what "low" is measured against."""

    golds: tuple[float, ...]

    @classmethod
    def of(cls, gold: Gold, samples: Sequence[Sample]) -> Self:
        """The pool of these samples, each counted once."""
        unique = {sample.id: sample for sample in samples}
        return cls(tuple(sorted(gold(sample) for sample in unique.values())))

    def share_below(self, value: float) -> float:
        """Share of the pool below `value`, from 0 to 1; what equals it counts half."""
        if not self.golds:
            raise SettingsError("no samples to measure a low share against")
        low, high = bisect_left(self.golds, value), bisect_right(self.golds, value)
        return (low + high) / 2 / len(self.golds)

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Values below which these shares of the pool lie (linear interpolation)."""
        if not self.golds:
            raise SettingsError("no samples to set a rating scale by")
        return [float(q) for q in np.quantile(np.asarray(self.golds), shares)]


def cutpoints(gold: Gold, pool: GoldPool | None, num_levels: int) -> list[float]:
    """The `num_levels - 1` gold values between rating levels, in rising order.

    Even steps on the measure's own scale; without one, quantiles of the pool.

    Raises:
        SettingsError: the measure has no scale and there is no pool.
    """
    shares = [level / num_levels for level in range(1, num_levels)]
    if gold.scale is not None:
        low, high = gold.scale
        return [low + share * (high - low) for share in shares]
    if pool is None:
        raise SettingsError(
            f"the {gold.name} measure has no scale of its own, so a single sample cannot be rated",
            hint="Give the teacher the samples at hand: teacher.among(samples).",
        )
    return pool.quantiles(shares)

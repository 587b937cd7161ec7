"""Estimates with intervals, the bootstrap, and paired comparisons: numbers in, numbers out."""

from backflip.statistics.figures import (
    MIN_ANCHORS,
    MIN_ANSWERS,
    MIN_GOLD,
    MIN_ITEMS,
    MIN_TIMED,
    Figure,
    Withheld,
)
from backflip.statistics.intervals import (
    Estimate,
    Share,
    paired_difference,
    sign_test,
    wilson,
)

__all__ = [
    "MIN_ANCHORS",
    "MIN_ANSWERS",
    "MIN_GOLD",
    "MIN_ITEMS",
    "MIN_TIMED",
    "Estimate",
    "Figure",
    "Share",
    "Withheld",
    "paired_difference",
    "sign_test",
    "wilson",
]

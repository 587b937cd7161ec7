"""Habits that say nothing of the samples: favouring a place or the longer one, never deciding.

A share by itself does not tell a habit from what was asked: longer replies may be better. So each
share stands beside that of the others, and beside a paired difference: the annotator's choice less
the share of the others who chose the same sample of the same pair. What is true of the pair drops
out, also where the order on screen was not drawn by lot.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backflip.quality.answers import UNKNOWN, Answers, Indices
from backflip.statistics.figures import MIN_ANSWERS, Figure, share_of, too_few
from backflip.statistics.intervals import paired_difference, sign_test

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Habit:
    """How often an annotator does something, beside the others.

    Attributes:
        share: of the annotator's answers.
        others: share of all other annotators' answers.
        paired: mean difference from the others on the same pairs, from -1 to 1; 0 is no habit.
        p_value: of `share` against one half, two-sided and exact, for a habit of taking one of
            two sides; None for others, and where the share is withheld. Of a hundred annotators
            without a habit, five have one below 0.05.
    """

    share: Figure
    others: Figure
    paired: Figure
    p_value: float | None = None


@dataclass(frozen=True)
class Habits:
    """One annotator's habits in comparisons on one axis.

    Attributes:
        first: choosing the sample that was shown first, of decided pairs with a known order.
        longer: choosing the longer sample, of decided pairs of known and different length.
        tie, both_bad: answering so, of all comparisons.
    """

    axis: str
    first: Habit
    longer: Habit
    tie: Habit
    both_bad: Habit


def comparison_habits(
    answers: Answers,
    lengths: Mapping[str, float] | None = None,
    *,
    confidence: float = 0.95,
) -> dict[str, Habits]:
    """The habits of each annotator in comparisons.

    Args:
        answers: comparisons on one axis.
        lengths: words (or tokens, or steps) by sample id; samples without are left out.
        confidence: of the intervals.

    Raises:
        ValueError: answers of another kind.
    """
    if answers.values != "pair":
        raise ValueError(f"habits are read from comparisons, not from {answers.kind}")
    known = lengths or {}
    sizes = np.array([[known.get(s, np.nan) for s in unit.samples] for unit in answers.units])
    longer = np.where(sizes[:, 0] > sizes[:, 1], 0, np.where(sizes[:, 1] > sizes[:, 0], 1, UNKNOWN))
    first = _sides(answers, answers.first, "decided pairs with a known order", confidence)
    long = _sides(answers, longer[answers.unit], "decided pairs of different length", confidence)
    tie = _rates(answers, "tie", confidence)
    both_bad = _rates(answers, "both_bad", confidence)
    return {
        name: Habits(answers.axis, first[i], long[i], tie[i], both_bad[i])
        for i, name in enumerate(answers.names)
    }


def _sides(answers: Answers, side: Indices, of: str, confidence: float) -> list[Habit]:
    """Choosing one of two sides; `side` (N,) is the sample that stands for it, -1 for none."""
    decided = answers.counts()[:, :2]
    counted = (side != UNKNOWN) & (answers.value < 2)
    took = counted & (answers.value == side)
    same = decided[answers.unit, np.maximum(side, 0)] - took
    number = decided.sum(1)[answers.unit] - counted
    return _habits(answers, counted, took, (same, number), of, confidence, one_half=True)


def _rates(answers: Answers, value: str, confidence: float) -> list[Habit]:
    """Giving one answer out of all."""
    counts = answers.counts()
    code = answers.code(value)
    took = answers.value == code
    given = counts[answers.unit, code] if code != UNKNOWN else np.zeros(len(answers), np.int64)
    others = (given - took, counts.sum(1)[answers.unit] - 1)
    everything = np.ones(len(answers), np.bool_)
    return _habits(answers, everything, took, others, "comparisons", confidence)


def _habits(
    answers: Answers,
    counted: Mask,
    took: Mask,
    others: tuple[Indices, Indices],
    of: str,
    confidence: float,
    *,
    one_half: bool = False,
) -> list[Habit]:
    """The habit of each annotator.

    Args:
        answers: N comparisons.
        counted: (N,) answers that the share is of.
        took: (N,) those that took part in the habit.
        others: (N,) other answers to the same pair that took the same, and that decided.
        of: what is counted, for reasons.
        confidence: of the intervals.
        one_half: whether the share without the habit is one half.
    """
    size = len(answers.names)
    number = np.bincount(answers.annotator, counted, size)
    taken = np.bincount(answers.annotator, took, size)
    paired = counted & (others[1] > 0)
    differences = np.where(paired, took - others[0] / np.maximum(others[1], 1), 0.0)
    totals = np.bincount(answers.annotator, differences, size)
    squares = np.bincount(answers.annotator, np.square(differences), size)
    pairs = np.bincount(answers.annotator, paired, size)

    def share(took: float, count: float) -> Figure:
        return share_of(took, count, minimum=MIN_ANSWERS, of=of, confidence=confidence)

    def difference(i: int) -> Figure:
        if pairs[i] < MIN_ANSWERS:
            return too_few(float(pairs[i]), MIN_ANSWERS, f"{of}, on what others answered too")
        return paired_difference(float(totals[i]), float(squares[i]), int(pairs[i]), confidence)

    return [
        Habit(
            share=share(float(taken[i]), float(number[i])),
            others=share(float(taken.sum() - taken[i]), float(number.sum() - number[i])),
            paired=difference(i),
            p_value=sign_test(int(taken[i]), int(number[i]))
            if one_half and number[i] >= MIN_ANSWERS
            else None,
        )
        for i in range(size)
    ]

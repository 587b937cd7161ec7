"""Agreement as a page may show it: with intervals, or with the reason why there is no figure."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backflip.quality.answers import Answers, Indices
from backflip.quality.reliability import Coefficients, coefficients_of
from backflip.statistics.bootstrap import NUM_RESAMPLES, Resamples, Stock
from backflip.statistics.figures import MIN_ITEMS, Figure, too_few
from backflip.statistics.intervals import quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AgreementFigures:
    """How far annotators agree on one kind of feedback on one axis.

    Attributes:
        kind, axis: what was judged.
        num_items: questions that at least two annotators answered.
        raw: share of equal pairs of answers.
        alpha: Krippendorff's alpha.
        ac: Gwet's AC1, or AC2 for levels.
    """

    kind: str
    axis: str
    num_items: int
    raw: Figure
    alpha: Figure
    ac: Figure


def agreement_figures(
    answers: Answers,
    generator: np.random.Generator,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
) -> AgreementFigures:
    """Agreement with BCa intervals over questions, or the reason why it is not shown.

    Where every question was answered with one voice no resample differs. The bounds then are the
    values with z squared questions more that are answered in disagreement, z the normal quantile:
    for the raw share of pairs this is Wilson's interval.

    Args:
        answers: of one kind on one axis.
        generator: of the resamples; it is advanced.
        num_resamples: how many.
        confidence: of the intervals.
    """
    counts = answers.counts()
    num_items = len(np.unique(answers.question[counts.sum(1) > 1]))
    if num_items < MIN_ITEMS:
        why = too_few(num_items, MIN_ITEMS, "items answered twice")
        return AgreementFigures(answers.kind, answers.axis, num_items, why, why, why)
    coefficients = coefficients_of(answers)
    stock = gather(answers.question, counts, coefficients.parts)
    resamples = Resamples(
        stock=stock,
        drawn=stock.draw(generator, num_resamples),
        extremes=extreme_sums(coefficients, stock.sums, confidence),
        confidence=confidence,
    )
    return AgreementFigures(
        kind=answers.kind,
        axis=answers.axis,
        num_items=num_items,
        raw=resamples.figure(coefficients.raw, num_items),
        alpha=resamples.figure(coefficients.alpha, num_items),
        ac=resamples.figure(coefficients.ac, num_items),
    )


def extreme_sums(coefficients: Coefficients, sums: Floats, confidence: float) -> Floats:
    """(2, S) the sums with z squared units more of two answers: different ones, and equal ones.

    The answers are the most frequent ones.
    """
    num_values = len(coefficients.points)
    shares = sums[5 : 5 + num_values]
    common = np.argsort(-shares, kind="stable")[:2]
    counts = np.zeros((2, num_values), np.int64)
    counts[0, common] = 1
    counts[1, common[0]] = 2
    return sums + quantile(confidence) ** 2 * coefficients.parts(counts)


def gather(question: Indices, counts: Indices, parts: Callable[[Indices], Floats]) -> Stock:
    """The questions to draw from; questions of one unit with equal counts are one kind.

    Args:
        question: (U,) the question of each unit.
        counts: (U, K) counts that say all that there is to a unit.
        parts: what units add to the sums: from (..., K) counts to (..., S).
    """
    num_questions = int(question.max()) + 1
    if num_questions == len(question):
        kinds, number = _distinct(counts)
        return Stock(parts(kinds), number)
    of_units = parts(counts)
    summed = np.zeros((num_questions, of_units.shape[1]))
    np.add.at(summed, question, of_units)
    return Stock(summed, np.ones(num_questions, np.int64))


def _distinct(counts: Indices) -> tuple[Indices, Indices]:
    """The different rows of (U, K) counts, in a fixed order, and how often each occurs.

    Rows are numbered column by column: sorting numbers is many times quicker than sorting rows.
    """
    code = np.zeros(len(counts), np.int64)
    for column in counts.T:
        _, code = np.unique(code * (int(column.max()) + 1) + column, return_inverse=True)
    _, where, number = np.unique(code, return_index=True, return_counts=True)
    return counts[where], number

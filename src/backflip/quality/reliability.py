"""How far annotators agree with one another: raw shares, Krippendorff's alpha and Gwet's AC.

Alpha follows Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability":

    alpha = 1 - observed disagreement / disagreement expected by chance

computed from the coincidences of values within units. A unit with one answer counts for nothing.

AC follows Gwet (2014), "Handbook of Inter-Rater Reliability", chapters 2 and 3 (AC1: Gwet 2008,
"Computing inter-rater reliability and its variance in the presence of high agreement"):

    AC = (pa - pe) / (1 - pe)
    pa = mean over units of the weighted share of pairs of answers that agree
    pe = sum of weights / (q (q - 1)) * sum over the q values of pi (1 - pi)

where pi is the mean over units of the share of answers that gave a value; units with one answer
count in pi alone. AC1 weighs equal answers 1 and others 0; AC2 gives near answers a part. Where
nearly all answers are the same, alpha falls towards 0 however well people agree, since chance
would agree too; AC does not. The two beside one another tell such a case from real disagreement.

Both are 1 for full agreement, 0 for what chance would give, and below 0 for systematic
disagreement. Any number of annotators, and missing answers, are allowed.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from backflip.quality.answers import Answers, read_answers
from backflip.records.feedback import FeedbackBase

Floats = NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Agreement:
    """Agreement on one kind of feedback on one axis.

    Attributes:
        kind, axis: what was judged.
        num_units: units that at least two annotators answered.
        num_pairs: pairs of answers to the same unit.
        raw: share of those pairs that are equal; None without a pair.
        alpha: Krippendorff's alpha; None when there is no pair or every answer is the same.
        ac: Gwet's AC1, or AC2 with ordinal weights for levels; None without a pair.
    """

    kind: str
    axis: str
    num_units: int
    num_pairs: int
    raw: float | None
    alpha: float | None
    ac: float | None


@dataclass(frozen=True)
class Coefficients:
    """The coefficients as functions of sums over units, so that reweighting units is a product.

    `parts` gives S numbers a unit; `raw`, `alpha` and `ac` read any weighted sum of them.

    Attributes:
        points: (C,) the values as numbers; only the level "interval" reads them.
        level: how far apart two values are. "nominal": equal or not; "ordinal": by the order;
            "interval": by their squared difference.
    """

    points: Floats
    level: Level

    def parts(self, counts: NDArray[np.int64]) -> Floats:
        """(U, S) what each unit adds, from its (U, C) counts of values.

        S = 5 + C + C * C: equal pairs, pairs, weighted share of agreeing pairs, whether there is a
        pair, whether there is an answer, the share of each value, the coincidences of values.
        """
        num_units, num_values = counts.shape
        answers = counts.sum(1)
        paired = answers > 1
        shares = counts / np.maximum(answers, 1)[:, None]
        coincidences = counts[:, :, None] * counts[:, None, :]
        diagonal = np.arange(num_values)
        coincidences[:, diagonal, diagonal] -= counts
        coincidences = coincidences / np.maximum(answers - 1, 1)[:, None, None]
        agreeing = np.einsum("uck,ck->u", coincidences, self.weights) / np.maximum(answers, 1)
        columns = (
            (counts * (counts - 1)).sum(1) / 2,
            answers * (answers - 1) / 2,
            np.where(paired, agreeing, 0.0),
            paired,
            answers > 0,
            shares,
            coincidences.reshape(num_units, num_values**2),
        )
        return np.column_stack(columns).astype(np.float64)

    def raw(self, sums: Floats) -> Floats:
        """(...,) share of equal pairs, from (..., S) sums; NaN without a pair."""
        return _divide(sums[..., 0], sums[..., 1])

    def alpha(self, sums: Floats) -> Floats:
        """(...,) Krippendorff's alpha; NaN without a pair or with one value in all pairs."""
        num_values = len(self.points)
        flat = sums[..., 5 + num_values :]
        coincidences = flat.reshape(*flat.shape[:-1], num_values, num_values)
        totals = coincidences.sum(-1)
        distance = self._distances(totals)
        observed = (coincidences * distance).sum((-2, -1))
        chance = (totals[..., :, None] * totals[..., None, :] * distance).sum((-2, -1))
        return 1 - _divide(observed * (totals.sum(-1) - 1), chance)

    def ac(self, sums: Floats) -> Floats:
        """(...,) Gwet's AC; NaN without a pair or with one value on the scale."""
        num_values = len(self.points)
        observed = _divide(sums[..., 2], sums[..., 3])
        shares = _divide(sums[..., 5 : 5 + num_values], sums[..., 4, None])
        combinations = float(num_values * (num_values - 1))
        if combinations == 0:
            return np.full_like(observed, np.nan)
        chance = self.weights.sum() / combinations * (shares * (1 - shares)).sum(-1)
        return (observed - chance) / (1 - chance)

    @cached_property
    def weights(self) -> Floats:
        """(C, C) how far two values agree: 1 where equal (Gwet 2014, section 3.5)."""
        if self.level == "nominal" or len(self.points) < 2:
            return np.eye(len(self.points))
        place = np.arange(len(self.points)) if self.level == "ordinal" else self.points
        apart = np.abs(place[:, None] - place[None, :])
        # Ordinal: one less the pairs of neighbouring values between, of those in the whole scale.
        disagreement = apart * (apart + 1) if self.level == "ordinal" else np.square(apart)
        return 1 - disagreement / disagreement.max()

    def _distances(self, totals: Floats) -> Floats:
        """(..., C, C) alpha's squared distances; `totals` (..., C) counts each value's answers."""
        if self.level == "nominal":
            return 1 - np.eye(len(self.points))
        if self.level == "ordinal":
            # (sum of counts from c to k, both ends at half) squared, by running mid-ranks.
            position = np.cumsum(totals, -1) - totals / 2
        else:
            position = self.points
        return np.square(position[..., :, None] - position[..., None, :])


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient; NaN where the denominator is 0."""
    known = denominator != 0
    return np.where(known, numerator, np.nan) / np.where(known, denominator, 1.0)


def raw_agreement(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Share of pairs of answers to the same unit that are equal; None without such a pair.

    Args:
        units: the answers to each unit, missing ones left out.
    """
    coefficients, sums = _sum_up(units, "nominal", None)
    return _or_none(coefficients.raw(sums))


def krippendorff_alpha(
    units: Iterable[Sequence[Hashable]], *, level: Level = "nominal"
) -> float | None:
    """Krippendorff's alpha over units.

    Args:
        units: the answers to each unit, missing ones left out.
        level: how far apart two values are. "nominal": equal or not; "ordinal": by the number
            of answers between them; "interval": by their squared difference. The last two need
            numbers.

    Returns:
        Alpha, at most 1; None when no unit has two answers, or all answers are the same.
    """
    coefficients, sums = _sum_up(units, level, None)
    return _or_none(coefficients.alpha(sums))


def gwet_ac(
    units: Iterable[Sequence[Hashable]],
    *,
    level: Level = "nominal",
    scale: Sequence[Hashable] | None = None,
) -> float | None:
    """Gwet's agreement coefficient over units: AC1 for the level "nominal", else AC2.

    Args:
        units: the answers to each unit, missing ones left out.
        level: the weights. "nominal": equal or not; "ordinal": by the number of steps on the
            scale; "interval": by the squared difference (quadratic weights).
        scale: the values that could be given, in order; those that were, when None. Values that
            nobody used count: the more there are, the less agreement chance explains.

    Returns:
        AC, at most 1; None when no unit has two answers, or the scale has one value.
    """
    coefficients, sums = _sum_up(units, level, scale)
    return _or_none(coefficients.ac(sums))


def _sum_up(
    units: Iterable[Sequence[Hashable]], level: Level, scale: Sequence[Hashable] | None
) -> tuple[Coefficients, Floats]:
    answered = [values for values in units if len(values)]
    if scale is None:
        known = {value for values in answered for value in values}
        scale = list(known) if level == "nominal" else sorted(cast("set[float]", known))
    codes = {value: i for i, value in enumerate(scale)}
    points = np.asarray(scale, np.float64) if level == "interval" else np.arange(len(scale))
    coefficients = Coefficients(points.astype(np.float64), level)
    counts = np.zeros((len(answered), len(scale)), np.int64)
    for row, values in zip(counts, answered, strict=True):
        for value in values:
            row[codes[value]] += 1
    return coefficients, coefficients.parts(counts).sum(0)


def _or_none(value: Floats) -> float | None:
    return None if np.isnan(value) else float(value)


def measure_agreement(entries: Iterable[FeedbackBase]) -> list[Agreement]:
    """Agreement of annotators for each kind and axis among these entries.

    See `read_answers` for what is an answer. Of a ranking each pair of samples is a unit: one over
    the other, or a tie.
    """
    return [_summarise(answers) for answers in read_answers(entries).values()]


def coefficients_of(answers: Answers) -> Coefficients:
    """The coefficients that suit these answers; values stand for their places on the scale."""
    return Coefficients(np.arange(len(answers.scale), dtype=np.float64), answers.level)


def _summarise(answers: Answers) -> Agreement:
    coefficients = coefficients_of(answers)
    sums = coefficients.parts(answers.counts()).sum(0)
    return Agreement(
        kind=answers.kind,
        axis=answers.axis,
        num_units=round(sums[3]),
        num_pairs=round(sums[1]),
        raw=_or_none(coefficients.raw(sums)),
        alpha=_or_none(coefficients.alpha(sums)),
        ac=_or_none(coefficients.ac(sums)),
    )

"""How far annotators agree with one another: raw shares and Krippendorff's alpha.

Alpha follows Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability":

    alpha = 1 - observed disagreement / disagreement expected by chance

computed from the coincidences of values within units. It is 1 for full agreement, 0 for what
chance would give, and below 0 for systematic disagreement. Any number of annotators, and
missing answers, are allowed; a unit with one answer counts for nothing.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from backflip.feedback.kinds import (
    Comparison,
    Critique,
    FeedbackBase,
    GoodBad,
    Rating,
    SafetyFlag,
)

Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Agreement:
    """Agreement on one kind of feedback on one axis.

    Attributes:
        kind, axis: what was judged.
        num_units: items that at least two annotators answered.
        num_pairs: pairs of answers to the same item.
        raw: share of those pairs that are equal; None without a pair.
        alpha: Krippendorff's alpha; None when there is no pair or every answer is the same.
    """

    kind: str
    axis: str
    num_units: int
    num_pairs: int
    raw: float | None
    alpha: float | None


def raw_agreement(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Share of pairs of answers to the same unit that are equal; None without such a pair.

    Args:
        units: the answers to each unit, missing ones left out.
    """
    equal, total = 0, 0
    for values in units:
        total += len(values) * (len(values) - 1) // 2
        equal += sum(n * (n - 1) // 2 for n in Counter(values).values())
    return equal / total if total else None


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
    shared = [list(values) for values in units if len(values) > 1]
    known = {value for values in shared for value in values}
    if len(known) < 2:
        return None
    categories = list(known) if level == "nominal" else sorted(cast("set[float]", known))
    index = {value: i for i, value in enumerate(categories)}
    coincidences = np.zeros((len(categories), len(categories)))
    for values in shared:
        counts = np.zeros(len(categories))
        for value in values:
            counts[index[value]] += 1
        pairs = np.outer(counts, counts) - np.diag(counts)
        coincidences += pairs / (len(values) - 1)
    totals = coincidences.sum(axis=0)
    distance = _distances(categories, totals, level)
    observed = float((coincidences * distance).sum())
    expected = float((np.outer(totals, totals) * distance).sum()) / (totals.sum() - 1)
    return 1 - observed / expected


def _distances(
    categories: Sequence[Hashable], totals: NDArray[np.float64], level: Level
) -> NDArray[np.float64]:
    """(C, C) squared distances between values; `totals` (C,) counts each value's answers."""
    if level == "nominal":
        return 1 - np.eye(len(categories))
    if level == "ordinal":
        # (sum of counts from c to k, both ends at half) squared, by running mid-ranks.
        position = np.cumsum(totals) - totals / 2
    else:
        position = np.asarray(categories, dtype=np.float64)
    return np.square(position[:, None] - position[None, :])


def measure_agreement(entries: Iterable[FeedbackBase]) -> list[Agreement]:
    """Agreement of annotators for each kind and axis among these entries.

    Comparisons, ratings, critiques with a level, thumbs and safety flags are measured; the other
    kinds give no answer that two annotators could share. A pair is read with its samples in the
    order of their ids, whatever order each annotator saw. Ratings on scales of different length
    are different units. Of several answers of one annotator to an item, the last counts.
    """
    answers: dict[tuple[str, str], dict[Hashable, dict[str, Hashable]]] = {}
    for entry in entries:
        read = _read(entry)
        if read is not None:
            kind, unit, value = read
            units = answers.setdefault((kind, entry.axis), {})
            units.setdefault(unit, {})[entry.annotator] = value
    return [_summarise(kind, axis, answers[kind, axis]) for kind, axis in sorted(answers)]


def _read(entry: FeedbackBase) -> tuple[str, Hashable, Hashable] | None:
    if isinstance(entry, Comparison):
        known = entry if entry.samples[0] <= entry.samples[1] else entry.swap()
        return entry.kind, known.samples, known.choice
    if isinstance(entry, Rating):
        return entry.kind, (entry.sample, entry.num_levels), entry.level
    if isinstance(entry, Critique) and entry.level is not None:
        return entry.kind, (entry.sample, entry.num_levels), entry.level
    if isinstance(entry, GoodBad):
        return entry.kind, entry.sample, entry.good
    if isinstance(entry, SafetyFlag):
        return entry.kind, entry.sample, entry.safe
    return None


def _summarise(kind: str, axis: str, units: dict[Hashable, dict[str, Hashable]]) -> Agreement:
    shared = [list(values.values()) for values in units.values() if len(values) > 1]
    level: Level = "ordinal" if kind in ("rating", "critique") else "nominal"
    return Agreement(
        kind=kind,
        axis=axis,
        num_units=len(shared),
        num_pairs=sum(len(v) * (len(v) - 1) // 2 for v in shared),
        raw=raw_agreement(shared),
        alpha=krippendorff_alpha(shared, level=level),
    )

"""Whether annotators still answer as they did: the same anchor items, round after round."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from backflip.quality.agreement import extreme_sums, gather
from backflip.quality.answers import UNKNOWN, Answers, Indices, Unit, read_answers
from backflip.quality.consensus import majority_codes
from backflip.quality.reliability import Coefficients, coefficients_of
from backflip.records.feedback import FeedbackBase
from backflip.statistics.bootstrap import NUM_RESAMPLES, Coefficient, Resamples
from backflip.statistics.figures import MIN_ANCHORS, Figure, share_of, too_few
from backflip.statistics.intervals import quantile

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Drift:
    """What changed from one round to the next on the anchors answered in both.

    Attributes:
        kind, axis: what was judged.
        earlier, later: indices of the rounds.
        num_anchors: questions answered in both.
        changed: share of anchors whose majority became another. Some change without any drift,
            where annotators are few or divided.
        shift: how much less often answers of two annotators are equal across the rounds than
            within one, as a difference of shares: 0 without drift, however noisy the answers.
        raw_change, alpha_change: agreement within the later round less that within the earlier.
        consistency: by annotator, share of anchors answered the same in both rounds.
    """

    kind: str
    axis: str
    earlier: int
    later: int
    num_anchors: int
    changed: Figure
    shift: Figure
    raw_change: Figure
    alpha_change: Figure
    consistency: dict[str, Figure]


def measure_drift(
    rounds: Sequence[Iterable[FeedbackBase]],
    generator: np.random.Generator,
    *,
    anchors: Collection[Unit] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
) -> list[Drift]:
    """Drift between consecutive rounds, for each kind and axis with an anchor in both.

    Intervals of `shift` and of the changes are BCa, over questions drawn again with their answers
    of both rounds; the others are Wilson's.

    Args:
        rounds: the entries of each round, in order of time.
        generator: of the resamples; it is advanced.
        anchors: units to look at; all that were answered in both rounds, when None.
        num_resamples: how many.
        confidence: of the intervals.
    """
    tables = [read_answers(entries) for entries in rounds]
    found: list[Drift] = []
    for later, (before, after) in enumerate(pairwise(tables), start=1):
        for kind, axis in sorted(before.keys() & after.keys()):
            pair = _align(before[kind, axis], after[kind, axis], anchors)
            if pair is None:
                continue
            found.append(
                Drift(
                    kind=kind,
                    axis=axis,
                    earlier=later - 1,
                    later=later,
                    num_anchors=pair[0].num_questions,
                    changed=_changed(*pair, confidence),
                    consistency=_consistency(*pair, confidence),
                    **_changes(*pair, generator, num_resamples, confidence),
                )
            )
    return found


def _align(
    before: Answers, after: Answers, anchors: Collection[Unit] | None
) -> tuple[Answers, Answers] | None:
    """The answers of both rounds to shared units, on the same units, annotators and scale."""
    wanted = set(after.units) if anchors is None else set(after.units) & set(anchors)
    kept = [i for i, unit in enumerate(before.units) if unit in wanted]
    if not kept:
        return None
    _, question = np.unique(before.question[kept], return_inverse=True)
    longer, other = sorted((before.scale, after.scale), key=len, reverse=True)
    shared = Answers(
        kind=before.kind,
        axis=before.axis,
        scale=longer + tuple(value for value in other if value not in longer),
        names=tuple(dict.fromkeys(before.names + after.names)),
        units=tuple(before.units[i] for i in kept),
        question=question,
        unit=before.unit,
        annotator=before.annotator,
        value=before.value,
        first=before.first,
    )
    return _onto(shared, before), _onto(shared, after)


def _onto(shared: Answers, answers: Answers) -> Answers:
    """The answers to the units of `shared`, in its indices."""

    def places(keys: Sequence[Hashable], known: Sequence[Hashable]) -> Indices:
        place = {key: i for i, key in enumerate(known)}
        return np.array([place.get(key, UNKNOWN) for key in keys], np.int64)

    unit = places(answers.units, shared.units)[answers.unit]
    kept = unit != UNKNOWN
    return replace(
        shared,
        unit=unit[kept],
        annotator=places(answers.names, shared.names)[answers.annotator[kept]],
        value=places(answers.scale, shared.scale)[answers.value[kept]],
        first=answers.first[kept],
    )


def _changed(before: Answers, after: Answers, confidence: float) -> Figure:
    """Share of questions whose majority is another; a ranking changes as far as its pairs do."""
    best, now = majority_codes(before.counts()), majority_codes(after.counts())
    both = (best != UNKNOWN) & (now != UNKNOWN)
    decided = np.bincount(before.question, both)
    moved = np.bincount(before.question, both & (best != now))
    return share_of(
        float((moved / np.maximum(decided, 1)).sum()),
        float((decided > 0).sum()),
        minimum=MIN_ANCHORS,
        of="anchors with a majority in both rounds",
        confidence=confidence,
    )


def _consistency(before: Answers, after: Answers, confidence: float) -> dict[str, Figure]:
    """By annotator, the share of questions answered in both rounds that were answered alike."""
    twice, same = _answered_twice(before, after)
    weights = before.weights(twice)
    size = len(before.names)
    number = np.bincount(before.annotator, weights, size).round().tolist()
    kept = np.bincount(before.annotator, weights * same, size).tolist()
    return {
        name: share_of(
            kept[i],
            number[i],
            minimum=MIN_ANCHORS,
            of="anchors answered in both rounds",
            confidence=confidence,
        )
        for i, name in enumerate(before.names)
        if number[i]
    }


def _answered_twice(before: Answers, after: Answers) -> tuple[Mask, Mask]:
    """(N,) earlier answers that their annotator gave again to the same unit, and gave alike."""
    size = len(before.names)
    keys = [each.unit * size + each.annotator for each in (before, after)]
    _, early, late = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    twice, same = np.zeros((2, len(before)), np.bool_)
    twice[early] = True
    same[early] = before.value[early] == after.value[late]
    return twice, same


def _changes(
    before: Answers,
    after: Answers,
    generator: np.random.Generator,
    num_resamples: int,
    confidence: float,
) -> dict[str, Figure]:
    """The figures `shift`, `raw_change` and `alpha_change`."""
    coefficients = coefficients_of(before)
    counts = (before.counts(), after.counts())
    across = _pairs_across(before, after)
    question = before.question

    def parts(rows: Indices) -> Floats:
        earlier, later, crossing = np.split(rows, (len(before.scale), -2), axis=1)
        halves = map(coefficients.parts, (earlier, later))
        return np.column_stack((*halves, crossing.astype(np.float64)))

    stock = gather(question, np.column_stack((*counts, across)), parts)
    size = (len(stock.sums) - 2) // 2

    def change(coefficient: Coefficient) -> Coefficient:
        return lambda sums: coefficient(sums[..., size : 2 * size]) - coefficient(sums[..., :size])

    def shift(sums: Floats) -> Floats:
        within = coefficients.raw(sums[..., :2] + sums[..., size : size + 2])
        return within - coefficients.raw(sums[..., -2:])

    resamples = Resamples(
        stock=stock,
        drawn=stock.draw(generator, num_resamples),
        extremes=_extremes(coefficients, stock.sums, confidence),
        confidence=confidence,
    )

    def figure(coefficient: Coefficient, enough: Mask, of: str) -> Figure:
        number = len(np.unique(question[enough]))
        if number < MIN_ANCHORS:
            return too_few(number, MIN_ANCHORS, of)
        return resamples.figure(coefficient, number)

    paired = [each.sum(1) > 1 for each in counts]
    crossed = across[:, 1] > 0
    either = "anchors answered twice within a round and by two across"
    both = "anchors answered twice in both rounds"
    return {
        "shift": figure(shift, crossed & (paired[0] | paired[1]), either),
        "raw_change": figure(change(coefficients.raw), paired[0] & paired[1], both),
        "alpha_change": figure(change(coefficients.alpha), paired[0] & paired[1], both),
    }


def _pairs_across(before: Answers, after: Answers) -> Indices:
    """(U, 2) equal pairs and pairs of an earlier and a later answer by different annotators."""
    counts, now = before.counts(), after.counts()
    twice, same = _answered_twice(before, after)
    unit = before.unit
    equal = (counts * now).sum(1) - np.bincount(unit[same], minlength=len(counts))
    pairs = counts.sum(1) * now.sum(1) - np.bincount(unit[twice], minlength=len(counts))
    return np.column_stack((equal, pairs))


def _extremes(coefficients: Coefficients, sums: Floats, confidence: float) -> Floats:
    """(3, S) sums with more disagreement in the earlier round, in the later, and across.

    They bound the changes where all were of one voice; see `agreement_figures`.
    """
    size = (len(sums) - 2) // 2
    extremes = np.tile(sums, (3, 1))
    for row, half in enumerate((slice(size), slice(size, 2 * size))):
        extremes[row, half] = extreme_sums(coefficients, sums[half], confidence)[0]
    extremes[2, -1] += quantile(confidence) ** 2
    return extremes

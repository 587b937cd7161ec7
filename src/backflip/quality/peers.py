"""How far each annotator agrees with the others who answered the same."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backflip.quality.answers import Answers, Unit, Value
from backflip.statistics.figures import MIN_ANSWERS, Figure, share_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PeerAgreement:
    """One annotator beside the others, on one kind of feedback on one axis.

    Attributes:
        kind, axis: what was judged.
        num_answers: units that the annotator answered.
        pairwise: share of the others' answers that equal the annotator's, each question once.
        with_majority: share of answers that equal the majority of the others; units where the
            others have no majority are left out.
    """

    kind: str
    axis: str
    num_answers: int
    pairwise: Figure
    with_majority: Figure


def peer_agreement(answers: Answers, *, confidence: float = 0.95) -> dict[str, PeerAgreement]:
    """Agreement of each annotator with the others; nobody is compared with themselves.

    Intervals are Wilson's with one trial a question, which is wider than need be for `pairwise`:
    a share among several others varies less than a single answer.
    """
    others = answers.counts()[answers.unit]
    rows = np.arange(len(answers))
    others[rows, answers.value] -= 1
    number = others.sum(1)
    same = others[rows, answers.value]
    top = others.max(1)
    decided = (number > 0) & ((others == top[:, None]).sum(1) == 1)
    shares = same / np.maximum(number, 1)
    pairwise = _by_annotator(answers, number > 0, shares)
    majority = _by_annotator(answers, decided, (same == top).astype(np.float64))
    given = np.bincount(answers.annotator, minlength=len(answers.names)).tolist()
    of = "answers to what others answered too"
    return {
        name: PeerAgreement(
            kind=answers.kind,
            axis=answers.axis,
            num_answers=given[i],
            pairwise=share_of(*pairwise[i], minimum=MIN_ANSWERS, of=of, confidence=confidence),
            with_majority=share_of(
                *majority[i],
                minimum=MIN_ANSWERS,
                of="answers where the others have a majority",
                confidence=confidence,
            ),
        )
        for i, name in enumerate(answers.names)
    }


def gold_counts(answers: Answers, expected: Mapping[Unit, Value]) -> dict[str, tuple[float, float]]:
    """By annotator: gold questions answered as expected, and gold questions answered.

    A ranking counts as one question, right as far as its pairs are.
    """
    known = np.array([unit in expected for unit in answers.units])
    codes = np.array([answers.code(expected.get(unit, "")) for unit in answers.units])
    right = answers.value == codes[answers.unit]
    counted = _by_annotator(answers, known[answers.unit], right.astype(np.float64))
    return dict(zip(answers.names, counted, strict=True))


def _by_annotator(answers: Answers, chosen: Mask, scores: Floats) -> list[tuple[float, float]]:
    """Sum of the scores of the chosen answers and their number, with weight 1 a question."""
    weights = answers.weights(chosen)
    size = len(answers.names)
    totals = np.bincount(answers.annotator, weights * scores, size)
    numbers = np.bincount(answers.annotator, weights, size)
    # Weights of thirds and sixths add up to whole questions only to rounding.
    return list(zip(totals.tolist(), numbers.round().tolist(), strict=True))

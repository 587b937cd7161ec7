"""Where annotators contradict one another, and where a confident reward model contradicts them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backflip.quality.answers import Answers, Unit, Value
from backflip.quality.consensus import majority_codes

CONFIDENT = 0.9
"""P(one sample over the other) from which a reward model counts as confident."""


@dataclass(frozen=True)
class Disagreement:
    """A unit that annotators answered differently.

    Attributes:
        unit: what was judged.
        votes: every annotator and answer, by name.
        entropy: of the shares of the answers, in bits; 0 would be one voice.
        majority: the most frequent answer; None where two are level.
    """

    unit: Unit
    votes: tuple[tuple[str, Value], ...]
    entropy: float
    majority: Value | None


@dataclass(frozen=True)
class Contradiction:
    """An answer that a confident reward model contradicts.

    Attributes:
        unit: the pair that was judged.
        annotator, value: who chose which of the two: "a" is the first sample of the unit.
        probability: of the other one being better, as the model foresees.
    """

    unit: Unit
    annotator: str
    value: Value
    probability: float


def disagreements(answers: Answers, *, limit: int | None = None) -> list[Disagreement]:
    """Units with different answers, the most divided first.

    They are sorted by falling entropy, then by falling number of answers, then as they came.

    Args:
        answers: of one kind on one axis.
        limit: return at most so many.
    """
    counts = answers.counts()
    number = counts.sum(1)
    shares = counts / number[:, None]
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(1)
    # Rounded, so that equal shares sort as equal whatever order they were added in.
    order = np.lexsort((-number, -entropy.round(9)))
    found = order[(counts > 0).sum(1)[order] > 1][:limit].tolist()
    best = majority_codes(counts)
    rows = np.argsort(answers.unit, kind="stable")
    ends = np.cumsum(number)
    listed: list[Disagreement] = []
    for u in found:
        votes = [
            (answers.names[answers.annotator[i]], answers.scale[answers.value[i]])
            for i in rows[ends[u] - number[u] : ends[u]]
        ]
        listed.append(
            Disagreement(
                unit=answers.units[u],
                votes=tuple(sorted(votes, key=lambda vote: vote[0])),
                entropy=float(entropy[u]),
                majority=answers.scale[best[u]] if best[u] >= 0 else None,
            )
        )
    return listed


def contradictions(
    answers: Answers,
    scores: Mapping[str, float],
    *,
    threshold: float = CONFIDENT,
    limit: int | None = None,
) -> list[Contradiction]:
    """Answers that put a sample above one that the model scores clearly higher.

    Of samples with scores r and s the model foresees the first above the other with probability
    1 / (1 + exp(s - r)) (Bradley-Terry). Ties contradict nothing, and pairs with a sample that has
    no score are passed over. The most confident come first, else they stay in order.

    Args:
        answers: comparisons or rankings on one axis.
        scores: raw score of the reward model by sample id.
        threshold: above 0.5, below 1; the least probability that counts as confident.
        limit: return at most so many.

    Raises:
        ValueError: a threshold that is none, or answers that compare nothing.
    """
    if not 0.5 < threshold < 1:
        raise ValueError(f"threshold {threshold}: not between 0.5 and 1")
    if answers.values not in ("pair", "ranks"):
        raise ValueError(f"a {answers.kind} compares no samples")
    pairs = [[scores.get(sample, np.nan) for sample in unit.samples] for unit in answers.units]
    lead = np.subtract(*np.array(pairs).T)[answers.unit]
    against = np.where(answers.value == 0, -lead, np.where(answers.value == 1, lead, np.nan))
    # Not a number where a score is missing, and then not confident.
    found = np.flatnonzero(against >= np.log(threshold / (1 - threshold)))
    found = found[np.argsort(-against[found], kind="stable")][:limit]
    return [
        Contradiction(
            unit=answers.units[answers.unit[i]],
            annotator=answers.names[answers.annotator[i]],
            value=answers.scale[answers.value[i]],
            probability=float(1 / (1 + np.exp(-against[i]))),
        )
        for i in found.tolist()
    ]

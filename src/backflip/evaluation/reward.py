"""How well a reward model foresees what people prefer, and how sure it may be of that.

    pairs = decided_pairs(heldout, scores, lengths=words, reliabilities=annotators.reliabilities())
    reward_accuracy(pairs).overall      # Share(value=0.71, low=0.66, high=0.76, count=310.0)
    calibration(pairs).error            # 0.04

Everything is measured on pairs of samples that an entry decides. A ranking decides many pairs at
once and is still one answer: its pairs share a weight of 1, so that counts and intervals speak of
answers. Where answers speak of one sample each, those on samples of one prompt are held against
each other, and a prompt counts as one answer (see `rated_apart`). Intervals take the answers to be
independent, which several answers on one prompt are not quite: read them as a lower bound on the
doubt.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from backflip.records import Sample
from backflip.records.feedback import FeedbackBase
from backflip.statistics import Share, wilson

Floats = NDArray[np.float64]

LENGTH_EDGES = (0.1, 0.5)
LENGTH_BINS = ("much shorter", "shorter", "similar", "longer", "much longer")
"""The preferred sample beside the other one, by (its length - the other's) / the greater of the
two: similar up to 0.1 either way, much shorter or longer beyond 0.5."""


@dataclass(frozen=True)
class Pairs:
    """P pairs of samples that annotators decided.

    Attributes:
        margins: (P,) score of the preferred sample less that of the other.
        betas: (P,) reliability of the annotator; 1 where unknown.
        weights: (P,) one over the number of pairs of the same entry.
        lengths: (P,) (preferred - other) / greater of the two; NaN where not known.
        strengths: (P,) 0 to 3 as the annotator put it; 0 for kinds without strength.
        annotators, kinds: (P,) names.
    """

    margins: Floats
    betas: Floats
    weights: Floats
    lengths: Floats
    strengths: NDArray[np.int64]
    annotators: NDArray[np.str_]
    kinds: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.margins)

    @property
    def correct(self) -> Floats:
        """(P,) 1 where the scores agree with the annotator, 0 where not, 0.5 where equal."""
        return 0.5 + 0.5 * np.sign(self.margins)


@dataclass(frozen=True)
class Accuracy:
    """Share of decided answers that the scores agree with, whole and in parts.

    `by_length` says where the preferred sample stood in length (see `LENGTH_BINS`): a model that
    is right only where the longer sample was preferred has learned length. Empty parts are absent.
    """

    overall: Share
    by_strength: dict[int, Share]
    by_length: dict[str, Share]
    by_annotator: dict[str, Share]
    by_kind: dict[str, Share]


@dataclass(frozen=True)
class Bin:
    """Answers the model was about equally sure of: what it foresaw, and what came."""

    low: float
    high: float
    predicted: float
    observed: Share


@dataclass(frozen=True)
class Calibration:
    """Whether a model that is 80 % sure is right in 80 % of the answers.

    Attributes:
        error: expected calibration error, the mean of |predicted - observed| over bins by weight.
        brier: mean squared distance of the probability of the answer given from 1.
        nll: mean negative log-probability of the answer given, in nats; log 2 is a coin's.
        table: bins of confidence from 0.5 to 1 that hold answers, for a reliability diagram.
    """

    error: float
    brier: float
    nll: float
    table: tuple[Bin, ...]


def decided_pairs(
    entries: Iterable[FeedbackBase],
    scores: Mapping[str, float],
    *,
    lengths: Mapping[str, float] | None = None,
    reliabilities: Mapping[str, float] | None = None,
) -> Pairs:
    """Collect the pairs that entries decide; ties and single samples decide none.

    Args:
        entries: of any kinds.
        scores: raw score by sample id, for every sample of a decided pair.
        lengths: words, tokens or steps by sample id.
        reliabilities: beta by annotator.

    Raises:
        KeyError: a sample has no score or, where lengths are given, no length.
    """
    betas = reliabilities or {}
    rows = [
        (
            scores[better] - scores[worse],
            betas.get(entry.annotator, 1.0),
            1 / len(pairs),
            _relative(lengths[better], lengths[worse]) if lengths is not None else np.nan,
            entry.decided_strength,
            entry.annotator,
            entry.kind_name(),
        )
        for entry in entries
        if (pairs := entry.preferred_pairs())
        for better, worse in pairs
    ]
    columns = list(zip(*rows, strict=True)) or [()] * 7
    margins, betas, weights, differences = (np.array(c, np.float64) for c in columns[:4])
    annotators, kinds = (np.array(c, np.str_) for c in columns[5:])
    return Pairs(
        margins=margins,
        betas=betas,
        weights=weights,
        lengths=differences,
        strengths=np.array(columns[4], np.int64),
        annotators=annotators,
        kinds=kinds,
    )


def reward_accuracy(pairs: Pairs, *, confidence: float = 0.95) -> Accuracy | None:
    """How often the scores agree with the annotators; None without pairs.

    Args:
        pairs: held-out ones, as a rule.
        confidence: of the intervals.
    """
    if not len(pairs):
        return None

    def share(chosen: NDArray[np.bool_]) -> Share:
        weights = pairs.weights[chosen]
        return wilson(float(weights @ pairs.correct[chosen]), float(weights.sum()), confidence)

    def parts(column: NDArray[Any]) -> dict[Any, Share]:
        return {label.item(): share(column == label) for label in np.unique(column)}

    known = np.isfinite(pairs.lengths)
    bins = length_bins(np.where(known, pairs.lengths, 0.0))
    by_length = {
        name: share(chosen)
        for i, name in enumerate(LENGTH_BINS)
        if (chosen := known & (bins == i)).any()
    }
    return Accuracy(
        overall=share(np.ones(len(pairs), np.bool_)),
        by_strength=parts(pairs.strengths),
        by_length=by_length,
        by_annotator=parts(pairs.annotators),
        by_kind=parts(pairs.kinds),
    )


def rated_apart(
    entries: Iterable[FeedbackBase],
    scores: Mapping[str, float],
    samples: Mapping[str, Sample],
    *,
    confidence: float = 0.95,
) -> Share | None:
    """How often the scores order two samples of one prompt like the levels that they were given.

    Across prompts a model may be right that has only learned which prompts get good replies, which
    is nothing to train a policy on. All pairs of one prompt and kind weigh 1 together; a sample's
    level is the mean of all that it was given in that kind. None where no two samples of a prompt
    have different levels.

    Args:
        entries: held-out ones; those that speak of several samples are left out.
        scores: raw score by sample id.
        samples: by id.
        confidence: of the interval.
    """
    levels: dict[tuple[str, str], dict[str, list[float]]] = {}
    for entry in entries:
        if (level := entry.level_said()) is not None:
            (name,) = entry.sample_ids
            group = levels.setdefault((samples[name].prompt_id, entry.kind_name()), {})
            group.setdefault(name, []).append(level[1])
    right: list[float] = []
    for group in levels.values():
        means = {name: float(np.mean(given)) for name, given in group.items()}
        agree = [
            0.5 + 0.5 * np.sign((means[a] - means[b]) * (scores[a] - scores[b]))
            for a, b in combinations(means, 2)
            if means[a] != means[b]
        ]
        if agree:
            right.append(float(np.mean(agree)))
    return wilson(sum(right), len(right), confidence) if right else None


def calibration(pairs: Pairs, *, bins: int = 10, confidence: float = 0.95) -> Calibration | None:
    """Compare how sure the model was with how often it was right; None without pairs.

    Of two samples whose scores differ by m, an annotator of reliability beta who does not call a
    tie prefers the better with probability s(beta m), s the logistic function (Bradley-Terry, and
    Davidson's ties alike). The model's confidence, s(beta |m|), lies between 0.5 and 1 and falls
    into `bins` of equal width (Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3).
    """
    if bins < 1:
        raise ValueError(f"{bins} bins")
    if not len(pairs):
        return None
    total = float(pairs.weights.sum())
    sure = expit(pairs.betas * np.abs(pairs.margins))
    edges = np.linspace(0.5, 1.0, bins + 1)
    places = np.clip(np.searchsorted(edges, sure, side="right") - 1, 0, bins - 1)
    table: list[Bin] = []
    error = 0.0
    for place in np.unique(places):
        chosen = places == place
        weights = pairs.weights[chosen]
        count = float(weights.sum())
        predicted = float(weights @ sure[chosen]) / count
        observed = wilson(float(weights @ pairs.correct[chosen]), count, confidence)
        error += count / total * abs(predicted - observed.value)
        table.append(Bin(float(edges[place]), float(edges[place + 1]), predicted, observed))
    utility = pairs.betas * pairs.margins
    return Calibration(
        error=error,
        brier=float(pairs.weights @ expit(-utility) ** 2) / total,
        nll=-float(pairs.weights @ log_expit(utility)) / total,
        table=tuple(table),
    )


def length_bins(lengths: Floats) -> NDArray[np.int64]:
    """Index into `LENGTH_BINS` of each relative length difference."""
    sizes = np.searchsorted(LENGTH_EDGES, np.abs(lengths), side="left")
    return (len(LENGTH_EDGES) + np.sign(lengths) * sizes).astype(np.int64)


def _relative(preferred: float, other: float) -> float:
    longest = max(preferred, other)
    return (preferred - other) / longest if longest > 0 else 0.0

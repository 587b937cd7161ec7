"""How good a reward model is, as figures that a report and a run's record hold."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from scipy.stats import rankdata

from backflip.evaluation.reward import (
    Accuracy,
    Floats,
    calibration,
    decided_pairs,
    rated_apart,
    reward_accuracy,
)
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase
from backflip.records.figures import (
    AgainstGold,
    KeptAccuracy,
    KeptCalibration,
    KeptChance,
    KeptShare,
    RewardFigures,
)
from backflip.statistics import Share


def reward_report(
    entries: Sequence[FeedbackBase],
    scores: Mapping[str, float],
    samples: Mapping[str, Sample],
    reliabilities: Mapping[str, float],
    gold: Mapping[str, float] | None = None,
) -> RewardFigures:
    """Accuracy, calibration and what was learned of the annotators, on held-out entries.

    Args:
        entries: feedback that was not trained on.
        scores: raw score of every sample the entries speak of.
        samples: those samples; their lengths show whether the model has only learned length.
        reliabilities: learned beta by annotator.
        gold: gold measure of those samples, where it is known.
    """
    lengths = {name: float(samples[name].content.length) for name in scores}
    pairs = decided_pairs(entries, scores, lengths=lengths, reliabilities=reliabilities)
    accuracy, calibrated = reward_accuracy(pairs), calibration(pairs)
    return RewardFigures(
        accuracy=_kept(accuracy) if accuracy else None,
        calibration=KeptCalibration(**asdict(calibrated)) if calibrated else None,
        chance=_against_chance(accuracy, rated_apart(entries, scores, samples)),
        reliabilities=dict(reliabilities),
        gold=against_gold(entries, scores, gold) if gold else None,
    )


def _kept(accuracy: Accuracy) -> KeptAccuracy:
    told = asdict(accuracy)
    by_strength = {str(strength): share for strength, share in told["by_strength"].items()}
    return KeptAccuracy(**{**told, "by_strength": by_strength})


def _against_chance(accuracy: Accuracy | None, apart: Share | None) -> KeptChance | None:
    """A share of which a model that knows nothing has one half, by whichever answers are more.

    Of "pairs" that answers decide, or of "prompts rated apart", whose samples were given different
    levels. None where there are neither.
    """
    if accuracy and (apart is None or accuracy.overall.count >= apart.count):
        return KeptChance(**asdict(accuracy.overall), of="pairs")
    return KeptChance(**asdict(apart), of="prompts rated apart") if apart else None


def against_gold(
    entries: Sequence[FeedbackBase], scores: Mapping[str, float], gold: Mapping[str, float]
) -> AgainstGold:
    """How far what is being judged by is to be trusted, and how near to it the scores come.

    Annotators err, so no scores can be expected to agree with them much better than gold does.
    """
    accuracy = reward_accuracy(decided_pairs(entries, gold))
    ours = np.array([scores[name] for name in scores])
    true = np.array([gold[name] for name in scores])
    defined = len(ours) > 2 and np.ptp(ours) > 0 and np.ptp(true) > 0
    return AgainstGold(
        accuracy=KeptShare(**asdict(accuracy.overall)) if accuracy else None,
        correlation=_correlation(rankdata(ours), rankdata(true)) if defined else None,
    )


def _correlation(ours: Floats, true: Floats) -> float:
    return float(np.corrcoef(ours, true)[0, 1])

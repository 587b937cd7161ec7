"""How good a reward model is, as figures that a report and a run's record hold."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from backflip.evaluation.reward import calibration, decided_pairs, reward_accuracy
from backflip.feedback.kinds import FeedbackBase
from backflip.records import Sample


def reward_report(
    entries: Sequence[FeedbackBase],
    scores: Mapping[str, float],
    samples: Mapping[str, Sample],
    reliabilities: Mapping[str, float],
) -> dict[str, Any]:
    """Accuracy, calibration and what was learned of the annotators, on held-out entries.

    Args:
        entries: feedback that was not trained on.
        scores: raw score of every sample the entries speak of.
        samples: those samples; their lengths show whether the model has only learned length.
        reliabilities: learned beta by annotator.

    Returns:
        "accuracy" and "calibration" (None where no entry decides a pair) and "reliabilities".
    """
    lengths = {name: float(samples[name].content.length) for name in scores}
    pairs = decided_pairs(entries, scores, lengths=lengths, reliabilities=reliabilities)
    accuracy, calibrated = reward_accuracy(pairs), calibration(pairs)
    return {
        "accuracy": asdict(accuracy) if accuracy else None,
        "calibration": asdict(calibrated) if calibrated else None,
        "reliabilities": dict(reliabilities),
    }

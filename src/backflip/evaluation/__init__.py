"""Is it better, by whom, at what distance, and how far can the reward model be trusted."""

from backflip.evaluation.reward import (
    Accuracy,
    Bin,
    Calibration,
    Pairs,
    calibration,
    decided_pairs,
    reward_accuracy,
)
from backflip.evaluation.summary import reward_report
from backflip.evaluation.winrate import Interval, clustered_interval, outcomes, win_rate
from backflip.feedback.quality import Share, wilson

__all__ = [
    "Accuracy",
    "Bin",
    "Calibration",
    "Interval",
    "Pairs",
    "Share",
    "calibration",
    "clustered_interval",
    "decided_pairs",
    "outcomes",
    "reward_accuracy",
    "reward_report",
    "wilson",
    "win_rate",
]

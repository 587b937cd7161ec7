"""Is it better, by whom, at what distance, and how far can the reward model be trusted."""

from backflip.evaluation.holding import Holdings, holding_lines, holdings, order_of, tells_apart
from backflip.evaluation.reward import (
    Accuracy,
    Bin,
    Calibration,
    Pairs,
    calibration,
    decided_pairs,
    rated_apart,
    reward_accuracy,
)
from backflip.evaluation.summary import reward_report
from backflip.evaluation.verdict import doubt_of_feedback, doubt_of_reward, headline
from backflip.evaluation.winrate import Interval, clustered_interval, outcomes, win_rate

__all__ = [
    "Accuracy",
    "Bin",
    "Calibration",
    "Holdings",
    "Interval",
    "Pairs",
    "calibration",
    "clustered_interval",
    "decided_pairs",
    "doubt_of_feedback",
    "doubt_of_reward",
    "headline",
    "holding_lines",
    "holdings",
    "order_of",
    "outcomes",
    "rated_apart",
    "reward_accuracy",
    "reward_report",
    "tells_apart",
    "win_rate",
]

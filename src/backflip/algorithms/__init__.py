"""Algorithms, one file each; importing this registers all of them."""

from backflip.algorithms.base import (
    ALGORITHMS,
    ActionInputs,
    Algorithm,
    AlgorithmSettings,
    Batch,
    OfflineAlgorithm,
    OfflineSettings,
    OnlineAlgorithm,
    OnlineSettings,
    Outputs,
    PolicyOutput,
    Rollouts,
    Term,
    cut_by_size,
    make_algorithm,
    register,
    type_of,
)
from backflip.algorithms.dpo import DPO, DPOSettings
from backflip.algorithms.ppo import PPO, PPOSettings, place_at_end

__all__ = [
    "ALGORITHMS",
    "DPO",
    "PPO",
    "ActionInputs",
    "Algorithm",
    "AlgorithmSettings",
    "Batch",
    "DPOSettings",
    "OfflineAlgorithm",
    "OfflineSettings",
    "OnlineAlgorithm",
    "OnlineSettings",
    "Outputs",
    "PPOSettings",
    "PolicyOutput",
    "Rollouts",
    "Term",
    "cut_by_size",
    "make_algorithm",
    "place_at_end",
    "register",
    "type_of",
]

"""Algorithms, one file each; importing this registers all of them."""

from backflip.algorithms.base import (
    ALGORITHMS,
    ActionInputs,
    Algorithm,
    AlgorithmSettings,
    LossTerm,
    OfflineAlgorithm,
    OfflineSettings,
    OnlineAlgorithm,
    OnlineSettings,
    Outputs,
    PolicyOutput,
    Rollouts,
    TrainBatch,
    make_algorithm,
    micro_batch_indices,
    register,
    type_of,
)
from backflip.algorithms.dpo import DPO, DPOSettings
from backflip.algorithms.ppo import PPO, PPOSettings, reward_at_last_action

__all__ = [
    "ALGORITHMS",
    "DPO",
    "PPO",
    "ActionInputs",
    "Algorithm",
    "AlgorithmSettings",
    "DPOSettings",
    "LossTerm",
    "OfflineAlgorithm",
    "OfflineSettings",
    "OnlineAlgorithm",
    "OnlineSettings",
    "Outputs",
    "PPOSettings",
    "PolicyOutput",
    "Rollouts",
    "TrainBatch",
    "make_algorithm",
    "micro_batch_indices",
    "register",
    "reward_at_last_action",
    "type_of",
]

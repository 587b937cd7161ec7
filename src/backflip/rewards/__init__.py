"""Rewards: what is learned from feedback, written by hand, or mixed from both."""

from backflip.rewards.annotators import AnnotatorModel
from backflip.rewards.base import Inputs, Reward, Scorer
from backflip.rewards.batching import score_samples
from backflip.rewards.ensemble import EnsembleReward
from backflip.rewards.fit import FitReport, RewardFit
from backflip.rewards.functions import FunctionReward
from backflip.rewards.likelihood import LIKELIHOODS, Choices, is_choice, kind_of
from backflip.rewards.mixture import GatedReward, MixtureReward
from backflip.rewards.pairs import preferred_pairs, undecided_as
from backflip.rewards.split import heldout_side, split_by_prompt
from backflip.rewards.text import TextReward
from backflip.rewards.trained import TrainedReward

__all__ = [
    "LIKELIHOODS",
    "AnnotatorModel",
    "Choices",
    "EnsembleReward",
    "FitReport",
    "FunctionReward",
    "GatedReward",
    "Inputs",
    "MixtureReward",
    "Reward",
    "RewardFit",
    "Scorer",
    "TextReward",
    "TrainedReward",
    "heldout_side",
    "is_choice",
    "kind_of",
    "preferred_pairs",
    "score_samples",
    "split_by_prompt",
    "undecided_as",
]

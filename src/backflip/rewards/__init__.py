"""Rewards: what is learned from feedback, written by hand, or mixed from both."""

from backflip.rewards.base import Inputs, Reward, Scorer
from backflip.rewards.batching import score_samples
from backflip.rewards.learning.annotators import AnnotatorModel
from backflip.rewards.learning.fit import FitReport, RewardFit
from backflip.rewards.learning.likelihood import LIKELIHOODS, Choices, likelihood
from backflip.rewards.learning.pairs import preferred_pairs, undecided_as
from backflip.rewards.learning.split import heldout_side, split_by_prompt
from backflip.rewards.sources.ensemble import EnsembleReward
from backflip.rewards.sources.functions import FunctionReward
from backflip.rewards.sources.mixture import GatedReward, MixtureReward
from backflip.rewards.sources.text import TextReward
from backflip.rewards.sources.trained import TrainedReward

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
    "likelihood",
    "preferred_pairs",
    "score_samples",
    "split_by_prompt",
    "undecided_as",
]

"""Training: the learner, checkpoints, and a trainee for every stage."""

from backflip.training.checkpoints import Checkpoints, State
from backflip.training.domains.domain import Domain, Given, Save
from backflip.training.fit import Trainer, fit
from backflip.training.learner import Learner, LossPart, Policy, ValueModel
from backflip.training.optimizer import Optimizer
from backflip.training.trainers.on_policy import OnPolicyTrainer
from backflip.training.trainers.preference import PreferenceTrainer, decided_pairs, offline_steps
from backflip.training.trainers.reward_model import RewardTrainer

__all__ = [
    "Checkpoints",
    "Domain",
    "Given",
    "Learner",
    "LossPart",
    "OnPolicyTrainer",
    "Optimizer",
    "Policy",
    "PreferenceTrainer",
    "RewardTrainer",
    "Save",
    "State",
    "Trainer",
    "ValueModel",
    "decided_pairs",
    "fit",
    "offline_steps",
]

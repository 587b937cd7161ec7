"""Training: the learner, checkpoints, and a trainee for every stage."""

from backflip.training.checkpoints import Checkpoints, State
from backflip.training.domains.domain import Domain, Given, Save
from backflip.training.fit import Trainee, fit
from backflip.training.learner import Learner, Part, Policy, ValueModel
from backflip.training.optimizer import Optimizer
from backflip.training.trainers.on_policy import RolloutTraining
from backflip.training.trainers.preference import PairTraining, decided_pairs, offline_steps
from backflip.training.trainers.reward_model import RewardTraining

__all__ = [
    "Checkpoints",
    "Domain",
    "Given",
    "Learner",
    "Optimizer",
    "PairTraining",
    "Part",
    "Policy",
    "RewardTraining",
    "RolloutTraining",
    "Save",
    "State",
    "Trainee",
    "ValueModel",
    "decided_pairs",
    "fit",
    "offline_steps",
]

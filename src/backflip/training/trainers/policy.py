"""The trainer of a policy, by what its algorithm consumes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backflip.algorithms import AnyAlgorithm, Consumes, OfflineAlgorithm, OnlineAlgorithm
from backflip.config import SamplingSettings
from backflip.records import Prompt
from backflip.rewards import Reward
from backflip.sampling import Sampler
from backflip.training.agreement import Spell
from backflip.training.fit import Trainer
from backflip.training.learner import Learner, Policy, ValueModel
from backflip.training.trainers.auxiliary import ReadText, pretraining_mix
from backflip.training.trainers.on_policy import Collate, OnPolicyTrainer, Watch
from backflip.training.trainers.preference import Pair, PreferenceTrainer, offline_steps


@dataclass(frozen=True, kw_only=True)
class PolicyParts:
    """What the trainer of a policy may be made of; what takes time is made when it is asked for.

    Attributes:
        network: the policy that is trained.
        collate: makes the policy's inputs of samples.
        spell: names an action of a sample in messages.
        sampling: how the policy acts.
        precision: what policy and sampler are computed in.
        seed: of the stage.
        reference: a frozen policy to stay near; None where the policy holds one itself.
        sampler: lets the policy act.
        reward: scores what it did.
        value: a value model to train beside it.
        prompts: what it may be asked.
        pairs: samples that were judged, the better one first.
        text: reads files of text.
        watch: measures of rollouts that training never sees.
    """

    network: Policy
    collate: Collate
    spell: Spell
    sampling: SamplingSettings
    precision: torch.dtype
    seed: int
    reference: Callable[[], Policy | None]
    sampler: Callable[[], Sampler]
    reward: Callable[[], Reward]
    value: Callable[[], ValueModel]
    prompts: Callable[[], Sequence[Prompt]]
    pairs: Callable[[], Sequence[Pair]]
    text: ReadText
    watch: Watch | None = None


def _on_rollouts(algorithm: OnlineAlgorithm[Any, Any], parts: PolicyParts) -> Trainer:
    settings = algorithm.settings
    learner = Learner(
        parts.network,
        settings.optimizer,
        total_updates=settings.steps * settings.epochs * settings.minibatches,
        reference=parts.reference(),
        value=parts.value() if "values" in algorithm.needs else None,
        value_learning_rate=algorithm.value_learning_rate,
    )
    return OnPolicyTrainer(
        algorithm=algorithm,
        learner=learner,
        sampler=parts.sampler(),
        reward=parts.reward(),
        prompts=parts.prompts(),
        sampling=parts.sampling,
        collate=parts.collate,
        seed=parts.seed,
        precision=parts.precision,
        spell=parts.spell,
        watch=parts.watch,
        auxiliary=pretraining_mix(settings.mixed_text, parts.text, seed=parts.seed),
    )


def _on_pairs(algorithm: OfflineAlgorithm[Any, Any], parts: PolicyParts) -> Trainer:
    pairs = parts.pairs()
    learner = Learner(
        parts.network,
        algorithm.settings.optimizer,
        total_updates=offline_steps(len(pairs), algorithm.settings),
        reference=parts.reference() if "reference" in algorithm.needs else None,
    )
    return PreferenceTrainer(
        algorithm=algorithm,
        learner=learner,
        pairs=pairs,
        collate=parts.collate,
        seed=parts.seed,
    )


TRAINERS: dict[Consumes, Callable[[Any, PolicyParts], Trainer]] = {
    "rollouts": _on_rollouts,
    "pairs": _on_pairs,
}
"""One trainer for each thing that algorithms consume."""


def make_trainer(algorithm: AnyAlgorithm, parts: PolicyParts) -> Trainer:
    """The trainer that feeds an algorithm what it consumes."""
    return TRAINERS[algorithm.consumes](algorithm, parts)

"""Proximal policy optimisation (Schulman et al. 2017) as RLHF uses it.

Follows InstructGPT (Ouyang et al. 2022, section 3.5 and appendix C) and "The N+ Implementation
Details of RLHF with PPO" (Huang et al. 2024). The reward of an action is

    r_t = -beta * KL_t + [t is the last action] * (score - missing-EOS penalty)

with KL_t an estimate from the sampled action, and the penalty for a reply that reached its length
limit before the policy ended it; advantages are GAE's over r with the value model, whitened over
the batch; policy and value losses are clipped.

Departures: the early stop on KL of OpenAI's Spinning Up is added (`max_kl`); the KL controller is
that of Ziegler et al. 2019, section 2.2, moved once a step. A sample that is scored as a whole
counts as ended where it was cut off: its score says how good it is as it stands, and what would
have come after earns nothing. Where steps have rewards of their own and the clock of an
environment cut a clip short, the value of the state it was cut in stands for the rest (Pardo et
al. 2018, "Time Limits in Reinforcement Learning").
"""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from backflip.algorithms.base import (
    Need,
    OnlineAlgorithm,
    OnlineSettings,
    Outputs,
    Rollouts,
    register,
)
from backflip.algorithms.batches import LossTerm, PolicyBatch
from backflip.config.bounds import Count, NotNegative, Positive, Share
from backflip.losses import clipped_policy_loss, clipped_value_loss, gae, kl_estimate, whiten


class PPOSettings(OnlineSettings):
    """Settings of PPO; the defaults are those of the N+ paper where it has one."""

    type: Literal["ppo"] = "ppo"
    epochs: Count = Field(default=4, description="passes over each step's rollouts")
    minibatches: Count = Field(default=1, description="updates an epoch")
    clip: Positive = Field(default=0.2, description="how far the probability ratio may leave 1")
    value_clip: Positive = Field(default=0.2, description="how far a value may leave its old one")
    value_coefficient: NotNegative = Field(default=0.1, description="weight of the value loss")
    value_learning_rate: Positive | None = Field(
        default=None, description="none: that of the policy"
    )
    entropy_coefficient: NotNegative = Field(
        default=0.0, description="weight of the policy's entropy, which is made larger"
    )
    gamma: Share = Field(default=1.0, gt=0, description="discount of later rewards")
    gae_lambda: Share = Field(default=0.95, description="0: one-step advantages, 1: Monte Carlo")
    kl_beta: NotNegative = Field(default=0.05, description="reward lost for a nat of KL")
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k1", description="of the KL of an action"
    )
    kl_target: Positive | None = Field(
        default=None, description="nats a sample; moves kl_beta towards it"
    )
    kl_horizon: Positive = Field(
        default=200.0, description="samples over which an error of 1 moves kl_beta by 1"
    )
    whiten_rewards: bool = Field(
        default=False, description="scale rewards to variance 1, over the batch"
    )
    whiten_advantages: bool = Field(
        default=True, description="bring advantages to mean 0 and variance 1, over the batch"
    )
    missing_eos_penalty: NotNegative = Field(
        default=1.0,
        description="taken from the score of a reply that reached its length limit",
    )
    max_kl: Positive | None = Field(
        default=None,
        description="nats an action from the acting policy; the update that sees more is the last",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        unused = self.kl_horizon != type(self).model_fields["kl_horizon"].default
        if unused and self.kl_target is None:
            raise ValueError("kl_horizon belongs to kl_target; without one kl_beta stays")
        return self

    def faults(self, *, in_environment: bool) -> list[str]:
        found = super().faults(in_environment=in_environment)
        usual = type(self).model_fields["missing_eos_penalty"].default
        if in_environment and self.missing_eos_penalty not in (0.0, usual):
            found.append(
                "algorithm.missing_eos_penalty: belongs to replies that reach their length limit, "
                "and a clip has no such end; leave it out"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class PPOBatch(PolicyBatch):
    """Rollouts with advantages, and what the value model is to learn from them."""

    old_values_BT: Tensor
    returns_BT: Tensor


@register
class PPO(OnlineAlgorithm[PPOSettings, PPOBatch]):
    """PPO with a value model, KL in the reward and a fixed or adaptive KL coefficient."""

    settings_type = PPOSettings

    def __init__(self, settings: PPOSettings):
        super().__init__(settings)
        self.kl_beta = settings.kl_beta

    @property
    def needs(self) -> frozenset[Need]:
        entropy: tuple[Need, ...] = ("entropy",) if self.settings.entropy_coefficient > 0 else ()
        return frozenset(("values", "reference", "old_logprobs", *entropy))

    @property
    def value_learning_rate(self) -> float | None:
        return self.settings.value_learning_rate

    def credit(self, rollouts: Rollouts) -> tuple[PPOBatch, dict[str, float]]:
        config, mask = self.settings, rollouts.mask_BT
        kl_BT = kl_estimate(
            logprobs=rollouts.logprobs_BT,
            ref_logprobs=rollouts.ref_logprobs_BT,
            estimator=config.kl_estimator,
        ).masked_fill(~mask, 0.0)
        penalty_B = config.missing_eos_penalty * rollouts.missing_eos_B.to(rollouts.scores_B.dtype)
        rewards_BT = (
            reward_at_last_action(rollouts.scores_B - penalty_B, mask) - self.kl_beta * kl_BT
        )
        if rollouts.step_rewards_BT is not None:
            rewards_BT = rewards_BT + rollouts.step_rewards_BT.masked_fill(~mask, 0.0)
        if config.whiten_rewards:
            rewards_BT = whiten(values=rewards_BT, mask=mask, shift_mean=False)
        advantages_BT, returns_BT = gae(
            rewards_BT=rewards_BT,
            values_BT=rollouts.values_BT,
            mask_BT=mask,
            bootstrap_B=rollouts.bootstrap_B,
            gamma=config.gamma,
            lam=config.gae_lambda,
        )
        if config.whiten_advantages:
            advantages_BT = whiten(values=advantages_BT, mask=mask)
        batch = PPOBatch(
            inputs=rollouts.inputs,
            old_logprobs_BT=rollouts.logprobs_BT,
            old_values_BT=rollouts.values_BT,
            advantages_BT=advantages_BT,
            returns_BT=returns_BT,
        )
        return batch, self._measure(rollouts, kl_BT, returns_BT, returns_BT - rollouts.values_BT)

    def _measure(
        self, rollouts: Rollouts, kl_BT: Tensor, returns_BT: Tensor, errors_BT: Tensor
    ) -> dict[str, float]:
        mask = rollouts.mask_BT
        error = errors_BT[mask]
        variance = returns_BT[mask].var(unbiased=False)
        return {
            "kl_beta": self.kl_beta,
            "penalised_reward": float(rollouts.scores_B.mean())
            - self.kl_beta * float(kl_BT.sum(1).mean()),
            "value_explained": float(1 - error.var(unbiased=False) / variance.clamp_min(1e-8)),
        }

    def loss(self, outputs: Outputs, batch: PPOBatch) -> list[LossTerm]:
        config, mask = self.settings, batch.mask_BT
        policy_sum, policy_metrics = clipped_policy_loss(
            logprobs_BT=outputs.logprobs_BT,
            old_logprobs_BT=batch.old_logprobs_BT,
            advantages_BT=batch.advantages_BT,
            mask_BT=mask,
            clip=config.clip,
        )
        del policy_metrics["ratio_max"]  # a maximum; terms are sums over actions
        value_sum, value_metrics = clipped_value_loss(
            values_BT=outputs.values_BT,
            old_values_BT=batch.old_values_BT,
            returns_BT=batch.returns_BT,
            mask_BT=mask,
            clip=config.value_clip,
        )
        terms = [
            LossTerm("policy_loss", policy_sum, weight=1.0),
            LossTerm("value_loss", value_sum, weight=config.value_coefficient),
            *(LossTerm(name, total) for name, total in {**policy_metrics, **value_metrics}.items()),
        ]
        if "entropy" in self.needs:
            entropy = outputs.entropy_BT.masked_fill(~mask, 0.0).sum()
            terms.append(LossTerm("entropy", entropy, weight=-config.entropy_coefficient))
        return terms

    def should_stop(self, metrics: dict[str, float]) -> bool:
        limit = self.settings.max_kl
        return limit is not None and metrics["approx_kl"] > limit

    def after_step(self, metrics: dict[str, float]) -> None:
        target = self.settings.kl_target
        if target is None:
            return
        error = min(max(metrics["kl"] / target - 1, -0.2), 0.2)
        self.kl_beta *= 1 + error * metrics["num_samples"] / self.settings.kl_horizon

    def state(self) -> dict[str, float]:
        return {"kl_beta": self.kl_beta}

    def load_state(self, state: dict[str, float]) -> None:
        self.kl_beta = state["kl_beta"]


def reward_at_last_action(scores_B: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T) zeros with each row's score at its last action."""
    last = mask_BT.sum(1) - 1
    if bool((last < 0).any()):
        raise ValueError("a sample without actions cannot be rewarded")
    placed = torch.zeros(mask_BT.shape, dtype=scores_B.dtype)
    placed[torch.arange(len(scores_B)), last] = scores_B
    return placed

"""Training a policy on what it does now: sample, score, credit, update."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backflip.algorithms import OnlineAlgorithm, OnlineSettings, Rollouts, TrainBatch
from backflip.config import SamplingSettings
from backflip.errors import TrainingError
from backflip.records import Order, Prompt, Sample, derive_seed, pick
from backflip.rewards.base import Reward, Scored, scored
from backflip.sampling import Sampler
from backflip.training.agreement import Spell, require_agreement, tolerance
from backflip.training.checkpoints import State
from backflip.training.learner import Learner, LossPart
from backflip.training.trainers.auxiliary import AuxiliaryLoss

Collate = Callable[[Sequence[Sample]], Any]
Watch = Callable[[Sequence[Sample]], dict[str, float]]


class OnPolicyTrainer:
    """Trains algorithms that consume rollouts: a step is one batch of them and its epochs.

    Args:
        collate: makes the policy's inputs of samples.
        precision: what policy and sampler are computed in: how far rounding may part the two.
        spell: names an action of a sample in messages.
        watch: measures of the rollouts that training never sees (gold, length).
        auxiliary: a loss to add to every update, by the number of the update (pre-training mix).
    """

    def __init__(
        self,
        *,
        algorithm: OnlineAlgorithm[Any, Any],
        learner: Learner,
        sampler: Sampler,
        reward: Reward,
        prompts: Sequence[Prompt],
        sampling: SamplingSettings,
        collate: Collate,
        seed: int,
        precision: torch.dtype,
        spell: Spell,
        watch: Watch | None = None,
        auxiliary: AuxiliaryLoss | None = None,
    ):
        self.algorithm = algorithm
        self.settings: OnlineSettings = algorithm.settings
        self.learner = learner
        self.sampler = sampler
        self.reward = reward
        self.prompts = prompts
        self.sampling = sampling
        self.collate = collate
        self.seed = seed
        self.watch = watch
        self.auxiliary = auxiliary
        self.tolerance = tolerance(precision)
        self.spell = spell
        self.order = Order(len(prompts), derive_seed(seed, "prompts"))
        self.num_steps = self.settings.steps

    def step(self, step: int) -> dict[str, float]:
        number = self.settings.prompts_per_step
        prompts = pick(self.prompts, self.order.take(step * number, number))
        self.sampler.load(self.learner.weights(), version=step)
        samples: list[Sample] = []
        each = self.settings.samples_per_prompt
        for turn, asked in enumerate(split_repeats(prompts)):
            seed = derive_seed(self.seed, "rollout", step, turn)
            samples += self.sampler.sample(asked, self.sampling, num_samples=each, seed=seed)
        rollouts = self.observe(samples)
        self._require_agreement(rollouts)
        batch, metrics = self.algorithm.credit(rollouts)
        metrics |= describe(rollouts) | (self.watch(samples) if self.watch else {})
        metrics |= self.update(batch, step)
        self.algorithm.after_step(metrics)
        return metrics

    def observe(self, samples: Sequence[Sample]) -> Rollouts:
        """Score the samples and measure them under policy, reference and value model."""
        found = [
            (sample, each)
            for sample, each in zip(samples, scored(self.reward, samples), strict=True)
            if each is not None
        ]
        if not found:
            raise TrainingError(
                "the reward applies to none of the samples",
                hint="Check that the reward model was trained for samples of this kind.",
            )
        kept, said = [sample for sample, _ in found], [each for _, each in found]
        inputs = self.collate(kept)
        values, bootstrap, drawn_at = None, None, self.sampling.temperature
        steps = step_rewards(said, inputs.mask_BT)
        if "values" in self.algorithm.needs:
            values = self.learner.values(inputs)
            if steps is not None:
                cut = torch.tensor([sample.content.cut_by_clock for sample in kept])
                bootstrap = self.learner.final_values(inputs).masked_fill(~cut, 0.0)
        return Rollouts(
            samples=kept,
            inputs=inputs,
            logprobs_BT=self.learner.logprobs(inputs, temperature=drawn_at),
            ref_logprobs_BT=self.learner.ref_logprobs(inputs, temperature=drawn_at),
            scores_B=torch.tensor([each.value for each in said], dtype=torch.float32),
            missing_eos_B=torch.tensor([sample.content.missing_eos for sample in kept]),
            values_BT=values,
            step_rewards_BT=steps,
            bootstrap_B=bootstrap,
            reward_parts=mean_parts(said),
        )

    def _require_agreement(self, rollouts: Rollouts) -> None:
        drawn_at = self.sampling.temperature

        def shaken(seed: int) -> Tensor:
            return self.learner.shaken_logprobs(rollouts.inputs, temperature=drawn_at, seed=seed)

        require_agreement(
            rollouts.samples,
            rollouts.logprobs_BT,
            rollouts.mask_BT,
            self.tolerance,
            self.spell,
            shaken,
        )

    def update(self, batch: TrainBatch, step: int) -> dict[str, float]:
        """The updates on one batch; the metrics are means over those that were made.

        The algorithm may end them after any update. It goes by what that update measured of its
        minibatch before it moved the weights, so the update that tells it to stop has been made.
        """
        made: list[dict[str, float]] = []
        for minibatch in self._minibatches(batch, step):
            parts = [
                LossPart(
                    minibatch,
                    self.algorithm.loss,
                    needs=self.algorithm.needs,
                    temperature=self.sampling.temperature,
                )
            ]
            if self.auxiliary is not None:
                parts.append(self.auxiliary(self.learner.optimizer.updates))
            made.append(self.learner.update(*parts))
            if self.algorithm.should_stop(made[-1]):
                break
        metrics = {name: float(np.mean([m[name] for m in made])) for name in made[0]}
        return metrics | {"updates": float(len(made))}

    def _minibatches(self, batch: TrainBatch, step: int) -> Iterator[TrainBatch]:
        """Those of all epochs, each epoch shuffled anew."""
        for epoch in range(self.settings.epochs):
            yield from split(batch, self.settings.minibatches, derive_seed(self.seed, step, epoch))

    def state(self) -> State:
        return State(self.learner.state_dict(), {"algorithm": self.algorithm.state()})

    def load_state(self, state: State) -> None:
        controllers = state.numbers("algorithm", self.algorithm.state())
        self.learner.load_state_dict(state.tensors)
        self.algorithm.load_state(controllers)


def step_rewards(said: Sequence[Scored], mask_BT: Tensor) -> Tensor | None:
    """(B, T) rewards of single actions, 0 where a sample has none; None where no sample has any."""
    if all(each.steps is None for each in said):
        return None
    placed = torch.zeros(mask_BT.shape)
    for row, (each, length) in enumerate(zip(said, mask_BT.sum(1).tolist(), strict=True)):
        if each.steps is None:
            continue
        if len(each.steps) != length:
            raise TrainingError(
                f"the reward gives {len(each.steps)} rewards of steps for {length} actions"
            )
        placed[row, :length] = torch.from_numpy(np.asarray(each.steps, np.float32))
    return placed


def mean_parts(said: Sequence[Scored]) -> dict[str, float]:
    """`reward/NAME`: the mean of each part of the reward over the samples that it speaks of."""
    names = dict.fromkeys(name for each in said for name in each.parts)
    return {
        f"reward/{name}": float(np.mean([e.parts[name] for e in said if name in e.parts]))
        for name in names
    }


def split_repeats(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Part prompts so that none stands twice in a turn: with one seed it would act the same."""
    parted: list[list[Prompt]] = []
    seen: Counter[str] = Counter()
    for prompt in prompts:
        turn = seen[prompt.id]
        seen[prompt.id] += 1
        if turn == len(parted):
            parted.append([])
        parted[turn].append(prompt)
    return parted


def split(batch: TrainBatch, parts: int, seed: int) -> list[TrainBatch]:
    """Shuffle the items of a batch into `parts` of nearly equal size; one part is the batch."""
    if parts == 1:
        return [batch]
    if parts > batch.num_items:
        raise TrainingError(
            f"{parts} minibatches were asked for, but a step has {batch.num_items} samples",
            where="algorithm.minibatches",
        )
    order = np.random.Generator(np.random.Philox(seed)).permutation(batch.num_items)
    return [
        batch.select(torch.from_numpy(np.sort(chunk))) for chunk in np.array_split(order, parts)
    ]


def describe(rollouts: Rollouts) -> dict[str, float]:
    """What every online algorithm reports: reward, distance, length, and the samplers' agreement.

    `kl` is the mean over samples of sum_t log pi - log ref, in nats. `sampler_gap` is the mean
    absolute difference between the log-probability an action was sampled with and the learner's:
    what the two copies' arithmetic differs by.
    """
    mask = rollouts.mask_BT
    lengths = mask.sum(1).float()
    kl = (rollouts.logprobs_BT - rollouts.ref_logprobs_BT).masked_fill(~mask, 0.0).sum(1)
    acted = _acted_logprobs(rollouts.samples, mask)
    return {
        **rollouts.reward_parts,
        "num_samples": float(len(rollouts.samples)),
        "reward": float(rollouts.scores_B.mean()),
        "reward_std": float(rollouts.scores_B.std(unbiased=False)),
        "kl": float(kl.mean()),
        "length": float(lengths.mean()),
        "truncated": float(np.mean([s.content.truncated for s in rollouts.samples])),
        "sampler_gap": float((acted - rollouts.logprobs_BT)[mask].abs().mean()),
    }


def _acted_logprobs(samples: Sequence[Sample], mask: Tensor) -> Tensor:
    acted = torch.zeros(mask.shape)
    for row, sample in enumerate(samples):
        logprobs = torch.from_numpy(np.array(sample.content.logprobs, dtype=np.float32))
        acted[row, : len(logprobs)] = logprobs
    return acted

"""The algorithm's seam: how rewards become advantages, and how a batch becomes a loss.

An algorithm is one file: frozen settings with a `type`, the paper it follows, `credit` and `loss`.
It never sees a model, an optimiser or text: only (B, T) tensors, one row a sample and one column
an action (a token of a reply, a step of a clip), right-padded, with `mask` True where an action
was taken. `register` makes it known to recipes, command line, docs and the contract tests.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from backflip.config import OptimizerSettings, Settings
from backflip.config.bounds import Count
from backflip.records import Sample
from backflip.rewards.base import Inputs

Unit = Literal["action", "item"]


class ActionInputs(Inputs, Protocol):
    """Inputs of a policy: samples as tensors, with the actions that were taken."""

    @property
    def mask_BT(self) -> Tensor:
        """(B, T) bool, True where an action was taken."""
        ...


class PolicyOutput(Protocol):
    """What a policy says of the actions in its inputs."""

    @property
    def logprobs_BT(self) -> Tensor: ...

    @property
    def entropy_BT(self) -> Tensor | None: ...


@dataclass(frozen=True)
class Outputs:
    """What the networks say now of a micro-batch; `values_BT` only with a value model."""

    logprobs_BT: Tensor
    entropy_BT: Tensor | None = None
    values_BT: Tensor | None = None


@dataclass(frozen=True)
class Rollouts:
    """What the policy did, and all that was measured of it before the update.

    Attributes:
        logprobs_BT, ref_logprobs_BT: log-probabilities in nats of the actions taken, under the
            policy as it acted and under the reference; anything where masked.
        values_BT: value of the state before each action; None without a value model.
        scores_B: the reward of the whole sample, given at its last action.
        step_rewards_BT: rewards of single steps, for environments; None for text.
        missing_eos_B: True where a reply reached its length limit before it ended; never of a
            clip.
    """

    samples: Sequence[Sample]
    inputs: ActionInputs
    logprobs_BT: Tensor
    ref_logprobs_BT: Tensor
    scores_B: Tensor
    missing_eos_B: Tensor
    values_BT: Tensor | None = None
    step_rewards_BT: Tensor | None = None

    @property
    def mask_BT(self) -> Tensor:
        return self.inputs.mask_BT


@dataclass(frozen=True)
class TrainBatch:
    """Rows to learn from. `rows_per_item` rows stand together and are never parted: 2 for pairs.

    The optional tensors are (B, T) like `mask_BT`; an algorithm fills those its loss reads.
    """

    inputs: ActionInputs
    rows_per_item: int = 1
    old_logprobs_BT: Tensor | None = None
    ref_logprobs_BT: Tensor | None = None
    old_values_BT: Tensor | None = None
    advantages_BT: Tensor | None = None
    returns_BT: Tensor | None = None

    @property
    def mask_BT(self) -> Tensor:
        return self.inputs.mask_BT

    @property
    def num_items(self) -> int:
        return self.inputs.num_rows // self.rows_per_item

    def totals(self) -> dict[Unit, float]:
        """What sums are divided by: actions and items of this batch."""
        return {"action": float(self.mask_BT.sum()), "item": float(self.num_items)}

    def select(self, items: Tensor) -> "TrainBatch":
        """The items with these indices, padding beyond the longest of them cut off."""
        K = self.rows_per_item
        rows = (items[:, None] * K + torch.arange(K)).flatten()
        inputs = self.inputs.select(rows)
        width = inputs.mask_BT.shape[1]
        taken = {
            name: tensor[rows][:, :width]
            for name, tensor in vars(self).items()
            if name.endswith("_BT") and tensor is not None
        }
        return replace(self, inputs=inputs, **taken)

    def micro_batches(self, max_tokens: int) -> Iterator["TrainBatch"]:
        """Cut into batches of at most `max_tokens` padded tokens, at least one item each.

        Items are taken shortest first, so that little is padded.
        """
        tokens = self.inputs.row_lengths.view(self.num_items, self.rows_per_item).amax(1)
        for items in micro_batch_indices(tokens * self.rows_per_item, max_tokens):
            yield self.select(items)


def micro_batch_indices(sizes: Tensor, limit: int) -> Iterator[Tensor]:
    """Group indices, smallest size first, so that a group's count times its largest fits."""
    group: list[int] = []
    for index in torch.argsort(sizes, stable=True).tolist():
        if group and int(sizes[index]) * (len(group) + 1) > limit:
            yield torch.tensor(group)
            group = []
        group.append(index)
    if group:
        yield torch.tensor(group)


@dataclass(frozen=True)
class LossTerm:
    """A part of a loss, or with weight 0 a metric: a sum, and the unit of the batch it is over.

    The learner divides by the unit's count over the *whole* batch, so that the result does not
    depend on micro-batches.
    """

    name: str
    sum: Tensor
    unit: Unit = "action"
    weight: float = 0.0


class AlgorithmSettings(Settings):
    """What every algorithm's settings have; a subclass adds its name as `type: Literal[...]`."""

    optimizer: OptimizerSettings = OptimizerSettings()


class OnlineSettings(AlgorithmSettings):
    """Settings of algorithms that learn from what the policy does now."""

    steps: Count = Field(default=20, description="batches of rollouts a round")
    prompts_per_step: Count = Field(default=32, description="prompts answered in each")
    samples_per_prompt: Count = Field(default=1, description="answers to each prompt")
    epochs: Count = Field(default=1, description="passes over each step's rollouts")
    minibatches: Count = Field(default=1, description="updates an epoch")


class OfflineSettings(AlgorithmSettings):
    """Settings of algorithms that learn from pairs already judged."""

    epochs: Count = Field(default=1, description="passes over all pairs")
    batch_size: Count = Field(default=16, description="pairs an update")


class Algorithm(ABC):
    """The life cycle of an algorithm; state that changes while it learns is in `state`."""

    settings_type: ClassVar[type[AlgorithmSettings]]
    family: ClassVar[Literal["online", "offline"]]
    uses_values: ClassVar[bool] = False
    uses_entropy: bool = False

    def __init__(self, settings: Any):
        self.settings = settings

    @abstractmethod
    def loss(self, outputs: Outputs, batch: TrainBatch) -> list[LossTerm]:
        """The loss of a micro-batch, in terms, and metrics."""

    def state(self) -> dict[str, float]:
        """Controllers to keep in a checkpoint."""
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Take back what `state` gave."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state but was given {sorted(state)}")


class OnlineAlgorithm(Algorithm):
    """Learns from rollouts."""

    family = "online"

    @abstractmethod
    def credit(self, rollouts: Rollouts) -> tuple[TrainBatch, dict[str, float]]:
        """Advantages for every action, and metrics of the rollouts. Pure in its arguments."""

    def should_stop(self, metrics: dict[str, float]) -> bool:
        """Whether to leave the epochs of this batch early, seen after each update."""
        return False

    def after_step(self, metrics: dict[str, float]) -> None:
        """Move controllers once a step, from the metrics of `credit`."""


class OfflineAlgorithm(Algorithm):
    """Learns from pairs: rows 2i chosen and 2i + 1 rejected, `rows_per_item` 2."""

    family = "offline"


A = TypeVar("A", bound=Algorithm)
ALGORITHMS: dict[str, type[Algorithm]] = {}


def register(algorithm: type[A]) -> type[A]:
    """Make an algorithm known by the `type` of its settings."""
    ALGORITHMS[algorithm.settings_type.model_fields["type"].default] = algorithm
    return algorithm


def make_algorithm(settings: AlgorithmSettings) -> Algorithm:
    """The algorithm that these settings are of."""
    return ALGORITHMS[type_of(settings)](settings)


def type_of(settings: AlgorithmSettings) -> str:
    """The name that an algorithm's settings carry."""
    return type(settings).model_fields["type"].default

"""The algorithm's seam: what it learns from, what it needs to know, and its loss.

An algorithm is one file: frozen settings with a `type`, the paper it follows, what it `consumes`
and `needs`, `credit` and `loss`. It never sees a model, an optimiser or text: only (B, T) tensors,
one row a sample and one column an action (a token of a reply, a step of a clip), right-padded,
with `mask` True where an action was taken. `register` makes it known to recipes, command line,
docs and the contract tests.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field
from torch import Tensor

from backflip.algorithms.batches import ActionInputs, LossTerm, PairBatch, TrainBatch
from backflip.config import OptimizerSettings, Settings
from backflip.config.bounds import Count, NotNegative, Places
from backflip.records import Sample

Need = Literal["values", "reference", "old_logprobs", "entropy"]
"""What must be measured for a loss or its credit: values of states, log-probabilities under the
reference and under the policy as it acted, the entropy of what could have been done."""
Consumes = Literal["rollouts", "pairs"]
"""What an algorithm learns from: what its policy does now, in groups of answers to one prompt; or
pairs of samples that were judged. Each has a trainer in `backflip.training.trainers`."""


def _measured(tensor: Tensor | None, need: Need) -> Tensor:
    if tensor is None:
        raise ValueError(f"nobody measured this: the algorithm does not name {need!r} in its needs")
    return tensor


class Outputs:
    """What the networks say now of a micro-batch; reading what was not asked for is an error.

    Args:
        logprobs_BT: of the actions taken, in nats, with gradients.
        entropy_BT: of what could have been done; of algorithms that need "entropy".
        values_BT: of the states before the actions; of algorithms that need "values".
    """

    def __init__(
        self,
        logprobs_BT: Tensor,
        entropy_BT: Tensor | None = None,
        values_BT: Tensor | None = None,
    ):
        self.logprobs_BT = logprobs_BT
        self._entropy_BT = entropy_BT
        self._values_BT = values_BT

    @property
    def entropy_BT(self) -> Tensor:
        return _measured(self._entropy_BT, "entropy")

    @property
    def values_BT(self) -> Tensor:
        return _measured(self._values_BT, "values")


class Rollouts:
    """What the policy did, and all that was measured of it before the update.

    Args:
        samples: what it did; answers to one prompt stand together.
        inputs: the same as tensors.
        logprobs_BT: log-probabilities in nats of the actions taken, under the policy as it acted;
            anything where masked.
        ref_logprobs_BT: the same under the reference.
        scores_B: the reward of the whole sample, given at its last action.
        missing_eos_B: True where a reply reached its length limit before it ended; never of a
            clip.
        values_BT: value of the state before each action; of algorithms that need "values".
        step_rewards_BT: rewards of single steps, where the reward has them; None where it speaks
            of whole samples only.
        bootstrap_B: the value of the state in which an environment's own clock cut a clip short;
            0 for what ended, and for replies, whose limit is no part of a world. None for all 0.
        reward_parts: `reward/NAME`, the mean of each named part of the reward, for metrics.
    """

    def __init__(
        self,
        *,
        samples: Sequence[Sample],
        inputs: ActionInputs,
        logprobs_BT: Tensor,
        ref_logprobs_BT: Tensor,
        scores_B: Tensor,
        missing_eos_B: Tensor,
        values_BT: Tensor | None = None,
        step_rewards_BT: Tensor | None = None,
        bootstrap_B: Tensor | None = None,
        reward_parts: Mapping[str, float] | None = None,
    ):
        self.samples = samples
        self.inputs = inputs
        self.logprobs_BT = logprobs_BT
        self.ref_logprobs_BT = ref_logprobs_BT
        self.scores_B = scores_B
        self.missing_eos_B = missing_eos_B
        self._values_BT = values_BT
        self.step_rewards_BT = step_rewards_BT
        self.bootstrap_B = scores_B.new_zeros(len(scores_B)) if bootstrap_B is None else bootstrap_B
        self.reward_parts = dict(reward_parts or {})

    @property
    def mask_BT(self) -> Tensor:
        return self.inputs.mask_BT

    @property
    def values_BT(self) -> Tensor:
        return _measured(self._values_BT, "values")


@dataclass(frozen=True)
class MixedText:
    """Text that an algorithm learns beside its own loss; weight 0: none.

    Attributes:
        weight: of the mean next-token loss.
        files: that hold the text.
        batch_size: rows an update.
    """

    weight: float = 0.0
    files: tuple[str, ...] = ()
    batch_size: int = 1


class AlgorithmSettings(Settings):
    """What every algorithm's settings have; a subclass adds its name as `type: Literal[...]`."""

    optimizer: OptimizerSettings = OptimizerSettings()

    @property
    def rollouts_a_round(self) -> int:
        """Samples that the policy draws to learn from, in a round."""
        return 0

    @property
    def mixed_text(self) -> MixedText:
        """Text whose next tokens are learned beside the algorithm's own loss."""
        return MixedText()

    def faults(self, *, in_environment: bool) -> list[str]:
        """What could only fail late, or would be ignored; each begins with the key to change.

        Args:
            in_environment: whether an agent acts, and not a language model.
        """
        return []


class OnlineSettings(AlgorithmSettings):
    """Settings of algorithms that learn from what the policy does now."""

    steps: Count = Field(default=20, description="batches of rollouts a round")
    prompts_per_step: Count = Field(default=32, description="prompts answered in each")
    samples_per_prompt: Count = Field(default=1, description="answers to each prompt")
    epochs: Count = Field(default=1, description="passes over each step's rollouts")
    minibatches: Count = Field(default=1, description="updates an epoch")
    ptx_coefficient: NotNegative = Field(
        default=0.0,
        description="weight of next-token loss on `ptx_text` (PPO-ptx)",
    )
    ptx_text: Places = Field(default=(), description="text, JSONL or Parquet files")
    ptx_batch_size: Count = Field(default=8, description="sequences of ptx_text an update")

    @property
    def rollouts_a_round(self) -> int:
        return self.steps * self.prompts_per_step * self.samples_per_prompt

    @property
    def mixed_text(self) -> MixedText:
        return MixedText(self.ptx_coefficient, self.ptx_text, self.ptx_batch_size)

    def faults(self, *, in_environment: bool) -> list[str]:
        found = super().faults(in_environment=in_environment)
        number = self.prompts_per_step * self.samples_per_prompt
        if self.minibatches > number:
            found.append(
                f"algorithm.minibatches: {self.minibatches} parts of a step's {number} samples "
                "(prompts_per_step times samples_per_prompt) would be empty"
            )
        if self.ptx_coefficient and in_environment:
            found.append(
                "algorithm.ptx_coefficient: an agent is not pre-trained on text; leave it at 0"
            )
        elif self.ptx_coefficient and not self.ptx_text:
            found.append(
                "algorithm.ptx_text: names no text; algorithm.ptx_coefficient above 0 needs one"
            )
        return found


class OfflineSettings(AlgorithmSettings):
    """Settings of algorithms that learn from pairs already judged."""

    epochs: Count = Field(default=1, description="passes over all pairs")
    batch_size: Count = Field(default=16, description="pairs an update")


S = TypeVar("S", bound=AlgorithmSettings)
OnlineS = TypeVar("OnlineS", bound=OnlineSettings)
OfflineS = TypeVar("OfflineS", bound=OfflineSettings)
B = TypeVar("B", bound=TrainBatch)
PairB = TypeVar("PairB", bound=PairBatch)


class Algorithm(ABC, Generic[S, B]):
    """The life cycle of an algorithm; state that changes while it learns is in `state`.

    Attributes:
        settings_type: the class of its settings.
        consumes: what it learns from.
    """

    settings_type: ClassVar[type[AlgorithmSettings]]
    consumes: ClassVar[Consumes]

    def __init__(self, settings: S):
        self.settings = settings

    @property
    def needs(self) -> frozenset[Need]:
        """What must be measured for `credit` and `loss`; it may depend on the settings."""
        return frozenset()

    @abstractmethod
    def loss(self, outputs: Outputs, batch: B) -> list[LossTerm]:
        """The loss of a micro-batch, in terms, and metrics."""

    def state(self) -> dict[str, float]:
        """Controllers to keep in a checkpoint."""
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Take back what `state` gave."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state but was given {sorted(state)}")


class OnlineAlgorithm(Algorithm[OnlineS, B]):
    """Learns from rollouts."""

    consumes = "rollouts"

    @property
    def value_learning_rate(self) -> float | None:
        """That of the value model, where it has one of its own; None: the policy's."""
        return None

    @abstractmethod
    def credit(self, rollouts: Rollouts) -> tuple[B, dict[str, float]]:
        """Advantages for every action, and metrics of the rollouts. Pure in its arguments."""

    def should_stop(self, metrics: dict[str, float]) -> bool:
        """Whether to leave the epochs of this batch early, seen after each update."""
        return False

    def after_step(self, metrics: dict[str, float]) -> None:
        """Move controllers once a step, from the metrics of `credit`."""


class OfflineAlgorithm(Algorithm[OfflineS, PairB]):
    """Learns from pairs; one that needs "reference" is given a `ReferencePairBatch`."""

    consumes = "pairs"


AnyAlgorithm = Algorithm[Any, Any]
A = TypeVar("A", bound=AnyAlgorithm)
ALGORITHMS: dict[str, type[AnyAlgorithm]] = {}


def register(algorithm: type[A]) -> type[A]:
    """Make an algorithm known by the `type` of its settings."""
    ALGORITHMS[algorithm.settings_type.model_fields["type"].default] = algorithm
    return algorithm


def make_algorithm(settings: AlgorithmSettings) -> AnyAlgorithm:
    """The algorithm that these settings are of."""
    return ALGORITHMS[type_of(settings)](settings)


def consumes(settings: AlgorithmSettings) -> Consumes:
    """What the algorithm of these settings learns from."""
    return ALGORITHMS[type_of(settings)].consumes


def type_of(settings: AlgorithmSettings) -> str:
    """The name that an algorithm's settings carry."""
    return type(settings).model_fields["type"].default

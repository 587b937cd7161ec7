"""The reward's seam: a function from samples to numbers, whatever stands behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from backflip.records import Sample


class Reward(Protocol):
    """Anything that scores samples: a trained model, a function, a judge, a mixture."""

    def score(self, samples: Sequence[Sample]) -> list[float | None]:
        """One reward a sample; None where the reward does not apply to it."""
        ...


@dataclass(frozen=True)
class Scored:
    """What a reward says of one sample.

    Attributes:
        value: the reward of the whole sample.
        parts: what it is made of, by name, before any weight; for people, nothing is trained on it.
        steps: (T,) rewards of single actions, which come on top of `value`; None where the reward
            speaks of the whole sample only.
    """

    value: float
    parts: Mapping[str, float] = field(default_factory=dict[str, float])
    steps: NDArray[np.float64] | None = None


@runtime_checkable
class DetailedReward(Reward, Protocol):
    """A reward that tells its parts, or rewards steps."""

    def scored(self, samples: Sequence[Sample]) -> list[Scored | None]:
        """All that it says of each sample; None where it does not apply."""
        ...


def scored(reward: Reward, samples: Sequence[Sample]) -> list[Scored | None]:
    """What any reward says of samples, with its parts and steps where it tells them."""
    if isinstance(reward, DetailedReward):
        return reward.scored(samples)
    return [None if value is None else Scored(value) for value in reward.score(samples)]


class Inputs(Protocol):
    """Samples as tensors for one network; rows can be taken out for a micro-batch."""

    @property
    def num_rows(self) -> int: ...

    @property
    def row_lengths(self) -> Tensor:
        """(B,) steps or tokens of each row: what a micro-batch is measured by."""
        ...

    def select(self, rows: Tensor) -> Self:
        """The rows with these indices, padding beyond the longest of them cut off."""
        ...


class Scorer(Protocol):
    """A trainable network that reads samples: a language model with a head, or a clip network."""

    def collate(self, samples: Sequence[Sample]) -> Any:
        """Samples as `Inputs` of this network."""
        ...

    def __call__(self, inputs: Any) -> Tensor:
        """(B,) float32 raw scores."""
        ...

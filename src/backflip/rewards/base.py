"""The reward's seam: a function from samples to numbers, whatever stands behind it."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

from torch import Tensor

from backflip.records import Sample


class Reward(Protocol):
    """Anything that scores samples: a trained model, a function, a judge, a mixture."""

    def score(self, samples: Sequence[Sample]) -> list[float | None]:
        """One reward a sample; None where the reward does not apply to it."""
        ...


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

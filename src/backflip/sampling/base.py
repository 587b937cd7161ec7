"""The sampler's seam: a policy acts, and what it did comes back as samples."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from backflip.config import SamplingSettings
from backflip.records import Prompt, Sample

Advance = Callable[[int], None]
"""Called with the number of samples finished since the last call: drives a progress bar."""


class Sampler(Protocol):
    """Lets a policy act. The text engine, an environment runner and a cluster look the same."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        settings: SamplingSettings,
        *,
        num_samples: int = 1,
        seed: int,
        advance: Advance | None = None,
    ) -> list[Sample]:
        """Draw K = `num_samples` samples of each prompt, prompt by prompt, K in a row.

        The same seed gives the same sample for a prompt and index whatever else is in the call,
        however many samples there are of it, and whatever the batch size.
        """
        ...

    def load(self, weights: Mapping[str, Tensor], *, version: int) -> None:
        """Act with these weights from now on; samples carry `version`."""
        ...

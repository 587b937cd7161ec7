"""A clip network as a reward."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from backflip.agents.inputs import ClipInputs
from backflip.agents.networks import ClipScorer
from backflip.models.files import read_record
from backflip.records import Clip, Sample
from backflip.rewards import TrainedReward


class ClipReward(TrainedReward):
    """Scores a clip by the mean of what it learned of single steps."""

    def __init__(self, scorer: ClipScorer, **normalisation: Any):
        super().__init__(**normalisation)
        self.scorer = scorer

    def collate(self, samples: Sequence[Sample]) -> ClipInputs:
        return self.scorer.collate(samples)

    def forward(self, inputs: ClipInputs) -> Tensor:
        return self.scorer(inputs)

    def features(self, inputs: ClipInputs) -> Tensor:
        """(B, D) means over the steps of each clip of the last hidden layer."""
        return self.scorer.features(inputs)

    def applies_to(self, sample: Sample) -> bool:
        return isinstance(sample.content, Clip)

    def save(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Write the network and what it is normalised by."""
        self.scorer.save(folder, {**record, **self.record()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        reward = cls(ClipScorer.load(folder))
        reward.load_record(read_record(folder))
        return reward

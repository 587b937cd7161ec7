"""A network that was trained on feedback, as a reward."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from backflip.errors import ModelError, TrainingError
from backflip.records import Sample
from backflip.rewards.batching import SCORING_TOKENS, score_samples


class TrainedReward(nn.Module, ABC):
    """A trainable network and the reward that it gives: the same object is fitted and used.

    Feedback says nothing of the zero and the unit of a reward, so raw scores have neither; the
    reward is (raw - center) / scale, with both taken from samples of a reference policy by
    `normalise` after fitting and kept with the model. Fitting sees raw scores only.

    Args:
        center, scale: in units of the raw score; scale above 0.
        max_tokens: padded tokens in one forward pass of `score`; memory only.
    """

    def __init__(
        self, *, center: float = 0.0, scale: float = 1.0, max_tokens: int = SCORING_TOKENS
    ):
        super().__init__()
        self.normalise_by(center, scale)
        self.max_tokens = max_tokens

    @abstractmethod
    def collate(self, samples: Sequence[Sample]) -> Any:
        """Samples as `Inputs` of the network."""

    @abstractmethod
    def forward(self, inputs: Any) -> Tensor:
        """(B,) float32 raw scores, with gradients."""

    @abstractmethod
    def applies_to(self, sample: Sample) -> bool:
        """Whether the network can read this sample."""

    @abstractmethod
    def save(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Write the network and its zero and unit into a new folder."""

    def score(self, samples: Sequence[Sample]) -> list[float | None]:
        """One reward a sample, in normalised units; None where the network cannot read it.

        Raises:
            TrainingError: a score is not finite; it names the sample.
        """
        places = [i for i, sample in enumerate(samples) if self.applies_to(sample)]
        raw = self._raw([samples[i] for i in places])
        rewards: list[float | None] = [None] * len(samples)
        for place, value in zip(places, raw, strict=True):
            rewards[place] = (value - self.center) / self.scale
        return rewards

    def features(self, inputs: Any) -> Tensor:
        """(B, D) what the network makes of each sample below its last layer.

        The mean over the tokens or steps of what the policy did.
        """
        raise NotImplementedError

    def embed(self, samples: Sequence[Sample]) -> NDArray[np.float64]:
        """(S, D) the features of samples, by which they are near to each other or far apart.

        Raises:
            TrainingError: one of them is not finite; it names the sample.
        """
        found = score_samples(_Features(self), samples, max_tokens=self.max_tokens)
        features = found.double().numpy()
        for sample, row in zip(samples, features, strict=True):
            if not np.isfinite(row).all():
                raise TrainingError(
                    "the network makes no finite features of it", where=sample.place
                )
        return features

    def normalise(self, samples: Sequence[Sample]) -> None:
        """Make the reward's mean 0 and standard deviation 1 over samples of a reference policy.

        Raises:
            TrainingError: fewer than two samples, or all have the same score.
        """
        raw = self._raw([s for s in samples if self.applies_to(s)])
        if len(raw) < 2:
            raise TrainingError(f"{len(raw)} samples are too few to normalise a reward by")
        center = math.fsum(raw) / len(raw)
        variance = math.fsum((value - center) ** 2 for value in raw) / (len(raw) - 1)
        if variance == 0:
            raise TrainingError(
                f"the reward model gives all {len(raw)} samples the same score",
                hint="It has learned nothing: is there feedback that tells samples apart?",
            )
        self.normalise_by(center, math.sqrt(variance))

    def record(self) -> dict[str, float]:
        """What must be kept beside the weights for the same rewards."""
        return {"center": self.center, "scale": self.scale}

    def load_record(self, record: Mapping[str, Any]) -> None:
        """Take back what `record` gave; other keys are left alone.

        Raises:
            ModelError: zero or unit is no number that a score can be normalised by.
        """
        try:
            center, scale = float(record.get("center", 0.0)), float(record.get("scale", 1.0))
            self.normalise_by(center, scale)
        except (TypeError, ValueError):
            raise ModelError(
                f"the reward model's record has center {record.get('center')!r} and scale "
                f"{record.get('scale')!r}, which normalise nothing"
            ) from None

    def normalise_by(self, center: float, scale: float) -> None:
        """Set zero and unit, finite numbers, the unit above 0.

        A safety model centred on its learned threshold with scale 1 gives the logit of being safe.
        """
        if not (math.isfinite(center) and math.isfinite(scale) and scale > 0):
            raise ValueError(f"center {center} and scale {scale} normalise nothing")
        self.center = center
        self.scale = scale

    def _raw(self, samples: Sequence[Sample]) -> list[float]:
        scores = score_samples(self, samples, max_tokens=self.max_tokens).tolist()
        for sample, value in zip(samples, scores, strict=True):
            if not math.isfinite(value):
                raise TrainingError(f"the reward model scores it {value}", where=sample.place)
        return scores


class _Features:
    """A reward's network read below its last layer, in the batches that its scores come in."""

    def __init__(self, reward: TrainedReward):
        self.collate = reward.collate
        self.read = reward.features

    def __call__(self, inputs: Any) -> Tensor:
        return self.read(inputs)

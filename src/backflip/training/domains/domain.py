"""What differs between language models and agents: how networks are made and how they act.

The loop, the store, feedback, losses and algorithms know only this seam.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from backflip.records import Prompt, Sample
from backflip.records.plan import PREPARING
from backflip.records.problems import Findings
from backflip.rewards import TrainedReward
from backflip.sampling import Sampler
from backflip.training.fit import Trainer
from backflip.training.learner import Policy, ValueModel
from backflip.training.trainers.auxiliary import TextRows

Save = Callable[[Path, dict[str, Any]], None]
"""Writes a model and its record into a new folder."""


def _nothing() -> Sequence[Sample]:
    return ()


@dataclass(frozen=True)
class Given:
    """What a run is given beside the settings of its domain.

    Attributes:
        ahead: stages that are still to prepare the starting model, where the settings have them.
        texts: files of text that training mixes in.
        texts_key: the key that names them.
        dialogues: whether prompts, demonstrations or feedback are read.
        answered: sides of the prompts that a model answers.
        whole: whether replies to the prompts are asked about, learned from and scored later.
        reward: whether reward models are trained.
        scorers: where reward models lie that score replies, and are there already.
        shown: gives the workspace's demonstrations, where the recipe names no file of them.
        told: gives the samples on which the workspace has feedback that is learned from.
        written: whether somebody may write replies to the prompts that are learned from.
    """

    ahead: Sequence[str] = tuple(kind.name for kind in PREPARING)
    texts: tuple[str, ...] = ()
    texts_key: str = "algorithm.ptx_text"
    dialogues: bool = True
    answered: Sequence[str] = ("train", "heldout")
    whole: bool = True
    reward: bool = True
    scorers: Sequence[Path] = ()
    shown: Callable[[], Sequence[Sample]] = _nothing
    told: Callable[[], Sequence[Sample]] = _nothing
    written: bool = False


class Domain(Protocol):
    """Makes the parts of a run from folders in which models lie."""

    @property
    def precision(self) -> torch.dtype:
        """What policies are computed in, when they act and when they learn."""
        ...

    def prompts(self) -> list[Prompt]:
        """All prompts of the recipe, each marked "train" or "heldout".

        Those that are too long are left out, or cut, where the recipe asks for it.
        """
        ...

    def check(
        self, folder: Path, given: Given, *, seed: int, model: Path | None = None
    ) -> tuple[Findings, Path | None]:
        """See whether what the recipe and the workspace give can be used, before any work.

        Args:
            folder: where the starting model is made if it must be, as `start` does.
            given: what is used beside the domain's own settings.
            seed: of `start`.
            model: where the model lies that work begins with; None: what `start` gives.

        Returns:
            what was found, every problem and not the first; and where the model lies that the run
            starts from, None if a problem keeps it from being made.
        """
        ...

    def read_with(self, folder: Path) -> None:
        """Take the measure of texts from the model in `folder`, which the run starts from."""
        ...

    def too_long(self, samples: Sequence[Sample], *, reward: bool | None = None) -> set[str]:
        """Ids of those samples on which feedback is left out, by `reward.too_long`.

        `reward` says whether a reward model learns from it; None: whether the recipe trains one.
        """
        ...

    def start(self, folder: Path, *, seed: int) -> Path:
        """Where the model lies that the run starts from; made in `folder` if it must be made."""
        ...

    def pretraining(self, folder: Path, *, seed: int) -> tuple[Trainer, Save]:
        """Next-token training of the model in `folder`, and how to save what comes of it."""
        ...

    def finetuning(
        self, folder: Path, *, seed: int, shown: Sequence[Sample] = ()
    ) -> tuple[Trainer, Save]:
        """Supervised fine-tuning of the model in `folder`, and how to save what comes of it.

        `shown` are the demonstrations to learn from where the recipe names no file of them.
        """
        ...

    def sampler(self, folder: Path, *, model_id: str) -> Sampler: ...

    def policy(self, folder: Path, *, seed: int) -> Policy:
        """A trainable policy; what it learns lies beside the weights of `folder`."""
        ...

    def reference(self, folder: Path) -> Policy | None:
        """A frozen copy to measure distance from; None when the policy itself holds one."""
        ...

    def frozen(self, folder: Path) -> Policy:
        """A policy that is only asked, never trained."""
        ...

    def scorer(self, folder: Path, *, seed: int) -> TrainedReward:
        """A new trainable reward network on top of the policy in `folder`."""
        ...

    def value(self, folder: Path, *, seed: int) -> ValueModel:
        """A trainable value model that starts from the reward network in `folder`."""
        ...

    def reward(self, folder: Path) -> TrainedReward:
        """The trained reward network in `folder`."""
        ...

    def collate(self, samples: Sequence[Sample]) -> Any:
        """Samples as inputs of the policy and the value model."""
        ...

    def spell(self, sample: Sample, place: int) -> str:
        """What a sample's action at a place looks like to a reader."""
        ...

    def gold(self, sample: Sample) -> float | None:
        """The gold measure of a sample; None where nobody knows it, as with people."""
        ...

    def text_rows(self, files: Sequence[str]) -> TextRows:
        """Files of text as rows that a policy which was loaded learns next tokens from.

        Raises:
            SettingsError: the policy reads no text, or a file cannot be read.
        """
        ...

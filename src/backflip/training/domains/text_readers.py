"""How the models of a run on text read, and what prompts and replies must keep within."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from backflip.config import (
    ModelSettings,
    PretrainSettings,
    PromptSettings,
    RewardSettings,
    SamplingSettings,
    SftSettings,
)
from backflip.data import load_prompts
from backflip.data.lengths import Limit, fit_prompts, fit_samples
from backflip.models import find_model
from backflip.records import Prompt, Sample
from backflip.training.limits import TextReader, feedback_limits, prompt_limits


class TextReaders:
    """The settings of a run on text, its prompts, and the readers that hold them to limits.

    Args:
        gold: name of the gold measure; None where people judge and nobody knows it.
        trains_reward: whether the recipe trains reward models.
    """

    def __init__(
        self,
        *,
        model: ModelSettings,
        prompts: PromptSettings,
        sampling: SamplingSettings,
        reward: RewardSettings,
        pretrain: PretrainSettings | None = None,
        sft: SftSettings | None = None,
        gold: str | None = None,
        seed: int = 0,
        trains_reward: bool = True,
    ):
        self.model = model
        self.prompt_settings = prompts
        self.sampling = sampling
        self.reward_settings = reward
        self.pretrain = pretrain
        self.sft = sft
        self.seed = seed
        self.trains_reward = trains_reward
        self.gold_name = gold
        self._home: Path | None = None
        self._reader: TextReader | None = None
        self._reward_reader: TextReader | None = None

    def prompts(self) -> list[Prompt]:
        return self._prompts

    @cached_property
    def _prompts(self) -> list[Prompt]:
        found = load_prompts(self.prompt_settings, self.seed)
        if self.prompt_settings.too_long == "refuse":  # which is said before the run begins
            return found
        fitted = fit_prompts(found, self.limits_of_prompts(), self.prompt_settings.too_long)
        fitted.require()
        return fitted.kept

    def read_with(self, folder: Path) -> None:
        if folder != self._home:
            self._home, self._reader, self._reward_reader = folder, None, None

    def too_long(self, samples: Sequence[Sample], *, reward: bool | None = None) -> set[str]:
        if self.reward_settings.too_long == "refuse":
            return set()
        fitted = fit_samples(samples, self.limits_of_feedback(reward=reward), "drop")
        return {excess.item.id for excess in fitted.dropped}

    def limits_of_prompts(self, *, scored: bool = True) -> list[Limit]:
        """What prompts must keep within; `scored` says whether reward models read them too."""
        reward = self.reward_reader() if scored and self.trains_reward else None
        return prompt_limits(self.sampling, self.reader(), reward, self.reward_settings)

    def limits_of_feedback(self, *, reward: bool | None = None) -> list[Limit]:
        """What samples must keep within that feedback is learned from.

        `reward` says whether a reward model learns from it; None: whether the recipe trains one.
        """
        reward = self.trains_reward if reward is None else reward
        reader = self.reward_reader() if reward else self.reader()
        return feedback_limits(self.reward_settings, reader, reward=reward)

    def reader(self) -> TextReader:
        """How the policy reads."""
        if self._reader is None:
            self._reader = TextReader.of(self._place(), self.model.chat)
        return self._reader

    def reward_reader(self) -> TextReader:
        """How reward models read."""
        if self._reward_reader is None:
            home = self._place()
            start = self.reward_start(home)
            policy, chat = self.reader(), self.reward_settings.model.chat
            same = start == home and chat == self.model.chat
            self._reward_reader = policy if same else TextReader.of(start, chat, policy)
        return self._reward_reader

    def _place(self) -> str:
        if self._home is not None:
            return str(self._home)
        if self.pretrain is not None and self.pretrain.scratch is not None:
            raise ValueError("say first where the model lies that was made: read_with")
        return str(find_model(self.model.name))

    def reward_start(self, home: Path | str) -> str:
        """What reward models grow from in a run that starts from the model in `home`."""
        own = self.reward_settings.model.name
        return str(home) if own == self.model.name else own

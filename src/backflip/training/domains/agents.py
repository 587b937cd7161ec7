"""Agents in environments as a domain: where their parts come from."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from backflip.agents import AgentPolicy, AgentSampler, ClipInputs, ClipReward, ClipScorer, ClipValue
from backflip.config import PromptSettings
from backflip.data import load_prompts
from backflip.environments import make_env
from backflip.errors import BackflipError, SettingsError
from backflip.feedback.gold import find_gold
from backflip.records import Prompt, Sample
from backflip.records.problems import Findings, Problem
from backflip.training.domains.domain import Given, Save
from backflip.training.fit import Trainer
from backflip.training.trainers.auxiliary import TextRows

WIDTH = 64


class AgentDomain:
    """Makes policies, reward networks and samplers for one Gymnasium environment."""

    def __init__(self, *, prompts: PromptSettings, gold: str | None = None, seed: int = 0):
        self.prompt_settings = prompts
        self.seed = seed
        self.environment = prompts.source.removeprefix("env:")
        self._gold = find_gold(gold) if gold else None

    precision = torch.float32

    def prompts(self) -> list[Prompt]:
        return self._prompts

    @cached_property
    def _prompts(self) -> list[Prompt]:
        return load_prompts(self.prompt_settings, self.seed)

    def check(
        self, folder: Path, given: Given, *, seed: int, model: Path | None = None
    ) -> tuple[Findings, Path | None]:
        found = Findings()
        try:
            self._shape()
            if model is None:
                model = self.start(folder, seed=seed)
            sides = [prompt.split for prompt in self.prompts()]
            found.facts["prompts"] = {side: sides.count(side) for side in ("train", "heldout")}
        except BackflipError as error:
            found.note(Problem.of(error, "prompts.source"))
            model = None
        return found, model

    def read_with(self, folder: Path) -> None:
        """An agent reads no text."""

    def too_long(self, samples: Sequence[Sample], *, reward: bool | None = None) -> set[str]:
        return set()

    def start(self, folder: Path, *, seed: int) -> Path:
        """A policy of random weights for the environment."""
        target = folder / "policy"
        if not target.exists():
            AgentPolicy(self._shape(), seed=seed).save(target, {})
        return target

    def pretraining(self, folder: Path, *, seed: int) -> tuple[Trainer, Save]:
        raise SettingsError("an agent is not pre-trained on text", where="pretrain")

    def finetuning(
        self, folder: Path, *, seed: int, shown: Sequence[Sample] = ()
    ) -> tuple[Trainer, Save]:
        raise SettingsError("an agent is not fine-tuned on text", where="sft")

    def sampler(self, folder: Path, *, model_id: str) -> AgentSampler:
        return AgentSampler(AgentPolicy.load(folder), model_id=model_id)

    def policy(self, folder: Path, *, seed: int) -> AgentPolicy:
        return AgentPolicy.load(folder)

    def reference(self, folder: Path) -> AgentPolicy:
        return self.frozen(folder)

    def frozen(self, folder: Path) -> AgentPolicy:
        return AgentPolicy.load(folder).frozen_copy()

    def scorer(self, folder: Path, *, seed: int) -> ClipReward:
        return ClipReward(ClipScorer(self._shape(), seed=seed))

    def value(self, folder: Path, *, seed: int) -> ClipValue:
        return ClipValue(self._shape(), seed=seed)

    def reward(self, folder: Path) -> ClipReward:
        return ClipReward.load(folder)

    def collate(self, samples: Sequence[Sample]) -> ClipInputs:
        return ClipInputs.of([sample.clip for sample in samples])

    def spell(self, sample: Sample, place: int) -> str:
        return str(sample.clip.actions[place])

    def gold(self, sample: Sample) -> float | None:
        return self._gold(sample) if self._gold else None

    def text_rows(self, files: Sequence[str]) -> TextRows:
        """Agents read no text.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(
            "an agent is not pre-trained on text", where="algorithm.ptx_coefficient"
        )

    def _shape(self) -> dict[str, Any]:
        env = make_env(self.environment)
        try:
            seen, done = env.observation_space, env.action_space
            if not isinstance(seen, gym.spaces.Box):
                raise SettingsError(
                    f"observations of {type(seen).__name__} are not supported",
                    where=self.environment,
                )
            discrete = isinstance(done, gym.spaces.Discrete)
            if not discrete and not isinstance(done, gym.spaces.Box):
                raise SettingsError(
                    f"actions of {type(done).__name__} are not supported", where=self.environment
                )
            return {
                "observation": gym.spaces.flatdim(seen),
                "actions": int(done.n) if discrete else gym.spaces.flatdim(done),
                "discrete": discrete,
                "width": WIDTH,
            }
        finally:
            env.close()

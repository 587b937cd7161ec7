"""An environment of one step and three actions, where the rewarded one is known by hand."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import register, registry

from backflip.agents import AgentPolicy
from backflip.records import Clip, Prompt, Sample, Situation

BANDIT = "test/Bandit-v0"
SHAPE = {"observation": 2, "actions": 3, "discrete": True, "width": 16}
BEST = 2


class Bandit(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.array([1.0, 0.5], np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, True, False, {}


if BANDIT not in registry:
    register(BANDIT, entry_point=Bandit)


class Rewarded:
    """1 for the best action, 0 for the others; `silent` of them get no score at all."""

    def __init__(self, silent: set[int] = frozenset()):
        self.silent = silent
        self.seen: list[Sample] = []

    def score(self, samples):
        self.seen += samples
        actions = [int(sample.clip.actions[0]) for sample in samples]
        return [None if a in self.silent else float(a == BEST) for a in actions]


def situations(number: int = 6) -> list[Prompt]:
    return [Prompt(content=Situation(environment=BANDIT, seed=i)) for i in range(number)]


def policy(seed: int = 0) -> AgentPolicy:
    return AgentPolicy(SHAPE, seed=seed)


def clip_of(action: int, prompt: Prompt, index: int = 0) -> Sample:
    """A sample of the bandit that took this action."""
    clip = Clip(
        environment=BANDIT,
        observations=np.array([[1.0, 0.5], [0.0, 0.0]], np.float32),
        actions=np.array([action]),
        logprobs=np.array([-np.log(3)], np.float32),
        rewards=np.zeros(1, np.float32),
        terminated=True,
        truncated=False,
    )
    return Sample.of(prompt, clip, index=index)

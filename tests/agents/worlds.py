"""Environments with known answers: a box of actions, ones that end, one that counts from 5."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import register, registry

BOX, ENDING, SHIFTED, WORDS = "test/Box-v0", "test/Ending-v0", "test/Shifted-v0", "test/Words-v0"
WALK, STROLL, DRIFT = "test/Walk-v0", "test/Stroll-v0", "test/Drift-v0"
SHAPE = {"observation": 2, "actions": 2, "discrete": False, "width": 8}


class BoxWorld(gym.Env):
    """Adds each action to where it is; an action outside its narrow space is an error."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2, 1), np.float32)
    action_space = gym.spaces.Box(-0.5, 0.5, (1, 2), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, (2, 1)).astype(np.float32)
        return self.place.copy(), {}

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not an action")
        self.place = self.place + action.T
        return self.place.copy(), float(action.sum()), False, False, {}


class EndingWorld(gym.Env):
    """Ends by itself after three steps."""

    observation_space = gym.spaces.Box(0.0, 9.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.array([self.steps], np.float32), 1.0, self.steps == 3, False, {}


class ShiftedWorld(EndingWorld):
    action_space = gym.spaces.Discrete(2, start=5)

    def step(self, action):
        if action not in (5, 6):
            raise ValueError(f"{action!r} is not an action")
        return super().step(action)


class WordWorld(EndingWorld):
    observation_space = gym.spaces.Text(5)


class WalkWorld(gym.Env):
    """Seventeen numbers that walk about until their sum leaves its bounds; acting on is an error.

    What it says beside has another shape each time.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (17,), np.float64)
    action_space = gym.spaces.Discrete(3)

    def moved(self, action) -> float:
        return 0.7 * (int(action) - 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        assert options is None
        self.place, self.ended = self.np_random.normal(size=17) / 17, False
        return self.place.copy(), {"beside": np.zeros(self.np_random.integers(1, 9))}

    def step(self, action):
        assert not self.ended, "acted in after its end"
        self.place = self.place + 0.05 * self.np_random.normal(size=17)
        self.place[0] += self.moved(action)
        self.ended = abs(self.place.sum()) > 1
        beside = {"beside": np.zeros(self.np_random.integers(1, 9)), "kind": [None, 1, "x"]}
        return self.place.copy(), float(self.place.sum()), bool(self.ended), False, beside


class StrollWorld(WalkWorld):
    def moved(self, action) -> float:
        return 0.2 * (int(action) - 1)


class DriftWorld(WalkWorld):
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def moved(self, action) -> float:
        return 0.4 * float(action[0])


for name, world in (
    (BOX, BoxWorld),
    (ENDING, EndingWorld),
    (SHIFTED, ShiftedWorld),
    (WORDS, WordWorld),
    (WALK, WalkWorld),
    (STROLL, StrollWorld),
    (DRIFT, DriftWorld),
):
    if name not in registry:
        register(name, entry_point=world, max_episode_steps=8)

"""An environment from outside of the package: a walk of six steps, rewarded for going right."""

from typing import Any

import gymnasium as gym
import numpy as np


class Walk(gym.Env[np.ndarray, int]):
    """Observation: where it is; actions 0 left and 1 right."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-1, 1))
        return np.array([self.place], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        move = 1.0 if action else -1.0
        self.place += move
        return np.array([self.place], np.float32), move, False, False, {}


if "outside/Walk-v0" not in gym.registry:
    gym.register("outside/Walk-v0", entry_point=Walk, max_episode_steps=6)

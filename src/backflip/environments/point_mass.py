"""A small environment of our own, to try the loop on in seconds.

A point on a line is pushed left, not at all or right, and the written reward is how near it is to
the origin. Its horizon is fixed, so that no preference over clips can leak through their length.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import register, registry
from numpy.typing import NDArray

POINT = "backflip/Point-v0"
HORIZON = 20


class PointEnv(gym.Env[NDArray[np.float32], int]):
    """Observation (position, velocity); actions 0 left, 1 nothing, 2 right."""

    def __init__(self) -> None:
        high = np.array([np.inf, np.inf], np.float32)
        self.observation_space = gym.spaces.Box(-high, high)
        self.action_space = gym.spaces.Discrete(3)  # pyright: ignore[reportAttributeAccessIssue]  # its parameter is invariant
        self._state = np.zeros(2, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._state = np.array([self.np_random.uniform(-2, 2), 0.0], np.float32)
        return self._state.copy(), {}

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        position, velocity = self._state
        velocity = 0.8 * velocity + 0.2 * (int(action) - 1)
        self._state = np.array([position + velocity, velocity], np.float32)
        return self._state.copy(), -abs(float(self._state[0])), False, False, {}


if POINT not in registry:
    register(
        POINT, entry_point="backflip.environments.point_mass:PointEnv", max_episode_steps=HORIZON
    )

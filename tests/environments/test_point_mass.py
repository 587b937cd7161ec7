"""The point on a line, by its equations."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from backflip.environments import POINT, PointEnv


def test_it_moves_by_its_equations_and_ends_after_twenty_steps():
    env = gym.make(POINT)
    (position, velocity), _ = env.reset(seed=5)
    assert -2 <= position <= 2
    assert velocity == 0
    for t in range(20):
        action = t % 3
        seen, reward, terminated, truncated, _ = env.step(action)
        velocity = 0.8 * velocity + 0.2 * (action - 1)
        position = position + velocity
        assert seen.tolist() == pytest.approx([position, velocity], abs=1e-5)
        assert reward == pytest.approx(-abs(position), abs=1e-5)
        assert not terminated
        assert truncated == (t == 19)
    env.close()


def test_the_seed_is_the_start():
    env = PointEnv()
    starts = [env.reset(seed=seed)[0][0] for seed in (1, 2, 1)]
    assert starts[0] == starts[2] != starts[1]


@pytest.mark.filterwarnings("ignore::UserWarning")  # an unbounded observation is meant here
def test_it_keeps_gymnasiums_rules():
    check_env(PointEnv(), skip_render_check=True)
    assert PointEnv().observation_space.contains(np.zeros(2, np.float32))

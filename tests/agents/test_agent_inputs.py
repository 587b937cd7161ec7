"""Clips as tensors: what stands where, and that padding is cut."""

import numpy as np
import torch

from backflip.agents import ClipInputs
from backflip.records import Clip


def make_clip(steps: int, seed: int, *, discrete: bool = True) -> Clip:
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 3, steps) if discrete else rng.normal(size=(steps, 2))
    return Clip(
        environment="test",
        observations=rng.normal(size=(steps + 1, 2, 2)).astype(np.float32),
        actions=actions if discrete else actions.astype(np.float32),
        logprobs=np.zeros(steps, np.float32),
        rewards=np.zeros(steps, np.float32),
        terminated=False,
        truncated=True,
    )


CLIPS = [make_clip(3, 0), make_clip(1, 1), make_clip(5, 2)]


def test_rows_hold_the_clips_and_zeros_behind():
    inputs = ClipInputs.of(CLIPS)
    assert inputs.num_rows == 3
    assert inputs.row_lengths.tolist() == [3, 1, 5]
    for row, clip in enumerate(CLIPS):
        steps = clip.num_steps
        seen = clip.observations.reshape(steps + 1, 4)
        assert np.array_equal(inputs.observations_BSO[row, : steps + 1].numpy(), seen)
        assert not inputs.observations_BSO[row, steps + 1 :].any()
        assert inputs.actions_BTA[row, :steps].tolist() == clip.actions.tolist()
        assert inputs.mask_BT[row].tolist() == [t < steps for t in range(5)]


def test_kinds_of_actions_keep_their_types():
    assert ClipInputs.of(CLIPS).actions_BTA.dtype == torch.int64
    continuous = ClipInputs.of([make_clip(3, 0, discrete=False), make_clip(4, 1, discrete=False)])
    assert continuous.actions_BTA.dtype == torch.float32
    assert continuous.actions_BTA.shape == (2, 4, 2)


def test_selected_rows_are_those_of_their_clips_alone():
    picked = ClipInputs.of(CLIPS).select(torch.tensor([1, 0]))
    alone = ClipInputs.of([CLIPS[1], CLIPS[0]])
    for name in ("observations_BSO", "actions_BTA", "lengths_B"):
        assert torch.equal(getattr(picked, name), getattr(alone, name))

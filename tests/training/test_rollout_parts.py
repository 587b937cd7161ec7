"""What is told of rollouts, and how they are cut into minibatches."""

import math
from dataclasses import replace

import pytest
import torch
from bandit import clip_of, situations

from backflip.agents import ClipInputs
from backflip.algorithms import PolicyBatch, Rollouts, TrainBatch
from backflip.errors import TrainingError
from backflip.training.trainers.on_policy import describe, split


def make_rollouts() -> Rollouts:
    samples = [clip_of(i % 3, situations()[0], i) for i in range(7)]
    samples[:2] = [
        replace(s, content=replace(s.clip, terminated=False, truncated=True)) for s in samples[:2]
    ]
    inputs = ClipInputs.of([s.clip for s in samples])
    blank = torch.zeros(7, 1)
    return Rollouts(
        samples=samples,
        inputs=inputs,
        logprobs_BT=blank - 1.0,
        ref_logprobs_BT=blank - torch.arange(7.0)[:, None],
        scores_B=torch.arange(7.0),
        missing_eos_B=torch.zeros(7, dtype=torch.bool),
        values_BT=blank,
    )


def test_a_description_by_hand():
    found = describe(make_rollouts())
    assert found["kl"] == pytest.approx(sum(i - 1 for i in range(7)) / 7)
    assert found["reward"] == 3
    assert found["reward_std"] == pytest.approx(2)
    assert found["truncated"] == pytest.approx(2 / 7)
    assert found["sampler_gap"] == pytest.approx(math.log(3) - 1, abs=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_minibatches_hold_each_item_once(parts):
    numbers = torch.arange(7.0)[:, None]
    inputs = make_rollouts().inputs
    batch = PolicyBatch(inputs=inputs, old_logprobs_BT=numbers, advantages_BT=-numbers)
    minibatches = split(batch, parts, seed=3)
    held = [int(x) for m in minibatches for x in m.old_logprobs_BT[:, 0]]
    assert sorted(held) == list(range(7))
    sizes = [m.num_items for m in minibatches]
    assert len(sizes) == parts
    assert max(sizes) - min(sizes) <= 1
    if parts == 2:
        others = [split(batch, 2, seed=s)[0].old_logprobs_BT.flatten().tolist() for s in range(9)]
        assert len({tuple(o) for o in others}) > 1


def test_more_minibatches_than_samples_are_refused():
    batch = TrainBatch(inputs=make_rollouts().inputs)
    with pytest.raises(TrainingError, match="8 minibatches were asked for, but a step has 7"):
        split(batch, 8, seed=0)

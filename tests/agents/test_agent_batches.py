"""Clips that are played side by side: the same bits in any company, and one question a step."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from worlds import DRIFT, STROLL, WALK

from backflip.agents import AgentPolicy, AgentSampler
from backflip.config import SamplingSettings
from backflip.environments import POINT
from backflip.errors import ModelError
from backflip.records import Prompt, Sample, Situation

DISCRETE = {"observation": 17, "actions": 3, "discrete": True, "width": 64}
GAUSSIAN = {"observation": 17, "actions": 1, "discrete": False, "width": 24}
WORLDS = [(WALK, DISCRETE), (DRIFT, GAUSSIAN)]


def starts(environment: str, seeds: Sequence[int]) -> list[Prompt]:
    return [Prompt(content=Situation(environment=environment, seed=i)) for i in seeds]


def roused(shape: dict) -> AgentPolicy:
    policy = AgentPolicy(shape)
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return policy


def play(
    policy: AgentPolicy, prompts: Sequence[Prompt], batch_size: int, num_samples=4, max_tokens=7
) -> list[Sample]:
    settings = SamplingSettings(max_tokens=max_tokens, batch_size=batch_size)
    return AgentSampler(policy).sample(prompts, settings, num_samples=num_samples, seed=3)


@pytest.mark.parametrize(("environment", "shape"), WORLDS)
def test_a_clip_has_the_same_bits_in_batches_of_every_size(environment: str, shape: dict) -> None:
    """An id is made of every array of the clip, and of its order among the prompt's."""
    policy, prompts = roused(shape), starts(environment, range(22))
    expected = play(policy, prompts, 64)
    ends = {(len(s.clip.actions), s.clip.terminated) for s in expected}
    assert len(ends) > 3, "clips of several lengths, ended and cut off"
    for batch_size in (1, 2, 7, 63, 65, 500):
        assert [s.id for s in play(policy, prompts, batch_size)] == [s.id for s in expected]


@pytest.mark.parametrize(("environment", "shape"), WORLDS)
def test_a_clip_has_the_same_bits_in_any_company(environment: str, shape: dict) -> None:
    policy, prompts = roused(shape), starts(environment, range(30))
    expected = {s.id for s in play(policy, prompts, 64)}
    drawn = np.random.default_rng(0)
    for _ in range(8):
        some = [prompts[i] for i in drawn.permutation(30)[: drawn.integers(1, 30)]]
        found = play(policy, some, int(drawn.integers(1, 90)))
        assert {s.id for s in found} <= expected
        assert [(s.prompt.id, s.index) for s in found] == [
            (p.id, k) for p in some for k in range(4)
        ]


def test_the_policy_is_asked_once_a_step_for_all_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    distribution = AgentPolicy.distribution

    def counted(self: AgentPolicy, observations: torch.Tensor, *, temperature: float):
        asked.append(len(observations))
        return distribution(self, observations, temperature=temperature)

    monkeypatch.setattr(AgentPolicy, "distribution", counted)
    play(roused({**DISCRETE, "observation": 2}), starts(POINT, range(16)), 64, max_tokens=20)
    assert len(asked) == 20


def test_clips_of_two_environments_are_as_they_are_alone_and_in_order() -> None:
    policy, one, other = roused(DISCRETE), starts(WALK, range(3)), starts(STROLL, range(3))
    both = [prompt for pair in zip(one, other, strict=True) for prompt in pair]
    found = play(policy, both, 5)
    assert [s.prompt.id for s in found] == [p.id for p in both for _ in range(4)]
    alone = {s.id for s in play(policy, one, 5)} | {s.id for s in play(policy, other, 5)}
    assert {s.id for s in found} == alone


@pytest.mark.parametrize(("environment", "shape"), WORLDS)
def test_weights_that_are_not_numbers_are_told_of(environment: str, shape: dict) -> None:
    policy = roused(shape)
    policy.net[0].weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        play(policy, starts(environment, [0]), 4)

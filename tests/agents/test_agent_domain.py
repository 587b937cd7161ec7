"""Agents as a domain: networks of the environment's shape, and settings that cannot be met."""

from pathlib import Path

import pytest
import torch
from worlds import BOX, ENDING, WORDS

from backflip.agents import AgentPolicy, ClipReward, ClipScorer
from backflip.algorithms import DPOSettings, PPOSettings
from backflip.config import PromptSettings, SamplingSettings
from backflip.errors import SettingsError
from backflip.training.domains.agents import AgentDomain
from backflip.training.trainers.auxiliary import pretraining_mix


def domain(environment: str = BOX, gold: str | None = "environment") -> AgentDomain:
    settings = PromptSettings(source=f"env:{environment}", heldout=3, limit=9)
    return AgentDomain(prompts=settings, gold=gold, seed=0)


def test_prompts_are_starts_some_of_them_held_out():
    prompts = domain().prompts()
    assert len(prompts) == 9
    assert sum(p.split == "heldout" for p in prompts) == 3
    assert {p.content.environment for p in prompts} == {BOX}
    assert len({p.content.seed for p in prompts}) == 9


def test_networks_have_the_shape_of_the_environment(tmp_path: Path):
    made = domain()
    start = made.start(tmp_path, seed=1)
    assert start == made.start(tmp_path, seed=2)  # it is there already
    policy = made.policy(start, seed=0)
    assert policy.shape == {"observation": 2, "actions": 2, "discrete": False, "width": 64}
    assert torch.equal(policy.net[0].weight, AgentPolicy(policy.shape, seed=1).net[0].weight)
    assert not any(p.requires_grad for p in made.frozen(start).parameters())
    assert made.reference(start) is not None
    assert made.scorer(start, seed=3).scorer.shape == policy.shape
    assert made.value(start, seed=3).shape == policy.shape
    assert made.sampler(start, model_id="model-9").model_id == "model-9"
    reward = ClipReward(ClipScorer(policy.shape, seed=3), center=1.5, scale=2.0)
    reward.save(tmp_path / "reward", {})
    assert made.reward(tmp_path / "reward").record() == {"center": 1.5, "scale": 2.0}


def test_gold_is_the_sum_of_the_environments_rewards(tmp_path: Path):
    made = domain(ENDING)
    sampler = made.sampler(made.start(tmp_path, seed=0), model_id="m")
    samples = sampler.sample(made.prompts()[:2], SamplingSettings(max_tokens=8), seed=0)
    assert [made.gold(s) for s in samples] == [3.0, 3.0]
    assert made.collate(samples).lengths_B.tolist() == [3, 3]
    assert domain(ENDING, gold=None).gold(samples[0]) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [("test/None-v0", "cannot be made"), (WORDS, "observations of Text are not supported")],
)
def test_an_environment_that_cannot_be_used_is_refused(environment, message, tmp_path: Path):
    with pytest.raises(SettingsError, match=message):
        domain(environment).start(tmp_path, seed=0)


def test_what_is_for_text_alone_is_refused(tmp_path: Path):
    made = domain()
    with pytest.raises(SettingsError, match="not pre-trained"):
        made.pretraining(tmp_path, seed=0)
    with pytest.raises(SettingsError, match="not fine-tuned"):
        made.finetuning(tmp_path, seed=0)
    mixed = PPOSettings(ptx_coefficient=0.5).mixed_text
    with pytest.raises(SettingsError, match="not pre-trained on text"):
        pretraining_mix(mixed, made.text_rows, seed=0)
    for settings in (PPOSettings(), DPOSettings()):
        assert pretraining_mix(settings.mixed_text, made.text_rows, seed=0) is None

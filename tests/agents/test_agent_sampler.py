"""Acting: the same seed acts the same, and a clip says what truly happened."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from worlds import BOX, ENDING, SHAPE, SHIFTED

from backflip.agents import AgentPolicy, AgentSampler, ClipInputs
from backflip.config import SamplingSettings
from backflip.environments import POINT
from backflip.errors import SettingsError
from backflip.records import Prompt, Sample, Situation

POINT_SHAPE = {"observation": 2, "actions": 3, "discrete": True, "width": 8}
SETTINGS = SamplingSettings(max_tokens=20)


def starts(environment: str = POINT, number: int = 4) -> list[Prompt]:
    return [Prompt(content=Situation(environment=environment, seed=i)) for i in range(number)]


def roused(shape: dict, seed: int = 0) -> AgentPolicy:
    policy = AgentPolicy(shape, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return policy


def act(
    policy: AgentPolicy, prompts: list[Prompt], seed: int = 0, num_samples: int = 2, **change
) -> list[Sample]:
    settings = SETTINGS.model_copy(update=change)
    sampler = AgentSampler(policy, model_id="model-1")
    return sampler.sample(prompts, settings, num_samples=num_samples, seed=seed)


def test_the_same_seed_acts_the_same_in_any_company():
    policy = roused(POINT_SHAPE)
    torch.manual_seed(0)
    all_at_once = {s.id: s for s in act(policy, starts())}
    torch.manual_seed(1)
    alone = [s for prompt in reversed(starts()) for s in act(policy, [prompt])]
    assert {s.id for s in alone} == set(all_at_once)
    assert len(all_at_once) == 8
    assert [s.index for s in act(policy, starts())] == [0, 1] * 4


def test_a_clip_can_be_drawn_again_from_what_it_says_of_itself():
    policy = roused(POINT_SHAPE)
    for sample in act(policy, starts(), seed=5, num_samples=3, max_tokens=9):
        again = AgentSampler(policy, model_id="model-1").sample(
            [sample.prompt],
            SamplingSettings.parse(sample.settings),
            num_samples=sample.index + 1,
            seed=sample.seed,
        )
        assert again[-1].id == sample.id


def test_other_seeds_and_indices_act_otherwise():
    policy = roused(POINT_SHAPE)
    one, other = act(policy, starts()), act(policy, starts(), seed=1)
    assert all(
        not np.array_equal(a.clip.actions, b.clip.actions) for a, b in zip(one, other, strict=True)
    )
    assert not np.array_equal(one[0].clip.actions, one[1].clip.actions)


@pytest.mark.parametrize(
    ("shape", "environment"),
    [(POINT_SHAPE, POINT), ({**SHAPE, "observation": 2}, BOX)],
    ids=["discrete", "box"],
)
def test_kept_log_probabilities_are_those_of_the_policy(shape, environment):
    policy = roused(shape)
    samples = act(policy, starts(environment))
    inputs = ClipInputs.of([s.clip for s in samples])
    said = policy.evaluate(inputs).logprobs_BT.detach()
    for row, sample in enumerate(samples):
        kept = sample.clip.logprobs
        assert kept.tolist() == pytest.approx(said[row, : len(kept)].tolist(), abs=1e-5)


def test_a_clip_can_be_played_again():
    for sample in act(roused(POINT_SHAPE), starts()):
        clip = sample.clip
        env = gym.make(clip.environment)
        observation, _ = env.reset(seed=sample.prompt.content.seed)
        for t, action in enumerate(clip.actions):
            assert np.array_equal(observation, clip.observations[t])
            observation, reward, terminated, truncated, _ = env.step(int(action))
            assert reward == pytest.approx(float(clip.rewards[t]), abs=1e-6)
        assert np.array_equal(observation, clip.observations[-1])
        assert (terminated, truncated) == (False, True)
        assert (clip.terminated, clip.truncated) == (False, True)
        env.close()


def test_actions_come_as_often_as_the_policy_says():
    policy = roused(POINT_SHAPE)
    prompts = starts(number=1)
    firsts = [int(s.clip.actions[0]) for s in act(policy, prompts, num_samples=3000, max_tokens=1)]
    env = gym.make(POINT)
    observation, _ = env.reset(seed=0)
    chances = policy.distribution(torch.from_numpy(observation)).probs.detach().numpy()
    assert chances.max() - chances.min() > 0.1
    found = np.bincount(firsts, minlength=3) / 3000
    # Four standard deviations of a share of 3000 draws.
    assert np.abs(found - chances).max() < 4 * 0.5 / np.sqrt(3000)
    env.close()


def test_gaussian_actions_have_the_mean_and_spread_that_the_policy_says():
    policy = roused(SHAPE)
    samples = act(policy, starts(BOX, 1), num_samples=3000, max_tokens=1)
    actions = np.stack([s.clip.actions[0] for s in samples])
    chosen = policy.distribution(torch.from_numpy(samples[0].clip.observations[0].flatten()))
    mean, std = chosen.mean.detach().numpy(), chosen.stddev.detach().numpy()
    assert np.abs(actions.mean(0) - mean).max() < 4 * std.max() / np.sqrt(3000)
    assert np.abs(actions.std(0) / std - 1).max() < 4 / np.sqrt(6000)


def test_the_environment_gets_what_its_box_allows_and_the_clip_what_was_chosen():
    samples = act(roused(SHAPE), starts(BOX))
    for sample in samples:
        clip = sample.clip
        assert clip.actions.shape == (8, 2)
        assert np.abs(clip.actions).max() > 0.5
        given = np.clip(clip.actions, -0.5, 0.5)
        moved = np.diff(clip.observations.reshape(9, 2), axis=0)
        assert moved == pytest.approx(given, abs=1e-5)
        assert clip.rewards.tolist() == pytest.approx(given.sum(1).tolist(), abs=1e-5)


def test_ended_and_cut_off_are_told_apart():
    shape = {"observation": 1, "actions": 2, "discrete": True, "width": 8}
    (ended,) = act(roused(shape), starts(ENDING, 1), num_samples=1)
    assert ended.clip.num_steps == 3
    assert (ended.clip.terminated, ended.clip.truncated) == (True, False)
    (cut,) = act(roused(shape), starts(ENDING, 1), num_samples=1, max_tokens=2)
    assert cut.clip.num_steps == 2
    assert (cut.clip.terminated, cut.clip.truncated) == (False, True)


def test_actions_that_count_from_elsewhere_are_moved_there():
    shape = {"observation": 1, "actions": 2, "discrete": True, "width": 8}
    samples = act(roused(shape), starts(SHIFTED), num_samples=4)
    assert {int(a) for s in samples for a in s.clip.actions} == {0, 1}


def test_loaded_weights_act_and_are_named():
    acting, learned = AgentSampler(AgentPolicy(POINT_SHAPE)), roused(POINT_SHAPE, seed=4)
    acting.load(learned.weights(), version=7)
    expected = act(learned, starts())
    found = acting.sample(starts(), SETTINGS, num_samples=2, seed=0)
    assert all(
        np.array_equal(a.clip.actions, b.clip.actions) for a, b in zip(found, expected, strict=True)
    )
    assert {s.weights_version for s in found} == {7}


def test_progress_is_told_clip_by_clip():
    told: list[int] = []
    sampler = AgentSampler(AgentPolicy(POINT_SHAPE))
    sampler.sample(starts(), SETTINGS, num_samples=2, seed=0, advance=told.append)
    assert told == [1] * 8


def test_what_an_agent_cannot_do_is_refused():
    with pytest.raises(SettingsError, match="at temperature 1"):
        act(roused(POINT_SHAPE), starts(), temperature=0.5)
    with pytest.raises(SettingsError, match="cannot act in a dialogue"):
        act(roused(POINT_SHAPE), [Prompt.from_text("hello")])

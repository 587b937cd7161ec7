"""The online trainee on three actions, one of which is rewarded."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bandit import BEST, SHAPE, Rewarded, clip_of, policy, situations
from torch import Tensor

from backflip.agents import AgentPolicy, AgentSampler, ClipInputs, ClipValue
from backflip.algorithms import PPO, LossTerm, Outputs, PPOSettings, TrainBatch
from backflip.config import OptimizerSettings, SamplingSettings
from backflip.errors import TrainingError
from backflip.records import Completion, Prompt, Sample, Situation
from backflip.records.samples import CONTENT_TYPES
from backflip.training import Learner, LossPart, OnPolicyTrainer

START = torch.tensor([1.0, 0.5])
DOCS = Path(__file__).parents[2] / "docs" / "algorithms"
WORD = re.compile(r"`(\w+)`")
FINISHES = ("stop", "length", "human")


def make(reward=None, seed: int = 0, watch=None, mix=None, **change) -> OnPolicyTrainer:
    fields = {
        "steps": 12,
        "prompts_per_step": 8,
        "epochs": 2,
        "minibatches": 2,
        "kl_beta": 0.0,
        "optimizer": OptimizerSettings(learning_rate=0.02),
        **change,
    }
    algorithm = PPO(PPOSettings(**fields))
    learner = Learner(
        policy(),
        algorithm.settings.optimizer,
        total_updates=100,
        reference=policy().frozen_copy(),
        value=ClipValue(SHAPE, seed=1),
    )
    return OnPolicyTrainer(
        algorithm=algorithm,
        learner=learner,
        sampler=AgentSampler(policy(seed=9), model_id="model-1"),
        reward=reward or Rewarded(),
        prompts=situations(),
        sampling=SamplingSettings(max_tokens=3),
        collate=lambda samples: ClipInputs.of([sample.clip for sample in samples]),
        seed=seed,
        precision=torch.float32,
        spell=lambda sample, place: str(sample.clip.actions[place]),
        watch=watch,
        auxiliary=mix,
    )


def cut(sample: Sample) -> Sample:
    """The same clip, cut off by a limit of time."""
    return replace(sample, content=replace(sample.clip, terminated=False, truncated=True))


def chances(training: OnPolicyTrainer) -> Tensor:
    return training.learner.policy.distribution(START).probs.detach()


def run(training: OnPolicyTrainer, steps: range | None = None) -> list[dict[str, float]]:
    return [training.step(i) for i in steps or range(training.num_steps)]


def state(training: OnPolicyTrainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in training.state().tensors.items()}


def test_the_rewarded_action_is_learned():
    training = make(steps=25)
    before = chances(training)
    assert before.tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    rewards = [m["reward"] for m in run(training)]
    assert chances(training)[BEST] > 0.9
    assert sum(rewards[-5:]) > sum(rewards[:5])


def test_a_strong_pull_to_the_reference_holds_it_back():
    free, held = make(steps=15), make(steps=15, kl_beta=2.0)
    metrics = run(free), run(held)
    assert chances(free)[BEST] - chances(held)[BEST] > 0.2
    assert metrics[0][-1]["kl"] > metrics[1][-1]["kl"]


def test_what_is_measured_is_what_happened():
    reward = Rewarded()
    training = make(reward, watch=lambda samples: {"seen": float(len(samples))})
    first = training.learner.policy.distribution(START).logits.detach()
    metrics = training.step(0)
    scores = [float(s.clip.actions[0] == BEST) for s in reward.seen]
    mean = sum(scores) / 8
    assert metrics["num_samples"] == metrics["seen"] == 8
    assert metrics["reward"] == pytest.approx(mean)
    assert metrics["reward_std"] == pytest.approx(
        math.sqrt(sum((s - mean) ** 2 for s in scores) / 8)
    )
    assert metrics["length"] == 1
    assert metrics["truncated"] == 0
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)  # it has not learned yet
    assert metrics["sampler_gap"] == pytest.approx(0, abs=1e-6)  # it acted with these weights
    assert metrics["updates"] == 4
    for sample in reward.seen:
        assert sample.model == "model-1"
        expected = float(first[int(sample.clip.actions[0])])
        assert float(sample.content.logprobs[0]) == pytest.approx(expected, abs=1e-6)


def test_every_figure_on_the_page_is_reported():
    page = (DOCS / "ppo.md").read_text().split("## What the figures are")[1]
    named = {name for row in re.findall(r"^\|(.*?)\|", page, re.M) for name in WORD.findall(row)}
    metrics = make(watch=lambda samples: {"gold": 0.0}).step(0)
    assert len(named) >= 10
    assert named <= metrics.keys()


def test_samples_know_the_weights_that_acted():
    reward = Rewarded()
    run(make(reward), range(3))
    assert [s.weights_version for s in reward.seen] == [0] * 8 + [1] * 8 + [2] * 8


def test_a_prompt_that_comes_twice_in_a_step_is_acted_on_twice():
    reward = Rewarded()
    training = make(reward, prompts_per_step=60)
    metrics = training.step(0)
    assert metrics["num_samples"] == 60
    assert len({s.id for s in reward.seen if s.prompt_id == situations()[0].id}) > 1
    actions = [[int(s.clip.actions[0]) for s in reward.seen if s.prompt == p] for p in situations()]
    assert [len(a) for a in actions] == [10] * 6
    assert all(len(set(a)) > 1 for a in actions)


def test_kl_is_measured_from_the_reference():
    reward = Rewarded()
    training = make(reward)
    run(training, range(5))
    reward.seen.clear()
    now = training.learner.policy.distribution(START).logits.detach()
    then = policy().distribution(START).logits.detach()
    metrics = training.step(5)
    gaps = [float((now - then)[int(s.clip.actions[0])]) for s in reward.seen]
    assert metrics["kl"] == pytest.approx(sum(gaps) / 8, abs=1e-6)


def test_what_would_come_after_a_cut_earns_nothing():
    """With lambda 1 the return of a single action is the score, whatever the value thinks."""
    ended = [clip_of(action, prompt) for action, prompt in enumerate(situations(3))]
    training = make(gae_lambda=1.0, whiten_advantages=False)
    with torch.no_grad():
        for parameter in training.learner.value.parameters():
            parameter.add_(1.0)
    for samples in (ended, [cut(sample) for sample in ended]):
        rollouts = training.observe(samples)
        assert rollouts.values_BT.min() > 1
        batch, _ = training.algorithm.credit(rollouts)
        assert batch.returns_BT[:, 0].tolist() == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)


PROMPT = Prompt.from_text("How is the river?")
ENDINGS = {
    "completion": {Completion("Calm.", finish=end): end == "length" for end in FINISHES},
    "clip": {
        replace(clip_of(BEST, PROMPT).clip, terminated=ended, truncated=not ended): False
        for ended in (True, False)
    },
}


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_what_reached_its_length_limit_is_penalised_and_what_ran_out_of_time_is_not(kind):
    """To last to a limit of time is no fault of an agent's: it may be what people want of it."""
    training = make(Fixed(0.25), gae_lambda=1.0, missing_eos_penalty=0.75, whiten_advantages=False)
    training.collate = lambda samples: ClipInputs.of([clip_of(0, PROMPT).clip for _ in samples])
    expected = [0.25 - 0.75 * penalised for penalised in ENDINGS[kind].values()]
    rollouts = training.observe([Sample.of(PROMPT, content) for content in ENDINGS[kind]])
    batch, _ = training.algorithm.credit(rollouts)
    assert batch.returns_BT[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


class Fixed:
    """The same score for everything."""

    def __init__(self, score: float):
        self.fixed = score

    def score(self, samples):
        return [self.fixed] * len(samples)


class MeanReward:
    """The environment's own reward, by the step."""

    def score(self, samples):
        return [float(sample.clip.rewards.mean()) for sample in samples]


def test_clips_that_are_cut_off_are_learned_from():
    """A point that should stay near the origin, in clips of twenty steps that nothing ends."""
    shape = {"observation": 2, "actions": 3, "discrete": True, "width": 32}
    settings = PPOSettings(
        steps=20,
        prompts_per_step=32,
        kl_beta=0.0,
        missing_eos_penalty=0.0,
        optimizer=OptimizerSettings(learning_rate=5e-3, micro_batch_tokens=100_000),
    )
    start = AgentPolicy(shape, seed=0)
    training = OnPolicyTrainer(
        algorithm=PPO(settings),
        learner=Learner(
            start,
            settings.optimizer,
            total_updates=settings.steps,
            reference=start.frozen_copy(),
            value=ClipValue(shape, seed=1),
        ),
        sampler=AgentSampler(AgentPolicy(shape)),
        reward=MeanReward(),
        prompts=[
            Prompt(content=Situation(environment="backflip/Point-v0", seed=i)) for i in range(64)
        ],
        sampling=SamplingSettings(max_tokens=20),
        collate=lambda samples: ClipInputs.of([sample.clip for sample in samples]),
        seed=0,
        precision=torch.float32,
        spell=lambda sample, place: str(sample.clip.actions[place]),
    )
    rewards = [m["reward"] for m in run(training)]
    first, last = sum(rewards[:5]) / 5, sum(rewards[-5:]) / 5
    assert last > first / 4  # both are below 0: what it loses is a quarter of what it lost


def test_samples_without_a_score_are_left_out():
    reward = Rewarded(silent={0})
    training = make(reward, prompts_per_step=16)
    metrics = training.step(0)
    scored = [s for s in reward.seen if int(s.clip.actions[0]) != 0]
    assert 0 < len(scored) < 16
    assert metrics["num_samples"] == len(scored)


def test_a_reward_that_applies_to_nothing_is_an_error_with_advice():
    training = make(Rewarded(silent={0, 1, 2}))
    before = state(training)
    with pytest.raises(TrainingError, match="applies to none of the samples") as caught:
        training.step(0)
    assert "samples of this kind" in caught.value.hint
    after = state(training)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"steps": 3}, "steps", 3),
        ({"prompts_per_step": 5}, "num_samples", 5),
        ({"samples_per_prompt": 3}, "num_samples", 24),
        ({"epochs": 3}, "updates", 6),
        ({"minibatches": 1}, "updates", 2),
        ({"minibatches": 4}, "updates", 8),
    ],
)
def test_every_online_setting_changes_what_is_done(change, name, value):
    usual, other = make(), make(**change)
    metrics = [run(one, range(1))[0] | {"steps": one.num_steps} for one in (usual, other)]
    assert metrics[1][name] == value
    assert metrics[0][name] != value


@pytest.mark.parametrize("wanted", range(2, 11))
def test_the_update_that_sees_too_much_kl_is_the_last(wanted, monkeypatch):
    """Ten updates in two epochs, and a limit that the one with this number is the first to see."""
    rates = OptimizerSettings(learning_rate=0.02)
    fast = {"epochs": 2, "minibatches": 5, "prompts_per_step": 40, "optimizer": rates}
    seen: list[float] = []
    update = Learner.update

    def watched(learner: Learner, *parts: LossPart) -> dict[str, float]:
        metrics = update(learner, *parts)
        seen.append(metrics["approx_kl"])
        return metrics

    monkeypatch.setattr(Learner, "update", watched)
    assert make(**fast).step(0)["updates"] == len(seen) == 10
    free = seen.copy()
    assert free == sorted(set(free))
    seen.clear()
    metrics = make(**fast, max_kl=(free[wanted - 2] + free[wanted - 1]) / 2).step(0)
    assert metrics["updates"] == wanted
    assert seen == free[:wanted]
    assert metrics["approx_kl"] == pytest.approx(sum(seen) / wanted)


def test_samples_of_one_prompt_differ_and_prompts_take_turns():
    reward = Rewarded()
    training = make(reward, samples_per_prompt=2, prompts_per_step=4)
    run(training, range(3))
    prompts = [s.prompt_id for s in reward.seen]
    assert all(prompts[i] == prompts[i + 1] for i in range(0, 24, 2))
    counts = [prompts.count(p.id) for p in situations()]
    assert counts == [4] * 6  # 12 places, 6 prompts, each once before any twice
    assert [s.index for s in reward.seen[:4]] == [0, 1, 0, 1]


def test_the_adaptive_coefficient_is_moved_once_a_step_and_kept():
    training = make(kl_beta=0.5, kl_target=1.0, kl_horizon=100.0)
    betas = [m["kl_beta"] for m in run(training, range(3))]
    assert betas[0] == 0.5
    assert betas[1] == pytest.approx(0.5 * (1 - 0.2 * 8 / 100))
    again = make(kl_beta=0.5, kl_target=1.0, kl_horizon=100.0)
    again.load_state(training.state())
    assert again.step(3) == training.step(3)


def test_another_seed_is_another_run():
    one, other = make(seed=0), make(seed=1)
    assert run(one, range(2)) != run(other, range(2))


@pytest.mark.parametrize("stop", [1, 5])
def test_it_goes_on_bit_for_bit(stop):
    straight, broken, again = make(), make(), make()
    metrics = run(straight)
    seen = run(broken, range(stop))
    again.load_state(broken.state())
    seen += run(again, range(stop, again.num_steps))
    assert seen == metrics
    assert all(torch.equal(t, state(again)[n]) for n, t in state(straight).items())


def test_an_extra_part_is_added_to_every_update():
    asked: list[int] = []

    def mix(update: int) -> LossPart:
        asked.append(update)
        pulled = ClipInputs.of([clip_of(0, situations()[0]).clip])

        def loss(outputs: Outputs, batch: TrainBatch) -> list[LossTerm]:
            return [LossTerm("pull", -outputs.logprobs_BT.sum(), weight=1.0)]

        return LossPart(TrainBatch(inputs=pulled), loss, weight=5.0)

    plain, pulled = make(), make(mix=mix)
    run(plain, range(4))
    metrics = run(pulled, range(4))
    assert asked == list(range(16))
    assert chances(pulled)[0] > 0.8 > chances(plain)[0]
    assert metrics[-1]["pull"] < metrics[0]["pull"]

"""Settings reach what they are of: each value is worked out here, past the stages that wire it."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from loop_helpers import agent_recipe, make_run, text_recipe
from safetensors.torch import load_file

from backflip.loop import stages
from backflip.loop.stage import Stage
from backflip.loop.stages import learning
from backflip.records.results import RewardModels
from backflip.rewards import AnnotatorModel, GatedReward
from backflip.training import Domain, OnPolicyTrainer
from backflip.workspace import Workspace

AXES = ("overall", "safe")
GATED = {"mode": "gated"}
RATE = 3e-3


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def recipe_of(reward: dict[str, Any] | None = None, **algorithm: Any) -> dict[str, Any]:
    """An agent's, of two axes with two members each, gated."""
    recipe = agent_recipe(feedback={**FEEDBACK})
    recipe["reward"] |= {"axes": list(AXES), "ensemble": 2, "mixture": GATED, **(reward or {})}
    recipe["algorithm"] |= algorithm
    return recipe


FEEDBACK = {"gold": "environment", "prompts": 14, "kinds": ["comparison", "safety_flag"]}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A run up to its reward models, and every annotator model that was fitted, in order."""
    torch.set_num_threads(1)
    fitted: list[AnnotatorModel] = []
    make = AnnotatorModel.of

    def kept(*args: Any) -> AnnotatorModel:
        fitted.append(make(*args))
        return fitted[-1]

    with (
        Workspace.create(tmp_path_factory.mktemp("reach") / "w") as workspace,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(AnnotatorModel, "of", kept)
        run, _ = make_run(workspace, recipe_of())
        run.begin()
        start = run.stage("start", stages.start)
        baseline = run.stage("baseline", stages.baseline, start)
        asked = run.stage("round-1/sample", stages.sample, start)
        told = run.stage("round-1/feedback", stages.feedback, asked)
        reward = run.stage("round-1/reward", stages.reward, start, told, baseline)
        samples = workspace.samples.get(baseline.samples)
        yield SimpleNamespace(
            workspace=workspace,
            run=run,
            start=start,
            told=told,
            reward=reward,
            fitted=fitted,
            samples=[samples[i] for i in baseline.samples],
        )


def member_scores(done: SimpleNamespace, axis: str) -> np.ndarray:
    """(M, S) the score of each sample by each member of an axis, one by one."""
    models = done.workspace.models
    folders = [models.folder(models.get(i)) for i in done.reward.rewards[axis]]
    return np.array([done.run.domain.reward(f).score(done.samples) for f in folders])


def rewards(done: SimpleNamespace, **settings: Any) -> list[float | None]:
    """What the policy would be paid for each sample with these settings of the reward."""
    run, _ = make_run(done.workspace, recipe_of(settings))
    chosen = {axis: done.reward.rewards[axis] for axis in settings.get("axes", AXES)}
    models = RewardModels(rewards=chosen)
    return learning.load_reward(Stage(run, "round-1/policy"), models).score(done.samples)


def trainee_of(done: SimpleNamespace, monkeypatch: Any, **algorithm: Any) -> OnPolicyTrainer:
    """What the policy stage would train, caught at the moment when it begins."""
    caught: list[OnPolicyTrainer] = []

    def catch(stage: Stage, trainee: OnPolicyTrainer, **rest: Any) -> None:
        caught.append(trainee)
        raise InterruptedError

    monkeypatch.setattr(learning, "train", catch)
    run, _ = make_run(done.workspace, recipe_of(**algorithm))
    with pytest.raises(InterruptedError):
        stages.policy(Stage(run, "round-1/policy"), done.start, done.start, done.told, done.reward)
    return caught[0]


def test_the_gate_opens_at_its_threshold_and_safety_closes_it(done: SimpleNamespace):
    safe, helpful = (member_scores(done, axis).mean(0) for axis in ("safe", "overall"))
    threshold = float(np.sort(safe)[2:4].mean())
    expected = np.where(safe < threshold, safe, helpful)
    assert np.abs(safe - helpful).min() > 1e-3
    assert rewards(done, mixture={**GATED, "threshold": threshold}) == pytest.approx(expected)


def test_the_axes_of_the_gate_are_those_that_are_named(done: SimpleNamespace):
    safe, helpful = (member_scores(done, axis).mean(0) for axis in AXES)  # the other way round
    threshold = float(np.sort(safe)[2:4].mean())
    expected = np.where(safe < threshold, safe, helpful)
    mixture = {**GATED, "threshold": threshold, "safe": "overall", "helpful": "safe"}
    assert rewards(done, mixture=mixture) == pytest.approx(expected)


def test_without_a_threshold_the_gate_opens_at_a_probability_of_15_in_100(done: SimpleNamespace):
    gate = learning.load_reward(Stage(done.run, "round-1/policy"), done.reward)
    assert isinstance(gate, GatedReward)
    assert gate.threshold == pytest.approx(math.log(0.15 / 0.85), abs=0.005)


@pytest.mark.parametrize(
    ("settings", "combined"),
    [
        ({"combine": "mean"}, lambda s: (s[0] + s[1]) / 2),
        ({"combine": "worst"}, lambda s: np.minimum(s[0], s[1])),
        (
            {"combine": "uncertain", "uncertainty_penalty": 0.7},
            # the variance of two numbers is the square of half of what they differ by
            lambda s: (s[0] + s[1]) / 2 - 0.7 * ((s[0] - s[1]) / 2) ** 2,
        ),
    ],
    ids=lambda value: value["combine"] if isinstance(value, dict) else "",
)
def test_members_are_combined_as_asked(done: SimpleNamespace, settings, combined):
    expected = combined(member_scores(done, "overall"))
    paid = rewards(done, axes=["overall"], mixture={}, **settings)
    assert paid == pytest.approx(expected)


def test_members_of_an_ensemble_start_apart(done: SimpleNamespace):
    for axis in AXES:
        first, second = member_scores(done, axis)
        assert np.abs(first - second).min() > 1e-4


def test_a_gate_keeps_the_zero_and_unit_of_safety_and_no_other_axis(done: SimpleNamespace):
    """Safety stays the log odds of being safe; the rest has mean 0 and deviation 1."""
    models = done.workspace.models
    for axis, fitted in zip(AXES, (done.fitted[:2], done.fitted[2:]), strict=True):
        for i, annotators in zip(done.reward.rewards[axis], fitted, strict=True):
            reward = done.run.domain.reward(models.folder(models.get(i)))
            scores = np.array(reward.score(done.samples))
            if axis == "safe":
                threshold = annotators.threshold("safe").item()
                assert abs(threshold) > 1e-3
                assert (reward.center, reward.scale) == (threshold, 1.0)
            else:
                assert (scores.mean(), scores.std(ddof=1)) == pytest.approx((0.0, 1.0), abs=1e-5)


@pytest.mark.parametrize("own", [None, 7e-4])
def test_the_value_model_learns_at_its_own_rate(done: SimpleNamespace, monkeypatch, own):
    trainee = trainee_of(
        done, monkeypatch, steps=1, epochs=1, minibatches=1, value_learning_rate=own
    )
    before = trainee.learner.state_dict()
    trainee.step(0)
    after = trainee.learner.state_dict()
    # The first update of Adam moves a parameter by its rate, whatever the gradient.
    for network, rate in (("policy", RATE), ("value", own or RATE)):
        moved = [
            (after[name] - before[name]).abs().max()
            for name in before
            if name.startswith(f"{network}.")
        ]
        assert float(max(moved)) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("coefficient", [0.0, 0.3])
def test_entropy_is_measured_and_weighed_where_it_counts(
    done: SimpleNamespace, monkeypatch, coefficient
):
    trainee = trainee_of(done, monkeypatch, entropy_coefficient=coefficient, value_coefficient=0.25)
    metrics = trainee.step(0)
    loss = metrics["policy_loss"] + 0.25 * metrics["value_loss"]
    if coefficient:
        # A policy of random weights knows nothing: it chooses among its three actions by lot.
        assert metrics["entropy"] == pytest.approx(math.log(3), abs=0.01)
        loss -= coefficient * metrics["entropy"]
    else:
        assert "entropy" not in metrics
    assert metrics["loss"] == pytest.approx(loss, abs=1e-6)


def test_the_schedule_ends_with_the_last_update(done: SimpleNamespace, monkeypatch):
    optimizer = {"learning_rate": RATE, "schedule": "linear"}
    trainee = trainee_of(done, monkeypatch, steps=2, epochs=3, minibatches=2, optimizer=optimizer)
    for step in range(2):
        trainee.step(step)
    kept = trainee.learner.optimizer
    assert kept.updates == 2 * 3 * 2
    assert [kept.schedule(update) for update in (0, 6, 11, 12)] == pytest.approx(
        [1.0, 1 / 2, 1 / 12, 0.0]
    )


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """An untrained language model, and what makes runs with other settings."""
    folder = tmp_path_factory.mktemp("words")
    with Workspace.create(folder / "w") as workspace:

        def domain(**change: dict[str, Any]) -> Domain:
            recipe = text_recipe(folder, algorithm={"type": "dpo"})
            for part, settings in change.items():
                recipe[part] |= settings
            return make_run(workspace, recipe)[0].domain

        yield SimpleNamespace(domain=domain, model=domain().start(folder / "start", seed=0))


def test_the_head_of_a_reward_model_starts_as_small_as_asked(
    words: SimpleNamespace, tmp_path: Path
):
    weights: list[dict[str, torch.Tensor]] = []
    for name, settings in (("plain", {}), ("small", {"head_scale": 0.25})):
        words.domain(reward=settings).scorer(words.model, seed=5).save(tmp_path / name, {})
        (file,) = (tmp_path / name).glob("*.safetensors")
        weights.append(load_file(file))
    plain, small = weights
    (head,) = (name for name in plain if not torch.equal(plain[name], small[name]))
    torch.testing.assert_close(small[head], 0.25 * plain[head])
    # The N+ paper's start: a deviation of 1 / sqrt(width + 1), and the width is 32.
    assert float(plain[head].std()) == pytest.approx(33**-0.5, rel=0.4)

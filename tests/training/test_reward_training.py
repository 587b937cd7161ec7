"""Training a reward network on comparisons whose truth is known."""

import numpy as np
import pytest
import torch
from bandit import SHAPE, clip_of, situations
from torch import Tensor

from backflip.agents import ClipReward, ClipScorer
from backflip.config import OptimizerSettings, RewardSettings
from backflip.errors import TrainingError
from backflip.records import Sample
from backflip.records.feedback import Comparison, FeedbackBase, Rating
from backflip.rewards import AnnotatorModel, RewardFit
from backflip.training import RewardTrainer

RATES = OptimizerSettings(learning_rate=0.01)


def samples() -> list[Sample]:
    """Each action in each of six situations."""
    return [clip_of(action, prompt) for prompt in situations() for action in range(3)]


def entries() -> list[FeedbackBase]:
    """Higher actions are better; "sure" always says so, "lost" tosses a coin."""
    rng = np.random.default_rng(0)
    told: list[FeedbackBase] = []
    for start in range(0, 18, 3):
        group = samples()[start : start + 3]
        for a, b in ((0, 1), (2, 1), (0, 2), (1, 0)):
            pair = (group[a].id, group[b].id)
            right = "a" if a > b else "b"
            told.append(Comparison(annotator="sure", samples=pair, choice=right))
            wrong = {"a": "b", "b": "a"}[right]
            other = right if rng.random() < 0.5 else wrong
            told.append(Comparison(annotator="lost", samples=pair, choice=other))
    return told


def make(told: list[FeedbackBase] | None = None, seed: int = 0, **change) -> RewardTrainer:
    settings = RewardSettings(**{"epochs": 12, "batch_size": 12, "optimizer": RATES, **change})
    told = told or entries()
    network = ClipReward(ClipScorer(SHAPE, seed=3))
    annotators = AnnotatorModel.of(told, settings)
    by_id = {sample.id: sample for sample in samples()}
    return RewardTrainer(RewardFit(network, annotators, told, by_id, settings, seed), settings)


def run(training: RewardTrainer, steps: range | None = None) -> list[dict[str, float]]:
    return [training.step(i) for i in steps or range(training.num_steps)]


def scores(training: RewardTrainer) -> Tensor:
    network = training.fit.scorer
    return network(network.collate(samples())).detach().view(6, 3)


def test_the_order_is_learned_and_who_can_be_trusted():
    training = make(epochs=40)
    metrics = run(training)
    learned = scores(training)
    assert bool((learned[:, 2] > learned[:, 1]).all())
    assert bool((learned[:, 1] > learned[:, 0]).all())
    assert np.mean([m["nll"] for m in metrics[-4:]]) < np.mean([m["nll"] for m in metrics[:4]])
    told = training.fit.annotators.reliabilities()
    assert told["sure"] > 2 * told["lost"]


def test_what_a_step_reports():
    training = make(batch_size=48)
    metrics = training.step(0)
    before = make(batch_size=48)
    raw = before.fit.evaluate(entries())
    assert metrics["nll"] == pytest.approx(raw.nll, abs=1e-6)
    assert metrics["accuracy"] == pytest.approx(raw.accuracy)
    assert metrics["entries"] == 48
    assert metrics["samples"] == 18
    assert metrics["grad_norm"] > 0


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 6},
        {"batch_size": 24},
        {"optimizer": OptimizerSettings(learning_rate=0.002)},
        {"annotator_learning_rate": 0.5},
        {"reliability": False},
        {"reliability_prior": 0.05},
        {"margin": (1.0, 0.0, 0.0, 0.0)},
        {"ties": "rao_kupper"},
    ],
    ids=str,
)
def test_every_setting_changes_what_is_learned(change):
    usual, other = make(), make(**change)
    run(usual)
    run(other)
    assert float((scores(usual) - scores(other)).abs().max()) > 1e-4


def test_annotators_have_a_rate_of_their_own_and_no_decay():
    rates = OptimizerSettings(learning_rate=1e-9, weight_decay=0.5, max_grad_norm=None)
    training = make(annotator_learning_rate=0.1, optimizer=rates)
    reward = scores(training)
    gap = training.fit.annotators.log_beta
    run(training, range(1))
    assert torch.allclose(scores(training), reward, atol=1e-6)
    # Adam's first step is the rate itself, up or down.
    assert gap.detach().abs().tolist() == pytest.approx([0.1, 0.1], abs=1e-4)
    ratings = [Rating(annotator="a", sample=s.id, level=5) for s in samples()]
    decayed = make(
        ratings,
        annotator_learning_rate=1e-3,
        optimizer=OptimizerSettings(learning_rate=1e-9, weight_decay=50.0),
    )
    unused = decayed.fit.annotators.scales["critique_7"]
    before = unused.detach().clone()
    run(decayed, range(3))
    assert torch.allclose(unused.detach(), before, atol=5e-3)


@pytest.mark.parametrize("stop", [1, 17])
def test_it_goes_on_bit_for_bit(stop):
    straight, broken, again = make(), make(), make()
    metrics = run(straight)
    seen = run(broken, range(stop))
    again.load_state(broken.state())
    seen += run(again, range(stop, again.num_steps))
    assert seen == metrics
    ends = [one.state().tensors for one in (straight, again)]
    assert ends[0].keys() == ends[1].keys()
    assert any(name.startswith("annotators.") for name in ends[0])
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_a_likelihood_that_is_not_finite_changes_nothing():
    training = make()
    run(training, range(2))
    training.fit.scorer.scorer.net[0].bias.data[0] = float("nan")
    before = {name: tensor.clone() for name, tensor in training.state().tensors.items()}
    with pytest.raises(TrainingError, match="is not finite"):
        training.step(2)
    after = training.state().tensors
    assert all(torch.equal(before[n].nan_to_num(), after[n].nan_to_num()) for n in before)
    assert int(after["optimizer.updates"]) == 2


def test_another_seed_is_another_order():
    assert run(make(seed=0)) != run(make(seed=1))

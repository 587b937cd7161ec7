"""PPO's credit against a slow twin, its loss by hand, its controller, and each setting's effect."""

import copy
import math

import pytest
import torch
from algorithm_rows import Rows, make_rows

from backflip.algorithms import (
    PPO,
    Outputs,
    PPOBatch,
    PPOSettings,
    Rollouts,
    TrainBatch,
    reward_at_last_action,
)
from backflip.errors import SettingsError


def make_rollouts(number: int = 5) -> Rollouts:
    rows = make_rows(number)
    generator = torch.Generator().manual_seed(4)

    def noise() -> torch.Tensor:
        return torch.randn(rows.logits.shape, generator=generator, dtype=torch.float64)

    truncated = torch.arange(number) % 2 == 0
    return Rollouts(
        samples=[],
        inputs=rows,
        logprobs_BT=rows.logits,
        ref_logprobs_BT=noise(),
        scores_B=noise()[:, 0],
        missing_eos_B=truncated,
        values_BT=noise(),
    )


def slow_credit(rollouts: Rollouts, config: PPOSettings):
    """Rewards, advantages and returns by the definition, one sample at a time."""
    advantages, returns = [], []
    for b in range(len(rollouts.scores_B)):
        length = int(rollouts.inputs.lengths[b])
        rewards = []
        for t in range(length):
            x = float(rollouts.logprobs_BT[b, t] - rollouts.ref_logprobs_BT[b, t])
            kl = {"k1": x, "k2": x * x / 2, "k3": math.exp(-x) - 1 + x}[config.kl_estimator]
            rewards.append(-config.kl_beta * kl)
        rewards[-1] += float(rollouts.scores_B[b])
        if rollouts.missing_eos_B[b]:
            rewards[-1] -= config.missing_eos_penalty
        values = [*map(float, rollouts.values_BT[b, :length]), 0.0]
        row = []
        for t in range(length):
            total, weight = 0.0, 1.0
            for s in range(t, length):
                total += weight * (rewards[s] + config.gamma * values[s + 1] - values[s])
                weight *= config.gamma * config.gae_lambda
            row.append(total)
        advantages.append(row)
        returns.append([a + v for a, v in zip(row, values[:-1], strict=True)])
    return advantages, returns


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_credit_is_that_of_the_definition(estimator):
    config = PPOSettings(
        gamma=0.9,
        gae_lambda=0.8,
        kl_beta=0.3,
        kl_estimator=estimator,
        missing_eos_penalty=0.7,
        whiten_advantages=False,
    )
    rollouts = make_rollouts()
    batch, _ = PPO(config).credit(rollouts)
    advantages, returns = slow_credit(rollouts, config)
    for b, row in enumerate(advantages):
        assert batch.advantages_BT[b, : len(row)].tolist() == pytest.approx(row, abs=1e-12)
        assert batch.returns_BT[b, : len(row)].tolist() == pytest.approx(returns[b], abs=1e-12)


def test_rewards_of_single_steps_are_added_where_they_were_earned():
    config = PPOSettings(gae_lambda=1.0, kl_beta=0.0, whiten_advantages=False)
    rollouts = make_rollouts()
    plain, _ = PPO(config).credit(rollouts)
    step_rewards = torch.arange(1.0, 7.0, dtype=torch.float64).expand(5, 6)
    rewarded = copy.copy(rollouts)
    rewarded.step_rewards_BT = step_rewards
    added, _ = PPO(config).credit(rewarded)
    for b, length in enumerate(rollouts.inputs.lengths.tolist()):
        gained = (added.returns_BT - plain.returns_BT)[b, :length].tolist()
        to_come = [sum(range(t + 1, length + 1)) for t in range(length)]
        assert gained == pytest.approx(to_come)


def test_the_value_of_the_state_that_a_clock_cut_short_is_still_to_come():
    config = PPOSettings(gae_lambda=1.0, gamma=0.9, kl_beta=0.0, whiten_advantages=False)
    rollouts = make_rollouts()
    plain, _ = PPO(config).credit(rollouts)
    cut = copy.copy(rollouts)
    cut.bootstrap_B = torch.tensor([2.0, 0.0, -1.0, 0.0, 5.0], dtype=torch.float64)
    more, _ = PPO(config).credit(cut)
    for b, length in enumerate(rollouts.inputs.lengths.tolist()):
        gained = (more.returns_BT - plain.returns_BT)[b, :length].tolist()
        worth = [float(cut.bootstrap_B[b]) * 0.9 ** (length - t) for t in range(length)]
        assert gained == pytest.approx(worth)


def test_whitened_advantages_have_mean_zero_and_deviation_one():
    rollouts = make_rollouts()
    batch, _ = PPO(PPOSettings()).credit(rollouts)
    taken = batch.advantages_BT[batch.mask_BT]
    assert float(taken.mean()) == pytest.approx(0, abs=1e-12)
    assert float(taken.var(unbiased=False)) == pytest.approx(1, abs=1e-6)
    plain, _ = PPO(PPOSettings(whiten_advantages=False)).credit(rollouts)
    assert taken.argsort().tolist() == plain.advantages_BT[batch.mask_BT].argsort().tolist()


def test_score_stands_at_the_last_action_of_each_row():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert reward_at_last_action(torch.tensor([2.0, 3.0]), mask).tolist() == [[0, 2, 0], [3, 0, 0]]


def test_a_sample_without_actions_is_refused():
    with pytest.raises(ValueError, match="without actions"):
        reward_at_last_action(torch.tensor([1.0]), torch.tensor([[False]]))


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": 0.5},
        {"gae_lambda": 0.2},
        {"kl_beta": 1.0},
        {"kl_estimator": "k3"},
        {"whiten_rewards": True},
        {"whiten_advantages": False},
        {"missing_eos_penalty": 5.0},
    ],
)
def test_every_setting_of_credit_changes_it(change):
    usual, _ = PPO(PPOSettings()).credit(make_rollouts())
    other, _ = PPO(PPOSettings(**change)).credit(make_rollouts())
    assert not torch.allclose(usual.advantages_BT, other.advantages_BT)


def test_metrics_of_credit_by_hand():
    config = PPOSettings(kl_beta=0.25)
    rollouts = make_rollouts()
    batch, metrics = PPO(config).credit(rollouts)
    log_ratio = (rollouts.logprobs_BT - rollouts.ref_logprobs_BT)[rollouts.mask_BT]
    expected = float(rollouts.scores_B.mean()) - 0.25 * float(log_ratio.sum()) / 5
    assert metrics["penalised_reward"] == pytest.approx(expected)
    assert metrics["kl_beta"] == 0.25
    mask = rollouts.mask_BT
    left = batch.returns_BT[mask] - rollouts.values_BT[mask]
    explained = 1 - float(left.var(unbiased=False) / batch.returns_BT[mask].var(unbiased=False))
    assert metrics["value_explained"] == pytest.approx(explained)


def one_action(ratio: float, advantage: float, value: float) -> tuple[Outputs, TrainBatch]:
    """One sample of one action whose probability has grown by `ratio`; old value 0, return 1."""

    def cell(number: float) -> torch.Tensor:
        return torch.tensor([[number]], dtype=torch.float64)

    rows = Rows(torch.tensor([1]), cell(0.0), torch.tensor([0]))
    batch = PPOBatch(
        inputs=rows,
        old_logprobs_BT=cell(-1.0),
        old_values_BT=cell(0.0),
        advantages_BT=cell(advantage),
        returns_BT=cell(1.0),
    )
    return Outputs(cell(-1.0 + math.log(ratio)), cell(0.9), cell(value)), batch


def total(config: PPOSettings, outputs: Outputs, batch: TrainBatch) -> float:
    return sum(float(t.weight * t.sum) for t in PPO(config).loss(outputs, batch))


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.1, 2.0, -2.2), (1.5, 2.0, -2.4), (1.5, -2.0, 3.0), (0.5, -2.0, 1.6), (0.5, 2.0, -1.0)],
)
def test_policy_loss_by_hand(ratio, advantage, expected):
    config = PPOSettings(clip=0.2, value_coefficient=0.0)
    assert total(config, *one_action(ratio, advantage, 0.0)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"clip": 0.6}, -2 * (1.5 - 1.2)),
        ({"value_clip": 10.0}, 0.1 * ((1 - 0.9) ** 2 - (1 - 0.2) ** 2) / 2),
        ({"value_coefficient": 0.3}, 0.2 * (1 - 0.2) ** 2 / 2),
        ({"entropy_coefficient": 0.5}, -0.5 * 0.9 + 0.01 * 0.9),
    ],
)
def test_every_setting_of_the_loss_changes_it_as_it_should(change, difference):
    outputs, batch = one_action(1.5, 2.0, 0.9)
    usual = PPOSettings(entropy_coefficient=0.01)
    other = usual.model_copy(update=change)
    assert total(other, outputs, batch) - total(usual, outputs, batch) == pytest.approx(difference)


def test_entropy_is_asked_for_only_where_it_counts():
    assert "entropy" not in PPO(PPOSettings()).needs
    assert "entropy" in PPO(PPOSettings(entropy_coefficient=0.1)).needs


def test_adaptive_coefficient_follows_ziegler():
    algorithm = PPO(PPOSettings(kl_beta=0.1, kl_target=5.0, kl_horizon=100.0))
    algorithm.after_step({"kl": 5.5, "num_samples": 10.0})
    assert algorithm.kl_beta == pytest.approx(0.1 * (1 + 0.1 * 10 / 100))
    algorithm.after_step({"kl": 50.0, "num_samples": 10.0})  # the error is cut at 0.2
    assert algorithm.kl_beta == pytest.approx(0.1 * 1.01 * 1.02)
    algorithm.after_step({"kl": 0.0, "num_samples": 10.0})  # and at -0.2
    assert algorithm.kl_beta == pytest.approx(0.1 * 1.01 * 1.02 * 0.98)
    rewards = [PPO(algorithm.settings), algorithm]
    rewards[0].load_state(algorithm.state())
    credits = [a.credit(make_rollouts())[0].advantages_BT for a in rewards]
    assert torch.equal(*credits)


@pytest.mark.parametrize("change", [{"kl_target": 20.0}, {"kl_horizon": 50.0}])
def test_every_setting_of_the_controller_changes_it(change):
    betas = []
    for settings in ({}, change):
        algorithm = PPO(PPOSettings(**{"kl_beta": 0.1, "kl_target": 5.0, **settings}))
        algorithm.after_step({"kl": 5.5, "num_samples": 10.0})
        betas.append(algorithm.kl_beta)
    assert betas[0] != pytest.approx(betas[1])


def test_fixed_coefficient_stays():
    algorithm = PPO(PPOSettings(kl_beta=0.1))
    algorithm.after_step({"kl": 50.0, "num_samples": 10.0})
    assert algorithm.kl_beta == 0.1


def test_early_stop_is_above_the_limit_only():
    algorithm = PPO(PPOSettings(max_kl=0.02))
    assert algorithm.should_stop({"approx_kl": 0.03})
    assert not algorithm.should_stop({"approx_kl": 0.01})
    assert not PPO(PPOSettings()).should_stop({"approx_kl": 9.0})


@pytest.mark.parametrize(
    "wrong",
    [{"clip": 0}, {"gamma": 1.1}, {"gae_lambda": -0.1}, {"kl_estimator": "k4"}, {"kl_beta": -1}],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        PPOSettings.parse(wrong)

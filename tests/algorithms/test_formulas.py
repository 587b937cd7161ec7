"""The formulas on the algorithms' pages, worked out as they stand there, against what is computed.

A formula is an indented line `name = expression`. Expressions are Python but for `^`; a name that
ends in `_t` is that of action t.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from algorithm_rows import Rows, make_rows

from backflip.algorithms import (
    ALGORITHMS,
    DPO,
    PPO,
    DPOSettings,
    Outputs,
    PPOSettings,
    ReferencePairBatch,
    Rollouts,
    TrainBatch,
)
from backflip.losses import kl_estimate

DOCS = Path(__file__).parents[2] / "docs" / "algorithms"
LINE = re.compile(r"^ {4,}(\w+) *= (.+)$", flags=re.MULTILINE)
PAGES = {name: dict(LINE.findall((DOCS / f"{name}.md").read_text())) for name in ALGORITHMS}
KNOWN = {
    "ppo": {
        *("r_t", "k1", "k2", "k3", "delta_t", "A_t", "R_t", "whitened", "scaled"),
        *("policy_loss", "value_loss", "loss", "error", "kl_beta"),
    },
    "dpo": {"r", "m", "sigmoid", "ipo"},
}
FUNCTIONS = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "min": min,
    "max": max,
    "clamp": lambda x, low, high: min(max(x, low), high),
    "s": lambda x: 1 / (1 + math.exp(-x)),
}


def work_out(page: str, name: str, **values: Any) -> float:
    """The formula of this name on a page, in Python's own float64."""
    text = PAGES[page][name].replace("^", "**").replace("[t is the last action]", "last")
    text = re.sub(r"_\{t\+1\}", "_next", text)
    return eval(text, {"__builtins__": {}}, {**FUNCTIONS, **values})  # noqa: S307  our own page


@pytest.mark.parametrize("page", PAGES)
def test_every_formula_is_worked_out_here(page: str) -> None:
    assert set(PAGES[page]) == KNOWN[page]


def make_rollouts(number: int = 6) -> Rollouts:
    rows = make_rows(number, seed=7)
    generator = torch.Generator().manual_seed(5)
    ref, values, scores = torch.randn(3, *rows.logits.shape, generator=generator).double()
    return Rollouts(
        samples=[],
        inputs=rows,
        logprobs_BT=rows.logits,
        ref_logprobs_BT=ref,
        scores_B=scores[:, 0],
        missing_eos_B=torch.arange(number) % 3 == 0,
        values_BT=values,
    )


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_estimates(estimator: Any) -> None:
    for d in (-2.0, -0.3, 0.0, 1e-3, 1.7):
        found = kl_estimate(
            logprobs=torch.tensor(d - 1.5, dtype=torch.float64),
            ref_logprobs=torch.tensor(-1.5, dtype=torch.float64),
            estimator=estimator,
        )
        assert float(found) == pytest.approx(work_out("ppo", estimator, d=d), abs=1e-12)


def credit_by_the_page(rollouts: Rollouts, config: PPOSettings) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and returns of all actions, row by row."""
    rewards, lengths = [], rollouts.inputs.lengths.tolist()
    for b, length in enumerate(lengths):
        score = float(rollouts.scores_B[b])
        score -= config.missing_eos_penalty * bool(rollouts.missing_eos_B[b])
        for t in range(length):
            d = float(rollouts.logprobs_BT[b, t] - rollouts.ref_logprobs_BT[b, t])
            kl = work_out("ppo", config.kl_estimator, d=d)
            given = {"KL_t": kl, "last": t == length - 1, "score": score}
            rewards.append(work_out("ppo", "r_t", kl_beta=config.kl_beta, **given))
    if config.whiten_rewards:
        rewards = rescale("scaled", rewards)
    advantages, returns = [], []
    for b, length in enumerate(lengths):
        value, after, row = 0.0, 0.0, []
        for t in reversed(range(length)):
            given = {
                "r_t": rewards[sum(lengths[:b]) + t],
                "V_next": value,
                "V_t": float(rollouts.values_BT[b, t]),
            }
            delta = work_out("ppo", "delta_t", gamma=config.gamma, **given)
            weights = {"gamma": config.gamma, "gae_lambda": config.gae_lambda}
            after = work_out("ppo", "A_t", delta_t=delta, A_next=after, **weights)
            value = given["V_t"]
            row.append((after, work_out("ppo", "R_t", A_t=after, V_t=value)))
        advantages += [a for a, _ in reversed(row)]
        returns += [r for _, r in reversed(row)]
    if config.whiten_advantages:
        advantages = rescale("whitened", advantages)
    return np.array(advantages), np.array(returns)


def rescale(name: str, numbers: list[float]) -> list[float]:
    mean = sum(numbers) / len(numbers)
    variance = sum((x - mean) ** 2 for x in numbers) / len(numbers)
    return [work_out("ppo", name, x=x, mean=mean, variance=variance) for x in numbers]


@pytest.mark.parametrize("whitened", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_credit_of_ppo(estimator: Any, whitened: tuple[bool, bool]) -> None:
    rewards, advantages = whitened
    config = PPOSettings(
        gamma=0.9,
        gae_lambda=0.7,
        kl_beta=0.3,
        kl_estimator=estimator,
        missing_eos_penalty=0.6,
        whiten_rewards=rewards,
        whiten_advantages=advantages,
    )
    rollouts = make_rollouts()
    batch, _ = PPO(config).credit(rollouts)
    expected = credit_by_the_page(rollouts, config)
    for found, numbers in zip((batch.advantages_BT, batch.returns_BT), expected, strict=True):
        np.testing.assert_allclose(found[batch.mask_BT].numpy(), numbers, rtol=1e-9, atol=1e-12)


def test_loss_of_ppo() -> None:
    config = PPOSettings(
        clip=0.3, value_clip=0.4, value_coefficient=0.7, entropy_coefficient=0.2, gamma=0.9
    )
    rollouts = make_rollouts()
    batch, _ = PPO(config).credit(rollouts)
    generator = torch.Generator().manual_seed(11)
    moved, values, entropy = torch.randn(3, *batch.mask_BT.shape, generator=generator).double()
    outputs = Outputs(rollouts.logprobs_BT + 0.5 * moved, entropy, values)
    names = ("rho_t", "A_t", "V", "V_old", "R", "entropy")
    columns = (
        (0.5 * moved).exp(),
        batch.advantages_BT,
        values,
        rollouts.values_BT,
        batch.returns_BT,
        entropy,
    )
    losses = []
    for numbers in zip(*(c[batch.mask_BT].tolist() for c in columns), strict=True):
        given = {**dict(config), **dict(zip(names, numbers, strict=True))}
        given |= {name: work_out("ppo", name, **given) for name in ("policy_loss", "value_loss")}
        losses.append(work_out("ppo", "loss", **given))
    count = batch.totals()["action"]
    found = sum(float(t.weight * t.sum) / count for t in PPO(config).loss(outputs, batch))
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-12)


@pytest.mark.parametrize("kl", [0.0, 4.9, 5.6, 80.0])
def test_controller_of_ppo(kl: float) -> None:
    config = PPOSettings(kl_beta=0.1, kl_target=5.0, kl_horizon=90.0)
    algorithm = PPO(config)
    algorithm.after_step({"kl": kl, "num_samples": 12.0})
    error = work_out("ppo", "error", KL=kl, kl_target=5.0)
    given = {"kl_beta": 0.1, "error": error, "n": 12, "kl_horizon": 90.0}
    assert algorithm.kl_beta == pytest.approx(work_out("ppo", "kl_beta", **given), rel=1e-12)


def pairs(number: int = 4) -> tuple[Outputs, TrainBatch]:
    rows = make_rows(2 * number, seed=3)
    generator = torch.Generator().manual_seed(2)
    ref = torch.randn(rows.logits.shape, generator=generator).double()
    return Outputs(rows.logits), ReferencePairBatch(inputs=rows, ref_logprobs_BT=ref)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"label_smoothing": 0.2},
        {"variant": "ipo"},
        {"variant": "ipo", "length_normalised": True},
    ],
    ids=str,
)
def test_loss_of_dpo(change: dict[str, Any]) -> None:
    config = DPOSettings(beta=0.4, **change)
    outputs, batch = pairs()
    rewards, lengths = [], batch.inputs.lengths.tolist()
    for b, length in enumerate(lengths):
        over = length if config.length_normalised else 1
        sums = [
            float(table[b, :length].sum()) / over
            for table in (outputs.logprobs_BT, batch.ref_logprobs_BT)
        ]
        rewards.append(work_out("dpo", "r", beta=0.4, log_pi=sums[0], log_ref=sums[1]))
    losses, margins = [], []
    for chosen, rejected in zip(rewards[::2], rewards[1::2], strict=True):
        m = work_out("dpo", "m", r_chosen=chosen, r_rejected=rejected)
        given = {"m": m, "beta": 0.4, "e": config.label_smoothing}
        losses.append(work_out("dpo", config.variant, **given))
        margins.append(m)
    found = {t.name: float(t.sum) / 4 for t in DPO(config).loss(outputs, batch)}
    assert found["policy_loss"] == pytest.approx(sum(losses) / 4, rel=1e-10)
    assert found["margin"] == pytest.approx(sum(margins) / 4, rel=1e-10)
    assert found["accuracy"] == sum(m > 0 for m in margins) / 4
    assert found["chosen_reward"] == pytest.approx(sum(rewards[::2]) / 4, rel=1e-10)
    assert found["rejected_reward"] == pytest.approx(sum(rewards[1::2]) / 4, rel=1e-10)


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("change", [{"label_smoothing": 0.2}, {"variant": "ipo"}], ids=str)
def test_loss_of_dpo_is_least_where_the_page_says(beta: float, change: dict[str, Any]) -> None:
    config = DPOSettings(beta=beta, **change)
    e = config.label_smoothing
    least = math.log((1 - e) / e) / beta if e else 1 / (2 * beta)
    losses = [loss_at(config, least * share) for share in np.linspace(0, 2, 41)]
    assert int(np.argmin(losses)) == 20


def test_without_smoothing_the_loss_of_dpo_falls_without_end() -> None:
    losses = [loss_at(DPOSettings(beta=0.1), apart) for apart in (0.0, 5.0, 50.0, 200.0)]
    assert losses == sorted(set(losses), reverse=True)


def loss_at(config: DPOSettings, apart: float) -> float:
    """Of a pair of single actions whose log-ratios differ by so much."""
    logprobs = torch.tensor([[apart], [0.0]], dtype=torch.float64)
    rows = Rows(torch.tensor([1, 1]), logprobs, torch.arange(2))
    batch = ReferencePairBatch(inputs=rows, ref_logprobs_BT=torch.zeros_like(logprobs))
    return float(DPO(config).loss(Outputs(logprobs), batch)[0].sum)


@pytest.mark.parametrize(("foreseen", "expected"), [(1.0, 1.0), (0.0, 0.0), (-1.0, -3.0)])
def test_value_explained_is_one_for_foresight_and_zero_for_none(foreseen, expected) -> None:
    scores = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    rows = Rows(torch.ones(4, dtype=torch.int64), torch.zeros(4, 1).double(), torch.arange(4))
    rollouts = Rollouts(
        samples=[],
        inputs=rows,
        logprobs_BT=rows.logits,
        ref_logprobs_BT=rows.logits,
        scores_B=scores,
        missing_eos_B=torch.zeros(4, dtype=torch.bool),
        values_BT=foreseen * scores[:, None] + 0.7 * (1 - foreseen),
    )
    _, metrics = PPO(PPOSettings()).credit(rollouts)
    assert metrics["value_explained"] == pytest.approx(expected, abs=1e-9)

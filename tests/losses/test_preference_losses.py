"""DPO, conservative DPO and IPO."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from backflip.losses import A, comparison_nll, dpo_loss

logprobs = st.floats(-40, 0)
pairs = st.tuples(logprobs, logprobs)
betas = st.floats(0.01, 2)
smoothings = st.floats(0, 0.5)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def dpo(policy, reference, beta=0.1, **options):
    return dpo_loss(
        logprobs_B2=policy if isinstance(policy, torch.Tensor) else f64(policy),
        ref_logprobs_B2=reference if isinstance(reference, torch.Tensor) else f64(reference),
        beta=beta,
        **options,
    )


def log_sigmoid(x):
    return min(x, 0) - math.log1p(math.exp(-abs(x)))


@given(policy=pairs, reference=pairs, beta=betas, smoothing=smoothings)
def test_sigmoid_loss_by_the_papers_equation(policy, reference, beta, smoothing):
    h = (policy[0] - reference[0]) - (policy[1] - reference[1])
    expected = -(1 - smoothing) * log_sigmoid(beta * h) - smoothing * log_sigmoid(-beta * h)
    total, _ = dpo(policy, reference, beta, label_smoothing=smoothing)
    assert total.item() == pytest.approx(expected, rel=1e-9, abs=1e-11)


@given(policy=pairs, reference=pairs, beta=betas)
def test_ipo_loss_by_the_papers_equation(policy, reference, beta):
    h = (policy[0] - policy[1]) - (reference[0] - reference[1])
    total, _ = dpo(policy, reference, beta, variant="ipo")
    assert total.item() == pytest.approx((h - 1 / (2 * beta)) ** 2, rel=1e-9, abs=1e-9)


@given(policy=pairs, reference=pairs, beta=betas)
def test_dpo_is_bradley_terry_on_implicit_rewards(policy, reference, beta):
    rewards = f64(policy) - f64(reference)
    expected = comparison_nll(
        scores_B2=rewards, choice_B=torch.tensor([A]), beta_B=f64(beta), log_tie=-math.inf
    )
    torch.testing.assert_close(dpo(policy, reference, beta)[0], expected[0])


@given(policy=pairs, reference=pairs, shift=st.floats(-20, 20))
def test_what_both_samples_share_does_not_count(policy, reference, shift):
    moved = [p + shift for p in policy]
    for variant in ("sigmoid", "ipo"):
        here, _ = dpo(policy, reference, variant=variant)
        there, _ = dpo(moved, reference, variant=variant)
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)


@given(policy=pairs, reference=pairs, smoothing=smoothings)
def test_turning_a_pair_round_is_turning_its_label_round(policy, reference, smoothing):
    here, metrics = dpo(policy, reference, label_smoothing=smoothing)
    there, turned = dpo(policy[::-1], reference[::-1], label_smoothing=smoothing)
    h = 0.1 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    # log s(h) - log s(-h) = h, so the two differ by (1 - 2 e) h.
    difference = (there - here).item()
    assert difference == pytest.approx((1 - 2 * smoothing) * h, rel=1e-9, abs=1e-9)
    assert metrics["accuracy"] + turned["accuracy"] == 1
    assert metrics["margin"].item() == pytest.approx(-turned["margin"].item(), abs=1e-12)
    assert metrics["chosen_reward"] == turned["rejected_reward"]


def test_an_untrained_policy_knows_nothing():
    same = f64((-3.0, -8.0), (-1.0, -2.0))
    total, metrics = dpo(same, same, beta=0.3)
    assert total.item() == pytest.approx(2 * math.log(2))
    assert {k: v.item() for k, v in metrics.items()} == {
        "accuracy": 1.0,  # a half of each of the two
        "chosen_reward": 0.0,
        "rejected_reward": 0.0,
        "margin": 0.0,
    }


def test_metrics_by_hand():
    policy, reference = f64((-2.0, -9.0), (-5.0, -1.0)), f64((-3.0, -7.0), (-4.0, -4.0))
    _, metrics = dpo(policy, reference, beta=0.5)
    # log-ratios: (1, -2) and (-1, 3)
    assert {k: v.item() for k, v in metrics.items()} == {
        "accuracy": 1.0,
        "chosen_reward": 0.0,
        "rejected_reward": 0.5,
        "margin": -0.5,
    }
    assert not any(v.requires_grad for v in dpo(policy.requires_grad_(), reference)[1].values())


@pytest.mark.parametrize("smoothing", [0.05, 0.3])
def test_conservative_dpo_is_at_rest_where_it_believes_the_labels(smoothing):
    beta = 0.25
    h = math.log((1 - smoothing) / smoothing) / beta  # s(beta h) = 1 - e
    policy = f64((h, 0.0)).requires_grad_()
    dpo(policy, f64((0.0, 0.0)), beta, label_smoothing=smoothing)[0].backward()
    torch.testing.assert_close(policy.grad, f64((0.0, 0.0)), atol=1e-12, rtol=0)


def test_ipo_is_at_rest_at_half_over_beta():
    policy = f64((5.0, 0.0)).requires_grad_()
    total, _ = dpo(policy, f64((0.0, 0.0)), beta=0.1, variant="ipo")
    total.backward()
    assert total.item() == 0
    assert policy.grad.tolist() == [[0, 0]]


@pytest.mark.parametrize("variant", ["sigmoid", "ipo"])
def test_lengths_turn_sums_into_means(variant):
    policy, reference = f64((-8.0, -9.0)), f64((-6.0, -4.0))
    lengths = torch.tensor([[4, 2]])
    total, metrics = dpo(policy, reference, 0.3, variant=variant, lengths_B2=lengths)
    means, _ = dpo(f64((-2.0, -4.5)), f64((-1.5, -2.0)), 0.3, variant=variant)
    torch.testing.assert_close(total, means)
    assert metrics["margin"].item() == pytest.approx(0.3 * (-0.5 + 2.5))
    assert total != dpo(policy, reference, 0.3, variant=variant)[0]


@given(cut=st.integers(0, 4))
def test_pairs_add_up(cut):
    generator = torch.Generator().manual_seed(2)
    policy, reference = torch.randn(2, 4, 2, generator=generator).double()
    for variant in ("sigmoid", "ipo"):
        total, metrics = dpo(policy, reference, variant=variant)
        first, second = (
            dpo(policy[rows], reference[rows], variant=variant)
            for rows in (slice(cut), slice(cut, None))
        )
        torch.testing.assert_close(first[0] + second[0], total)
        for name, value in metrics.items():
            torch.testing.assert_close(first[1][name] + second[1][name], value)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"variant": "ipo"}])
@pytest.mark.parametrize("lengths", [None, torch.tensor([[3, 5], [2, 2]])])
def test_gradients_of_dpo(options, lengths):
    policy = f64((-4.0, -3.0), (-1.0, -6.0)).requires_grad_()
    reference = f64((-3.0, -3.5), (-2.0, -5.0)).requires_grad_()

    def loss(x):
        return dpo(x, reference.detach(), 0.7, lengths_B2=lengths, **options)[0]

    assert gradcheck(loss, policy)
    dpo(policy, reference, 0.7, **options)[0].backward()
    assert policy.grad is not None
    assert reference.grad is None


def test_far_pairs_stay_finite():
    policy = torch.tensor([[-2000.0, 0.0]], requires_grad=True)
    total, _ = dpo(policy, torch.zeros(1, 2), beta=1.0)
    total.backward()
    assert total.item() == 2000
    assert policy.grad.tolist() == [[-1, 1]]


def test_wrong_arguments_of_dpo_are_refused():
    x = f64((0.0, 1.0))
    for options, message in [
        ({"beta": 0.0}, "beta is 0.0"),
        ({"label_smoothing": 0.6}, "label_smoothing is 0.6"),
        ({"label_smoothing": 0.1, "variant": "ipo"}, "belongs to the sigmoid variant"),
        ({"variant": "hinge"}, "not 'sigmoid' or 'ipo'"),
        ({"lengths_B2": torch.tensor([[0, 3]])}, "without actions"),
        ({"lengths_B2": torch.tensor([2, 3])}, "lengths_B2 has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            dpo(x, x, **options)
    with pytest.raises(ValueError, match="ref_logprobs_B2 has shape"):
        dpo(x, f64((0.0, 1.0), (0.0, 1.0)))

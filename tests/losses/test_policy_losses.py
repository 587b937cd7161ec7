"""KL estimates, advantages, whitening and the clipped losses of PPO."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.autograd import gradcheck

from backflip.losses import clipped_policy_loss, clipped_value_loss, gae, kl_estimate, whiten

# Processors may take the smallest numbers of all for 0, and then see no difference.
numbers = st.floats(-5, 5, allow_subnormal=False)
shares = st.floats(0, 1)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def right_padded(lengths, width):
    return torch.arange(width) < torch.tensor(lengths)[:, None]


@st.composite
def batches(draw, num_tensors):
    """(B, T) tensors with garbage where masked, and the mask of right-padded rows."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(0, shape[1]), min_size=shape[0], max_size=shape[0]))
    mask = right_padded(lengths, shape[1])
    tensors = [
        torch.from_numpy(draw(arrays(np.float64, shape, elements=numbers)))
        for _ in range(num_tensors)
    ]
    return [torch.where(mask, t, math.nan) for t in tensors], mask


# KL


def kl(p, q, estimator):
    return kl_estimate(logprobs=f64(p), ref_logprobs=f64(q), estimator=estimator).item()


@given(p=numbers, q=numbers)
def test_kl_estimates_by_their_definition(p, q):
    r = math.exp(q - p)
    assert kl(p, q, "k1") == pytest.approx(-math.log(r), abs=1e-12)
    assert kl(p, q, "k2") == pytest.approx(math.log(r) ** 2 / 2, abs=1e-12)
    assert kl(p, q, "k3") == pytest.approx(r - 1 - math.log(r), rel=1e-9, abs=1e-12)
    assert min(kl(p, q, "k2"), kl(p, q, "k3")) >= 0


def test_kl_estimates_are_small_where_the_policies_are_close():
    # d^2 / 2 to leading order: exp(-d) - 1 + d taken naively in float64 would be lost in rounding.
    d = 1e-7
    assert kl(d, 0.0, "k3") == pytest.approx(d**2 / 2, rel=1e-2)


@given(logits=st.lists(st.tuples(numbers, numbers), min_size=2, max_size=6))
def test_k1_and_k3_are_unbiased(logits):
    p, q = f64(*logits).T.log_softmax(1)
    true = sum(a.exp() * (a - b) for a, b in zip(p, q, strict=True)).item()
    for estimator in ("k1", "k3"):
        each = kl_estimate(logprobs=p, ref_logprobs=q, estimator=estimator)
        assert (p.exp() * each).sum().item() == pytest.approx(true, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize(
    ("mean", "table"),
    [
        # Schulman 2020: bias / true and stdev / true of k1, k2, k3 for N(0, 1) against N(mean, 1).
        (0.1, {"k1": (0, 20), "k2": (0.002, 1.42), "k3": (0, 1.42)}),
        (1.0, {"k1": (0, 2), "k2": (0.25, 1.73), "k3": (0, 1.7)}),
    ],
)
def test_schulmans_published_table(mean, table):
    x, weights = np.polynomial.hermite_e.hermegauss(80)
    x, weights = torch.from_numpy(x), torch.from_numpy(weights / weights.sum())
    true = mean**2 / 2
    for estimator, (bias, deviation) in table.items():
        each = kl_estimate(
            logprobs=-(x**2) / 2, ref_logprobs=-((x - mean) ** 2) / 2, estimator=estimator
        )
        average = (weights * each).sum()
        spread = (weights * (each - average) ** 2).sum().sqrt()
        assert (average / true - 1).item() == pytest.approx(bias, abs=6e-4)
        assert (spread / true).item() == pytest.approx(deviation, abs=0.02)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_gradients_of_kl_estimates(estimator):
    def loss(p, q):
        return kl_estimate(logprobs=p, ref_logprobs=q, estimator=estimator)

    assert gradcheck(loss, [f64(-1.0, -2.0).requires_grad_(), f64(-1.5, -0.3).requires_grad_()])


def test_wrong_kl_arguments_are_refused():
    with pytest.raises(ValueError, match="not 'k1', 'k2' or 'k3'"):
        kl(0.0, 0.0, "k4")
    with pytest.raises(ValueError, match="ref_logprobs has shape"):
        kl_estimate(logprobs=f64(0.0, 1.0), ref_logprobs=f64(0.0), estimator="k1")


# Advantages


def advantages(rewards, values, mask, bootstrap, gamma, lam):
    return gae(
        rewards_BT=rewards, values_BT=values, mask_BT=mask, bootstrap_B=bootstrap, gamma=gamma,
        lam=lam,
    )  # fmt: skip


def n_step(rewards, values, t, n, gamma):
    """Advantage from n rewards and the value after them; `values` ends with the bootstrap."""
    total = sum(gamma**k * rewards[t + k] for k in range(n))
    return total + gamma**n * values[t + n] - values[t]


@given(
    batch=batches(2), bootstrap=arrays(np.float64, 4, elements=numbers), gamma=shares, lam=shares
)
def test_gae_is_the_weighted_mean_of_n_step_advantages(batch, bootstrap, gamma, lam):
    (rewards, values), mask = batch
    bootstrap = torch.from_numpy(bootstrap)[: len(mask)]
    got, returns = advantages(rewards, values, mask, bootstrap, gamma, lam)
    for row in range(len(mask)):
        T = int(mask[row].sum())
        r = rewards[row, :T].tolist()
        v = [*values[row, :T].tolist(), bootstrap[row].item()]
        for t in range(T):
            left = T - t
            weights = [(1 - lam) * lam ** (n - 1) for n in range(1, left)] + [lam ** (left - 1)]
            terms = [n_step(r, v, t, n, gamma) for n in range(1, left + 1)]
            expected = sum(w * a for w, a in zip(weights, terms, strict=True))
            assert got[row, t].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
            assert returns[row, t].item() == pytest.approx(expected + v[t], rel=1e-9, abs=1e-9)
    assert (got[~mask] == 0).all()
    assert (returns[~mask] == 0).all()


@given(batch=batches(2), gamma=shares)
def test_lambda_one_is_monte_carlo_and_lambda_zero_is_td(batch, gamma):
    (rewards, values), mask = batch
    bootstrap = torch.linspace(-1, 1, len(mask)).double()
    _, monte_carlo = advantages(rewards, values, mask, bootstrap, gamma, 1.0)
    _, one_step = advantages(rewards, values, mask, bootstrap, gamma, 0.0)
    for row in range(len(mask)):
        T = int(mask[row].sum())
        for t in range(T):
            after = sum(gamma ** (k - t) * rewards[row, k].item() for k in range(t, T))
            after += gamma ** (T - t) * bootstrap[row].item()
            assert monte_carlo[row, t].item() == pytest.approx(after, rel=1e-9, abs=1e-9)
            following = values[row, t + 1] if t + 1 < T else bootstrap[row]
            expected = rewards[row, t] + gamma * following
            assert one_step[row, t].item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)


def test_gae_by_hand_and_the_end_that_was_only_a_cut():
    rewards, values = f64((1.0, 0.0, 2.0)), f64((0.5, 1.0, 1.5))
    mask = torch.ones(1, 3, dtype=torch.bool)
    ended, _ = advantages(rewards, values, mask, f64(0.0), 0.9, 0.5)
    # deltas: 1 + 0.9 * 1 - 0.5 = 1.4;  0 + 0.9 * 1.5 - 1 = 0.35;  2 - 1.5 = 0.5
    torch.testing.assert_close(ended, f64((1.4 + 0.45 * (0.35 + 0.45 * 0.5), 0.575, 0.5)))
    cut, _ = advantages(rewards, values, mask, f64(3.0), 0.9, 0.5)
    torch.testing.assert_close(cut - ended, 2.7 * f64((0.45**2, 0.45, 1.0)))


@given(batch=batches(2), extra=st.integers(1, 3))
def test_padding_does_not_change_advantages(batch, extra):
    (rewards, values), mask = batch
    bootstrap = torch.ones(len(mask)).double()
    narrow = advantages(rewards, values, mask, bootstrap, 0.9, 0.8)
    wide = [torch.nn.functional.pad(x, (0, extra), value=math.nan) for x in (rewards, values)]
    padded = torch.nn.functional.pad(mask, (0, extra), value=False)
    for got, expected in zip(advantages(*wide, padded, bootstrap, 0.9, 0.8), narrow, strict=True):
        assert torch.equal(got[:, :-extra], expected)
        assert (got[:, -extra:] == 0).all()


def test_gradients_of_gae():
    mask = right_padded([3, 1], 3)
    leaves = [
        torch.randn(2, 3, generator=torch.Generator().manual_seed(i)).double() for i in (1, 2)
    ]
    leaves = [leaf.requires_grad_() for leaf in (*leaves, f64(0.5, -1.0))]
    assert gradcheck(lambda r, v, b: advantages(r, v, mask, b, 0.9, 0.7), leaves)


def test_wrong_gae_arguments_are_refused():
    x, b = torch.zeros(1, 3), torch.zeros(1)
    hole = torch.tensor([[True, False, True]])
    with pytest.raises(ValueError, match="an action after padding"):
        advantages(x, x, hole, b, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"not torch\.bool"):
        advantages(x, x, x, b, 1.0, 1.0)
    with pytest.raises(ValueError, match="values_BT has shape"):
        advantages(x, x[:, :2], hole, b, 1.0, 1.0)
    with pytest.raises(ValueError, match="bootstrap_B has shape"):
        advantages(x, x, hole, x, 1.0, 1.0)
    empty = torch.zeros(2, 0)
    got = advantages(empty, empty, empty.bool(), torch.zeros(2), 1.0, 1.0)
    assert [x.shape for x in got] == [(2, 0), (2, 0)]


# Whitening


@given(batch=batches(1), shift_mean=st.booleans())
def test_whiten_equals_numpy(batch, shift_mean):
    (values,), mask = batch
    got = whiten(values=values, mask=mask, shift_mean=shift_mean)
    assert (got[~mask] == 0).all()
    x = values[mask].numpy()
    if len(x):
        expected = (x - np.mean(x)) / np.sqrt(np.var(x) + 1e-8) + (0 if shift_mean else np.mean(x))
        np.testing.assert_allclose(got[mask].numpy(), expected, rtol=1e-7, atol=1e-9)


def test_whitened_values_have_mean_zero_and_variance_one():
    values = torch.randn(50, 7, generator=torch.Generator().manual_seed(4)).double() * 3 + 10
    mask = right_padded([7] * 30 + [2] * 20, 7)
    got = whiten(values=values, mask=mask)[mask]
    assert got.mean().item() == pytest.approx(0, abs=1e-12)
    assert got.square().mean().item() == pytest.approx(1, abs=1e-8)
    kept = whiten(values=values, mask=mask, shift_mean=False)[mask]
    assert kept.mean().item() == pytest.approx(values[mask].mean().item())
    one = whiten(values=f64((3.0, 9.0)), mask=torch.tensor([[True, False]]))
    assert one.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="mask has shape"):
        whiten(values=values, mask=mask[:3])


@pytest.mark.parametrize("shift_mean", [True, False])
def test_gradients_of_whiten(shift_mean):
    mask = right_padded([3, 2], 3)
    leaf = f64((1.0, -2.0, 0.3), (0.7, 4.0, 9.0)).requires_grad_()
    assert gradcheck(lambda x: whiten(values=x, mask=mask, shift_mean=shift_mean), leaf)


# Clipped losses


def policy_loss(new, old, advantage, mask, clip=0.2):
    return clipped_policy_loss(
        logprobs_BT=new, old_logprobs_BT=old, advantages_BT=advantage, mask_BT=mask, clip=clip
    )


def value_loss(new, old, returns, mask, clip=0.2):
    return clipped_value_loss(
        values_BT=new, old_values_BT=old, returns_BT=returns, mask_BT=mask, clip=clip
    )


def twin_policy_loss(new, old, advantage, clip):
    """By cases: the ratio is held where moving on would only look better."""
    r = math.exp(new - old)
    if advantage > 0:
        return -advantage * min(r, 1 + clip), r > 1 + clip
    return -advantage * max(r, 1 - clip), advantage < 0 and r < 1 - clip


@given(batch=batches(3), clip=st.floats(0.01, 0.9))
def test_policy_loss_by_cases(batch, clip):
    tensors, mask = batch
    total, metrics = policy_loss(*tensors, mask, clip)
    rows = [tuple(x.item() for x in row) for row in zip(*(t[mask] for t in tensors), strict=True)]
    losses = [twin_policy_loss(*row, clip) for row in rows]
    assert total.item() == pytest.approx(sum(x for x, _ in losses), rel=1e-9, abs=1e-9)
    assert metrics["clip_fraction"].item() == sum(held for _, held in losses)
    ratios = [math.exp(new - old) for new, old, _ in rows]
    kl_sum = sum(r - 1 - math.log(r) for r in ratios)
    assert metrics["approx_kl"].item() == pytest.approx(kl_sum, rel=1e-9, abs=1e-9)
    assert metrics["ratio_max"].item() == pytest.approx(max(ratios, default=0))


@given(batch=batches(3), clip=st.floats(0.01, 3))
def test_value_loss_by_cases(batch, clip):
    tensors, mask = batch
    total, metrics = value_loss(*tensors, mask, clip)
    expected = held = squared = 0.0
    for new, old, target in zip(*(t[mask].tolist() for t in tensors), strict=True):
        near = min(max(new, old - clip), old + clip)
        expected += max((new - target) ** 2, (near - target) ** 2) / 2
        held += (near - target) ** 2 > (new - target) ** 2
        squared += (new - target) ** 2
    assert total.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert metrics["value_clip_fraction"].item() == held
    assert metrics["value_squared_error"].item() == pytest.approx(squared, rel=1e-9, abs=1e-9)


def test_policy_gradient_at_the_policy_that_acted():
    """Before the first step the gradient is the policy gradient: minus the advantage."""
    old = f64((-1.0, -2.0, -0.5))
    new = old.clone().requires_grad_()
    advantage = f64((2.0, -3.0, 0.0))
    total, metrics = policy_loss(new, old, advantage, torch.ones(1, 3, dtype=torch.bool))
    total.backward()
    torch.testing.assert_close(new.grad, -advantage)
    assert {k: v.item() for k, v in metrics.items()} == {
        "clip_fraction": 0,
        "approx_kl": 0,
        "ratio_max": 1,
    }


def test_clip_stops_the_gradient_only_where_it_would_go_too_far():
    ratio = f64((1.5, 1.5, 0.5, 0.5))
    advantage = f64((1.0, -1.0, 1.0, -1.0))
    new = ratio.log().requires_grad_()
    total, _ = policy_loss(new, torch.zeros(1, 4).double(), advantage, torch.ones(1, 4).bool())
    total.backward()
    torch.testing.assert_close(new.grad, f64((0.0, 1.5, -0.5, 0.0)))


def test_rounding_is_not_clipping():
    # 1 + (2e-5 - 1) is not 2e-5 in float64, and the value is well within 1 of the old one.
    _, metrics = value_loss(f64((2e-5,)), f64((1.0,)), f64((0.0,)), torch.ones(1, 1).bool(), 1.0)
    assert metrics["value_clip_fraction"].item() == 0


def test_an_infinite_clip_is_plain_squared_error():
    new, old, target = f64((3.0, -1.0)), f64((0.0, 0.0)), f64((1.0, 1.0))
    total, metrics = value_loss(new, old, target, torch.ones(1, 2).bool(), math.inf)
    assert total.item() == (4 + 4) / 2
    assert metrics["value_clip_fraction"].item() == 0


@pytest.mark.parametrize("loss", [policy_loss, value_loss])
@given(batch=batches(3), cut=st.integers(0, 4))
def test_rows_and_padding_add_nothing_of_their_own(loss, batch, cut):
    """Sums of micro-batches are the batch's; what is masked has no gradient, NaN or not."""
    tensors, mask = batch
    leaf = tensors[0].clone().requires_grad_()
    total, metrics = loss(leaf, *tensors[1:], mask)
    total.backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[~mask] == 0).all()
    parts = [loss(*(t[rows] for t in (*tensors, mask))) for rows in (slice(cut), slice(cut, None))]
    torch.testing.assert_close(parts[0][0] + parts[1][0], total.detach())
    for name, value in metrics.items():
        first, second = (part[1][name] for part in parts)
        joined = torch.maximum(first, second) if name == "ratio_max" else first + second
        torch.testing.assert_close(joined, value)
        assert not value.requires_grad


@pytest.mark.parametrize("loss", [policy_loss, value_loss])
def test_gradients_of_clipped_losses(loss):
    generator = torch.Generator().manual_seed(8)
    new, old, target = torch.randn(3, 5, 4, generator=generator).double()
    mask = right_padded([4, 3, 4, 0, 1], 4)
    assert gradcheck(lambda x: loss(x, old, target, mask)[0], new.requires_grad_())


@pytest.mark.parametrize("loss", [policy_loss, value_loss])
def test_what_was_measured_before_is_a_constant(loss):
    leaves = [f64((0.1, 0.2)).requires_grad_() for _ in range(3)]
    loss(*leaves, torch.ones(1, 2).bool())[0].backward()
    assert leaves[0].grad is not None
    assert leaves[1].grad is leaves[2].grad is None


@pytest.mark.parametrize("loss", [policy_loss, value_loss])
def test_wrong_arguments_of_clipped_losses_are_refused(loss):
    x, mask = torch.zeros(2, 3), torch.ones(2, 3).bool()
    for bad in ((x, x[:1], x, mask), (x, x, x[:, :1], mask), (x, x, x, mask[:1])):
        with pytest.raises(ValueError, match="has shape"):
            loss(*bad)
    with pytest.raises(ValueError, match=r"not torch\.bool"):
        loss(x, x, x, x)
    with pytest.raises(ValueError, match="clip is 0"):
        loss(x, x, x, mask, 0)

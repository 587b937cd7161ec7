"""Comparisons with ties, margins and "both bad": twins, symmetries and a published fit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from backflip.losses import (
    BOTH_BAD,
    CHOICES,
    TIE,
    A,
    B,
    binary_nll,
    choice_nll,
    comparison_nll,
    rating_nll,
)

scores = st.floats(-6, 6)
betas = st.floats(0, 4)
log_ties = st.floats(-5, 4)
TIE_MODELS = ["davidson", "rao_kupper"]


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def compare(pair, choice, beta=1.0, **options):
    """One comparison's negative log-likelihood, as a float."""
    options = {k: f64(v) if k == "margin_B" else v for k, v in options.items()}
    options.setdefault("log_tie", -math.inf)
    return comparison_nll(
        scores_B2=f64(pair), choice_B=torch.tensor([choice]), beta_B=f64(beta), **options
    ).item()


def logistic(x):
    return 1 / (1 + math.exp(-x))


def twin_probabilities(a, b, beta, log_tie, ties):
    """P(a), P(b), P(no preference) from the worths, as the papers write them."""
    pi_a, pi_b, nu = math.exp(beta * a), math.exp(beta * b), math.exp(log_tie)
    if ties == "davidson":
        total = pi_a + pi_b + nu * math.sqrt(pi_a * pi_b)
        return pi_a / total, pi_b / total, nu * math.sqrt(pi_a * pi_b) / total
    theta = 1 + nu
    lose_a, lose_b = pi_a + theta * pi_b, theta * pi_a + pi_b
    return pi_a / lose_a, pi_b / lose_b, (theta**2 - 1) * pi_a * pi_b / (lose_a * lose_b)


@pytest.mark.parametrize("ties", TIE_MODELS)
@given(a=scores, b=scores, beta=betas, log_tie=log_ties)
def test_comparison_is_what_the_papers_write(ties, a, b, beta, log_tie):
    expected = twin_probabilities(a, b, beta, log_tie, ties)
    for choice, probability in zip((A, B, TIE), expected, strict=True):
        nll = compare((a, b), choice, beta, log_tie=log_tie, ties=ties)
        assert nll == pytest.approx(-math.log(probability), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("ties", TIE_MODELS)
@given(a=scores, b=scores, beta=betas, log_tie=log_ties, threshold=scores)
def test_both_bad_takes_its_share_of_the_ties(ties, a, b, beta, log_tie, threshold):
    neither = twin_probabilities(a, b, beta, log_tie, ties)[2]
    bad = logistic(beta * (threshold - a)) * logistic(beta * (threshold - b))
    options = {"log_tie": log_tie, "threshold": threshold, "ties": ties}
    assert math.exp(-compare((a, b), BOTH_BAD, beta, **options)) == pytest.approx(
        neither * bad, rel=1e-9
    )
    assert math.exp(-compare((a, b), TIE, beta, **options)) == pytest.approx(
        neither * (1 - bad), rel=1e-6, abs=1e-14
    )


@pytest.mark.parametrize("ties", TIE_MODELS)
@pytest.mark.parametrize("threshold", [None, 0.3])
@given(a=scores, b=scores, beta=betas, log_tie=log_ties)
def test_probabilities_of_all_outcomes_sum_to_one(ties, threshold, a, b, beta, log_tie):
    outcomes = (A, B, TIE) if threshold is None else (A, B, TIE, BOTH_BAD)
    options = {"log_tie": log_tie, "threshold": threshold, "ties": ties}
    total = sum(math.exp(-compare((a, b), choice, beta, **options)) for choice in outcomes)
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("ties", TIE_MODELS)
@given(a=scores, b=scores, beta=betas, log_tie=log_ties, margin=st.floats(0, 3))
def test_swapping_samples_and_choice_changes_nothing(ties, a, b, beta, log_tie, margin):
    options = {"log_tie": log_tie, "threshold": 0.5, "ties": ties, "margin_B": margin}
    for choice, swapped in ((A, B), (B, A), (TIE, TIE), (BOTH_BAD, BOTH_BAD)):
        first = compare((a, b), choice, beta, **options)
        second = compare((b, a), swapped, beta, **options)
        assert first == pytest.approx(second, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("ties", TIE_MODELS)
@given(a=scores, b=scores, beta=betas, shift=st.floats(-50, 50))
def test_only_differences_of_scores_count(ties, a, b, beta, shift):
    for choice in (A, B, TIE):
        here = compare((a, b), choice, beta, log_tie=-0.4, ties=ties)
        there = compare((a + shift, b + shift), choice, beta, log_tie=-0.4, ties=ties)
        assert here == pytest.approx(there, abs=1e-11)


@pytest.mark.parametrize("ties", TIE_MODELS)
@given(a=scores, b=scores, beta=betas)
def test_forbidden_ties_leave_bradley_terry(ties, a, b, beta):
    expected = math.log1p(math.exp(beta * (b - a)))
    assert compare((a, b), A, beta, ties=ties) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert compare((a, b), TIE, beta, ties=ties) == math.inf


@pytest.mark.parametrize("ties", TIE_MODELS)
def test_infinite_settings_leave_finite_gradients(ties):
    leaves = [f64((1.0, -2.0), (0.5, 0.7)), f64(1.5, 0.5), f64(-math.inf).squeeze()]
    leaves += [f64(-math.inf, 0.2)]
    for leaf in leaves:
        leaf.requires_grad_()
    comparison_nll(
        scores_B2=leaves[0],
        choice_B=torch.tensor([A, B]),
        beta_B=leaves[1],
        log_tie=leaves[2],
        threshold=leaves[3],
        ties=ties,
    ).sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)
    # d nll / d score of a Bradley-Terry loss is beta times the probability of the other outcome.
    assert leaves[0].grad[0, 0].item() == pytest.approx(-1.5 * logistic(-1.5 * 3))


@given(a=scores, b=scores, beta=betas, margin=st.floats(0, 3))
def test_margin_is_asked_of_the_preferred_sample_only(a, b, beta, margin):
    expected = math.log1p(math.exp(-beta * (b - margin - a)))
    assert compare((a, b), B, beta, margin_B=margin) == pytest.approx(expected, abs=1e-12)
    for choice in (TIE, BOTH_BAD):
        options = {"log_tie": 0.0, "threshold": 0.0}
        with_margin = compare((a, b), choice, beta, margin_B=margin, **options)
        assert with_margin == compare((a, b), choice, beta, **options)


def test_margin_with_ties_by_hand():
    # u = (2 - 1, 0) for beta 1; nu = 2: P(a) = e / (e + 1 + 2 sqrt(e)).
    expected = math.e / (math.e + 1 + 2 * math.sqrt(math.e))
    got = compare((2.0, 0.0), A, margin_B=1.0, log_tie=math.log(2))
    assert got == pytest.approx(-math.log(expected))


@pytest.mark.parametrize("ties", TIE_MODELS)
def test_threshold_of_minus_infinity_means_not_offered(ties):
    rows = {"scores_B2": f64((0.3, 1.0), (0.3, 1.0)), "choice_B": torch.tensor([TIE, TIE])}
    rows |= {"beta_B": f64(2.0, 2.0), "log_tie": -0.5, "ties": ties}
    first, second = comparison_nll(**rows, threshold=f64(-math.inf, 0.6)).tolist()
    assert first == comparison_nll(**rows)[0].item()
    assert second > first  # part of the ties went to "both bad"


@pytest.mark.parametrize("ties", TIE_MODELS)
def test_far_scores_stay_exact(ties):
    # log P(b) of Bradley-Terry at 1000 apart is -1000 to every digit.
    assert compare((500.0, -500.0), B, ties=ties) == 1000
    far = comparison_nll(
        scores_B2=(x := torch.tensor([[400.0, -400.0]], requires_grad=True)),
        choice_B=torch.tensor([BOTH_BAD]),
        beta_B=torch.ones(1),
        log_tie=-1.0,
        threshold=0.0,
        ties=ties,
    )
    far.sum().backward()
    assert far.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("ties", TIE_MODELS)
def test_gradients_of_comparison(ties):
    generator = torch.Generator().manual_seed(1)
    pairs = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    choice = torch.tensor([A, B, TIE, BOTH_BAD] * 2)

    def loss(s, beta, log_tie, margin, threshold):
        return comparison_nll(
            scores_B2=s,
            choice_B=choice,
            beta_B=beta,
            log_tie=log_tie,
            margin_B=margin,
            threshold=threshold,
            ties=ties,
        )

    leaves = [pairs, torch.linspace(0.2, 3, 8).double(), f64(-0.3).squeeze()]
    leaves += [torch.linspace(0, 1, 8).double(), f64(0.4).squeeze()]
    assert gradcheck(loss, [leaf.requires_grad_() for leaf in leaves])


def test_davidsons_pudding():
    """Davidson 1970, example 2: six puddings, 15 pairs; his estimates of worth and ties."""
    table = [  # i, j, i preferred, j preferred, neither
        (1, 2, 19, 22, 16), (1, 3, 16, 19, 12), (2, 3, 19, 19, 10), (1, 4, 18, 23, 13),
        (2, 4, 23, 19, 9), (3, 4, 19, 20, 15), (1, 5, 13, 19, 18), (2, 5, 16, 20, 12),
        (3, 5, 16, 15, 17), (4, 5, 17, 14, 16), (1, 6, 18, 21, 12), (2, 6, 22, 20, 12),
        (3, 6, 13, 18, 10), (4, 6, 14, 19, 18), (5, 6, 11, 21, 12),
    ]  # fmt: skip
    pairs = torch.tensor([row[:2] for row in table]).repeat_interleave(3, 0) - 1
    counts = torch.tensor([row[2:] for row in table]).double().flatten()
    choice = torch.tensor([A, B, TIE]).repeat(len(table))
    free = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        nll = comparison_nll(
            scores_B2=free[:6][pairs],
            choice_B=choice,
            beta_B=torch.ones(len(choice)).double(),
            log_tie=free[6],
        )
        total = (counts * nll).sum() / counts.sum()
        total.backward()
        return total

    optimiser.step(closure)
    published = f64(0.1388005, 0.1729985, 0.1617420, 0.1653930, 0.1586805, 0.2023855)
    torch.testing.assert_close(free[:6].softmax(0).detach(), published, atol=5e-5, rtol=0)
    assert free[6].exp().item() == pytest.approx(0.7468, abs=5e-5)


def test_wrong_arguments_are_refused():
    good = {"scores_B2": f64((0.0, 1.0)), "choice_B": torch.tensor([A]), "beta_B": f64(1.0)}
    good |= {"log_tie": 0.0}
    for fault, message in [
        ({"choice_B": torch.tensor([BOTH_BAD])}, "both_bad needs a threshold"),
        ({"choice_B": torch.tensor([-1])}, "outside 0 to 2"),
        ({"choice_B": torch.tensor([4]), "threshold": 0.0}, "outside 0 to 3"),
        ({"beta_B": f64((1.0,))}, "beta_B has shape"),
        ({"scores_B2": f64((0.0, 1.0, 2.0))}, "scores_B2 has shape"),
        ({"margin_B": f64(1.0, 1.0)}, "margin_B has shape"),
        ({"log_tie": f64(0.0, 0.0)}, "log_tie"),
        ({"ties": "none"}, "not 'davidson'"),
    ]:
        with pytest.raises(ValueError, match=message):
            comparison_nll(**(good | fault))


def test_codes_follow_the_records_names():
    assert dict(CHOICES) == {"a": A, "b": B, "tie": TIE, "both_bad": BOTH_BAD}


@given(cut=st.integers(1, 5))
def test_micro_batches_add_up(cut):
    generator = torch.Generator().manual_seed(3)
    s = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    beta = torch.rand(6, generator=generator, dtype=torch.float64) + 0.5
    levels = torch.tensor([1, 2, 3, 3, 2, 1])
    cuts = f64((-0.5, 0.5)).expand(6, 2)

    def each(rows):
        comparison = comparison_nll(
            scores_B2=s[rows, :2], choice_B=levels[rows], beta_B=beta[rows], log_tie=0.1,
            threshold=0.0,
        )  # fmt: skip
        rating = rating_nll(
            scores_B=s[rows, 2], level_B=levels[rows], cutpoints_BC=cuts[rows], beta_B=beta[rows]
        )
        binary = binary_nll(
            scores_B=s[rows, 0], positive_B=levels[rows] > 1, threshold_B=s[rows, 1],
            beta_B=beta[rows],
        )  # fmt: skip
        choice = choice_nll(scores_BK=s[rows], chosen_B=levels[rows] - 1, beta_B=beta[rows])
        return torch.stack([comparison.sum(), rating.sum(), binary.sum(), choice.sum()])

    whole = each(slice(None))
    torch.testing.assert_close(each(slice(0, cut)) + each(slice(cut, None)), whole)

"""Ratings, good/bad and choices among options: closed forms, twins and a published fit."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from backflip.losses import (
    A,
    B,
    binary_nll,
    choice_nll,
    comparison_nll,
    ordered_cutpoints,
    rating_nll,
)

scores = st.floats(-6, 6)
betas = st.floats(0, 4)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def logistic(x):
    return 1 / (1 + math.exp(-x))


def rate(score, level, cutpoints, beta=1.0):
    return rating_nll(
        scores_B=f64(score),
        level_B=torch.tensor([level]),
        cutpoints_BC=f64(cutpoints),
        beta_B=f64(beta),
    ).item()


cutpoint_lists = st.lists(st.floats(-4, 4), min_size=1, max_size=6, unique=True).map(sorted)


@given(score=scores, cutpoints=cutpoint_lists, beta=betas)
def test_levels_are_differences_of_cumulative_probabilities(score, cutpoints, beta):
    below = [0, *(logistic(c - beta * score) for c in cutpoints), 1]
    for level, (lower, upper) in enumerate(pairwise(below), start=1):
        probability = math.exp(-rate(score, level, cutpoints, beta))
        assert probability == pytest.approx(upper - lower, rel=1e-7, abs=1e-14)


@given(score=st.floats(-40, 40), cutpoints=cutpoint_lists, beta=betas)
def test_probabilities_of_all_levels_sum_to_one(score, cutpoints, beta):
    levels = range(1, len(cutpoints) + 2)
    total = sum(math.exp(-rate(score, level, cutpoints, beta)) for level in levels)
    assert total == pytest.approx(1, abs=1e-12)


@given(score=scores, cutpoints=cutpoint_lists, beta=betas)
def test_turning_the_scale_round_changes_nothing(score, cutpoints, beta):
    turned = [-c for c in reversed(cutpoints)]
    for level in range(1, len(cutpoints) + 2):
        mirrored = rate(-score, len(cutpoints) + 2 - level, turned, beta)
        assert rate(score, level, cutpoints, beta) == pytest.approx(mirrored, abs=1e-12)


def test_ratings_of_wine():
    """Randall 1989: bitterness of 72 wines; fit and log-likelihood of R's `ordinal::clm`."""
    table = {  # (warm, contact): how often each of the levels 1 to 5 was given
        (0, 0): (4, 9, 5, 0, 0),
        (0, 1): (1, 7, 8, 2, 0),
        (1, 0): (0, 5, 8, 3, 2),
        (1, 1): (0, 1, 5, 7, 5),
    }
    design = f64(*[cell for cell in table for _ in range(5)])
    counts = f64(*[n for row in table.values() for n in row])
    free = f64(2.5031, 1.5278, -1.3444, 1.2508, 3.4669, 5.0064).requires_grad_()
    nll = rating_nll(
        scores_B=design @ free[:2],
        level_B=torch.arange(1, 6).repeat(4),
        cutpoints_BC=free[2:].expand(20, 4),
        beta_B=torch.ones(20).double(),
    )
    total = (counts * nll).sum()
    assert total.item() == pytest.approx(86.49, abs=0.005)
    total.backward()
    assert free.grad.abs().max() < 2e-3  # a maximum, to the digits that were published


def test_short_scales_are_padded_with_infinity():
    short, padded = (-1.0, 0.5), (-1.0, 0.5, math.inf, math.inf)
    for level in (1, 2, 3):
        assert rate(0.7, level, padded, 1.3) == rate(0.7, level, short, 1.3)
    with pytest.raises(ValueError, match="above its row's cutpoints"):
        rate(0.7, 4, padded)
    leaves = [f64(0.7).requires_grad_(), f64(padded).requires_grad_(), f64(1.3).requires_grad_()]
    rating_nll(
        scores_B=leaves[0], level_B=torch.tensor([3]), cutpoints_BC=leaves[1], beta_B=leaves[2]
    ).sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_gradients_of_rating():
    levels = torch.tensor([1, 2, 3, 4])

    def loss(s, beta, first, gaps):
        cutpoints = ordered_cutpoints(first, gaps)
        return rating_nll(scores_B=s, level_B=levels, cutpoints_BC=cutpoints, beta_B=beta)

    leaves = [f64(0.3, -1.0, 2.0, 0.1), f64(1.0, 0.2, 2.0, 0.7), f64(-1.0, -2.0, 0.0, -0.5)]
    leaves += [torch.linspace(-1, 1, 8).double().view(4, 2)]
    assert gradcheck(loss, [leaf.requires_grad_() for leaf in leaves])


def test_cutpoints_from_free_parameters():
    made = ordered_cutpoints(f64(-1.0, 2.0), f64((0.0, math.log(2)), (math.log(0.5), 1.0)))
    expected = f64((-1.0, 0.0, 2.0), (2.0, 2.5, 2.5 + math.e))
    torch.testing.assert_close(made, expected)
    assert ordered_cutpoints(f64(3.0).squeeze(), f64(0.0)).tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match="first has shape"):
        ordered_cutpoints(f64(1.0, 2.0), f64(0.0))


def test_wrong_ratings_are_refused():
    with pytest.raises(ValueError, match="outside 1 to 3"):
        rate(0.0, 0, (0.0, 1.0))
    with pytest.raises(ValueError, match="outside 1 to 3"):
        rate(0.0, 4, (0.0, 1.0))
    with pytest.raises(ValueError, match="descends"):
        rate(0.0, 1, (1.0, 0.0))


# Good or bad, and choices


@given(score=scores, threshold=scores, beta=betas)
def test_good_is_a_choice_over_the_threshold(score, threshold, beta):
    for positive in (True, False):
        got = binary_nll(
            scores_B=f64(score),
            positive_B=torch.tensor([positive]),
            threshold_B=f64(threshold),
            beta_B=f64(beta),
        ).item()
        chosen, other = (score, threshold) if positive else (threshold, score)
        expected = math.log1p(math.exp(beta * (other - chosen)))
        assert got == pytest.approx(expected, rel=1e-10, abs=1e-12)
        # A scale of two levels says the same, its cut point being on the scale of beta * score.
        two_levels = rate(score, 2 if positive else 1, (beta * threshold,), beta)
        assert got == pytest.approx(two_levels, abs=1e-12)


def test_gradients_of_binary():
    positive = torch.tensor([True, False, True])

    def loss(s, t, beta):
        return binary_nll(scores_B=s, positive_B=positive, threshold_B=t, beta_B=beta)

    leaves = [f64(0.3, -1.0, 2.0), f64(0.0, 0.5, 3.0), f64(1.0, 0.2, 2.0)]
    assert gradcheck(loss, [leaf.requires_grad_() for leaf in leaves])
    with pytest.raises(ValueError, match=r"not torch\.bool"):
        binary_nll(
            scores_B=leaves[0], positive_B=f64(1, 0, 1), threshold_B=leaves[1], beta_B=leaves[2]
        )


@given(options=st.lists(scores, min_size=1, max_size=12), beta=betas, data=st.data())
def test_choice_is_a_softmax(options, beta, data):
    chosen = data.draw(st.integers(0, len(options) - 1))
    total = sum(math.exp(beta * (x - options[chosen])) for x in options)
    got = choice_nll(
        scores_BK=f64(options), chosen_B=torch.tensor([chosen]), beta_B=f64(beta)
    ).item()
    assert got == pytest.approx(math.log(total), rel=1e-9, abs=1e-12)


@given(a=scores, b=scores, beta=betas)
def test_choice_of_two_is_bradley_terry(a, b, beta):
    for chosen, code in ((0, A), (1, B)):
        got = choice_nll(
            scores_BK=f64((a, b)), chosen_B=torch.tensor([chosen]), beta_B=f64(beta)
        ).item()
        expected = comparison_nll(
            scores_B2=f64((a, b)),
            choice_B=torch.tensor([code]),
            beta_B=f64(beta),
            log_tie=-math.inf,
        ).item()
        assert got == pytest.approx(expected, abs=1e-12)


def test_what_is_masked_out_of_a_choice_does_not_count():
    scores_BK = f64((0.3, math.nan, -0.2, 1.0), (math.inf, 0.0, 2.0, -1.0)).requires_grad_()
    mask = torch.tensor([[True, False, True, True], [False, True, True, True]])
    beta_B = f64(2.0, 0.5).requires_grad_()
    got = choice_nll(
        scores_BK=scores_BK, chosen_B=torch.tensor([2, 1]), beta_B=beta_B, mask_BK=mask
    )
    alone = choice_nll(
        scores_BK=f64((0.3, -0.2, 1.0), (0.0, 2.0, -1.0)),
        chosen_B=torch.tensor([1, 0]),
        beta_B=f64(2.0, 0.5),
    )
    torch.testing.assert_close(got.detach(), alone)
    got.sum().backward()
    assert scores_BK.grad.isfinite().all()
    assert beta_B.grad.isfinite().all()
    assert (scores_BK.grad[~mask] == 0).all()
    with pytest.raises(ValueError, match="masked out"):
        choice_nll(
            scores_BK=scores_BK, chosen_B=torch.tensor([1, 1]), beta_B=f64(1, 1), mask_BK=mask
        )
    with pytest.raises(ValueError, match="outside 0 to 3"):
        choice_nll(scores_BK=scores_BK, chosen_B=torch.tensor([4, 1]), beta_B=f64(1, 1))


def test_gradients_of_choice():
    mask = torch.tensor([[True, True, False], [True, True, True]])

    def loss(s, beta):
        chosen = torch.tensor([1, 2])
        return choice_nll(scores_BK=s, chosen_B=chosen, beta_B=beta, mask_BK=mask)

    leaves = [f64((0.1, 0.5, 9.0), (1.0, -1.0, 0.2)), f64(0.7, 2.0)]
    assert gradcheck(loss, [leaf.requires_grad_() for leaf in leaves])

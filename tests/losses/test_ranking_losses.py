"""Rankings with ties: an enumerating twin, and the models that they must become."""

import math
from itertools import combinations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from backflip.losses import MAX_RANKED, TIE, A, B, comparison_nll, ranking_nll

scores = st.floats(-5, 5)
betas = st.floats(0, 3)
log_ties = st.floats(-4, 3)


@st.composite
def rankings(draw, max_size=5):
    values = draw(st.lists(scores, min_size=1, max_size=max_size))
    ranks = draw(st.lists(st.integers(1, 9), min_size=len(values), max_size=len(values)))
    return values, ranks


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def rank(values, ranks, beta=1.0, log_tie=-math.inf):
    return ranking_nll(
        scores_BK=f64(values), ranks_BK=torch.tensor([ranks]), beta_B=f64(beta), log_tie=log_tie
    ).item()


def twin(values, ranks, beta, log_tie):
    """Davidson-Luce in worths: at each place, one of all sets of those left is chosen."""

    def worth(chosen):
        product_of_worths = math.prod(math.exp(beta * values[i]) for i in chosen)
        prevalence = math.exp(log_tie) ** (len(chosen) - 1)
        return prevalence * product_of_worths ** (1 / len(chosen))

    nll = 0.0
    for place in sorted(set(ranks)):
        left = [i for i, r in enumerate(ranks) if r >= place]
        sets = [s for size in range(1, len(left) + 1) for s in combinations(left, size)]
        chosen = [i for i in left if ranks[i] == place]
        nll -= math.log(worth(chosen) / sum(worth(s) for s in sets))
    return nll


def weak_orders(num):
    """Every order with ties of `num` items, as ranks without gaps."""
    return [
        ranks
        for ranks in product(range(1, num + 1), repeat=num)
        if set(ranks) == set(range(1, max(ranks) + 1))
    ]


@given(ranking=rankings(), beta=betas, log_tie=log_ties)
def test_ranking_is_what_the_paper_writes(ranking, beta, log_tie):
    values, ranks = ranking
    expected = twin(values, ranks, beta, log_tie)
    assert rank(values, ranks, beta, log_tie) == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_eight_samples_match_the_twin():
    values = [0.3, -1.0, 2.0, 0.1, 0.7, -0.4, 1.1, -2.0]
    for ranks in ([3, 1, 1, 2, 5, 3, 3, 4], [1] * 8, list(range(8))):
        expected = twin(values, ranks, 1.3, -0.7)
        assert rank(values, ranks, 1.3, -0.7) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("num", "how_many"), [(2, 3), (3, 13), (4, 75)])
@pytest.mark.parametrize("log_tie", [-math.inf, -1.0, 0.8])
def test_probabilities_of_all_weak_orders_sum_to_one(num, how_many, log_tie):
    orders = weak_orders(num)
    assert len(orders) == how_many  # Fubini numbers
    values = torch.randn(num, generator=torch.Generator().manual_seed(num), dtype=torch.float64)
    nll = ranking_nll(
        scores_BK=values.expand(how_many, num),
        ranks_BK=torch.tensor(orders),
        beta_B=torch.full((how_many,), 1.7, dtype=torch.float64),
        log_tie=log_tie,
    )
    assert (-nll).exp().sum().item() == pytest.approx(1, abs=1e-12)


@given(a=scores, b=scores, beta=betas, log_tie=log_ties)
def test_two_samples_are_davidsons_comparison(a, b, beta, log_tie):
    for ranks, choice in (([1, 2], A), ([2, 1], B), ([1, 1], TIE)):
        expected = comparison_nll(
            scores_B2=f64((a, b)), choice_B=torch.tensor([choice]), beta_B=f64(beta),
            log_tie=log_tie,
        ).item()  # fmt: skip
        assert rank((a, b), ranks, beta, log_tie) == pytest.approx(expected, abs=1e-12)


@given(values=st.lists(scores, min_size=2, max_size=8), beta=betas, data=st.data())
def test_forbidden_ties_leave_plackett_luce(values, beta, data):
    order = data.draw(st.permutations(range(len(values))))  # best first
    expected = 0.0
    for place, best in enumerate(order):
        expected += math.log(
            sum(math.exp(beta * (values[i] - values[best])) for i in order[place:])
        )
    ranks = [order.index(i) + 1 for i in range(len(values))]
    assert rank(values, ranks, beta) == pytest.approx(expected, rel=1e-9, abs=1e-11)
    ranks[order[0]] = ranks[order[1]]
    assert rank(values, ranks, beta) == math.inf


@given(ranking=rankings(), shift=st.floats(-30, 30), stretch=st.integers(1, 5), data=st.data())
def test_what_does_not_count(ranking, shift, stretch, data):
    """A common shift of scores, the names of the ranks, and the order of the samples."""
    values, ranks = ranking
    here = rank(values, ranks, 1.3, -0.3)
    assert rank([v + shift for v in values], ranks, 1.3, -0.3) == pytest.approx(here, abs=1e-9)
    assert rank(values, [stretch * r - 7 for r in ranks], 1.3, -0.3) == pytest.approx(here)
    order = data.draw(st.permutations(range(len(values))))
    shuffled = rank([values[i] for i in order], [ranks[i] for i in order], 1.3, -0.3)
    assert shuffled == pytest.approx(here, abs=1e-11)


@given(ranking=rankings(), before=st.integers(0, 2), after=st.integers(0, 1))
def test_what_is_masked_does_not_count(ranking, before, after):
    values, ranks = ranking
    padded = [math.nan] * before + values + [math.inf] * after
    there = [False] * before + [True] * len(values) + [False] * after
    leaf = f64(padded).requires_grad_()
    beta = f64(1.3).requires_grad_()
    got = ranking_nll(
        scores_BK=leaf,
        ranks_BK=torch.tensor([[ranks[0]] * before + ranks + [99] * after]),
        beta_B=beta,
        log_tie=-0.3,
        mask_BK=torch.tensor([there]),
    )
    assert got.item() == pytest.approx(rank(values, ranks, 1.3, -0.3), abs=1e-12)
    got.sum().backward()
    assert leaf.grad.isfinite().all()
    assert beta.grad.isfinite().all()
    assert (leaf.grad[0, ~torch.tensor(there)] == 0).all()


def test_gradients_of_ranking():
    mask = torch.tensor([[True] * 4, [True, True, False, True], [True] * 4])

    def loss(s, beta, log_tie):
        ranks = torch.tensor([[1, 2, 2, 3], [2, 2, 1, 1], [4, 3, 2, 1]])
        return ranking_nll(scores_BK=s, ranks_BK=ranks, beta_B=beta, log_tie=log_tie, mask_BK=mask)

    s = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for log_tie in (f64(-0.5).squeeze(), f64(-0.5, 0.3, 1.0)):
        leaves = [leaf.detach().requires_grad_() for leaf in (s, f64(0.4, 1.0, 2.5), log_tie)]
        assert gradcheck(loss, leaves)


def test_forbidden_ties_leave_finite_gradients():
    leaves = [f64((0.2, 1.0, -1.0)).requires_grad_(), f64(1.5).requires_grad_()]
    log_tie = f64(-math.inf).squeeze().requires_grad_()
    ranking_nll(
        scores_BK=leaves[0], ranks_BK=torch.tensor([[2, 1, 3]]), beta_B=leaves[1], log_tie=log_tie
    ).sum().backward()
    assert leaves[0].grad.isfinite().all()
    assert leaves[1].grad.isfinite().all()
    assert log_tie.grad.item() == 0
    # Plackett-Luce by hand: the winner's gradient is beta (P(first) - 1) at the first choice.
    weights = [math.exp(1.5 * x) for x in (0.2, 1.0, -1.0)]
    expected = 1.5 * (weights[1] / sum(weights) - 1)
    assert leaves[0].grad[0, 1].item() == pytest.approx(expected)


def test_far_scores_stay_finite():
    leaf = torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True)
    nll = ranking_nll(
        scores_BK=leaf, ranks_BK=torch.tensor([[3, 1, 2]]), beta_B=torch.ones(1), log_tie=-math.inf
    )
    nll.sum().backward()
    assert nll.item() == 900.0  # 600 for the first choice and 300 for the second, to float32
    assert leaf.grad.isfinite().all()


def test_maximum_is_where_hunters_algorithm_ends():
    """Partial rankings of four items; the fit by MM (Hunter 2004, eq. 31) has no gradient left."""
    orderings = [(0, 1), (2, 0, 3), (0, 3), (1, 0, 3, 2), (1, 2, 3), (0, 1, 2)]
    wins = [sum(i in order[:-1] for order in orderings) for i in range(4)]
    worth = [0.25] * 4
    for _ in range(3000):
        shares = [0.0] * 4
        for order in orderings:
            for place in range(len(order) - 1):
                total = sum(worth[i] for i in order[place:])
                for i in order[place:]:
                    shares[i] += 1 / total
        worth = [wins[i] / shares[i] for i in range(4)]
        worth = [w / sum(worth) for w in worth]
    ranks = torch.tensor([[o.index(i) if i in o else 0 for i in range(4)] for o in orderings])
    mask = torch.tensor([[i in o for i in range(4)] for o in orderings])
    free = torch.tensor(worth, dtype=torch.float64).log().requires_grad_()
    ranking_nll(
        scores_BK=free.expand(6, 4), ranks_BK=ranks, beta_B=torch.ones(6).double(),
        log_tie=-math.inf, mask_BK=mask,
    ).sum().backward()  # fmt: skip
    assert free.grad.abs().max() < 1e-10
    assert max(worth) - min(worth) > 0.1  # and the fit is not the trivial one


@given(cut=st.integers(1, 4))
def test_micro_batches_add_up(cut):
    generator = torch.Generator().manual_seed(5)
    s = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    ranks = torch.randint(1, 4, (5, 4), generator=generator)

    def each(rows):
        beta = torch.linspace(0.5, 2, 5).double()[rows]
        return ranking_nll(scores_BK=s[rows], ranks_BK=ranks[rows], beta_B=beta, log_tie=0.2).sum()

    torch.testing.assert_close(each(slice(0, cut)) + each(slice(cut, None)), each(slice(None)))


def test_wrong_rankings_are_refused():
    with pytest.raises(ValueError, match="at most 8"):
        rank([0.0] * (MAX_RANKED + 1), range(MAX_RANKED + 1))
    with pytest.raises(ValueError, match="ranks_BK has shape"):
        rank([0.0, 1.0], [1, 2, 3])
    with pytest.raises(ValueError, match=r"not torch\.bool"):
        ranking_nll(
            scores_BK=f64((0.0, 1.0)), ranks_BK=torch.tensor([[1, 2]]), beta_B=f64(1.0),
            log_tie=0.0, mask_BK=f64((1.0, 1.0)),
        )  # fmt: skip

"""Intervals of the leaderboard: by hand, against a slow twin, and over simulated crowds."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaderboard_votes import by_model, connected_votes, grid, vote
from scipy.special import expit
from scipy.stats import t as student

from backflip.quality.leaderboard import Vote, leaderboard

POINTS = {"a": 1.0, "b": 0.0, "tie": 0.5}


def test_interval_of_two_models_worked_by_hand() -> None:
    """x wins 6 of 9, so p = 2/3 and the information on the difference is 9 p (1 - p) = 2.

    The scores are 1/3 for a win and -2/3 for a loss. Prompts (rows) sum to 1, 0, -1 and so do
    annotators (columns): each 3/2 * 2 = 3. Each vote is a cell: 9/8 * (6/9 + 3 * 4/9) = 9/4. So
    the difference has the variance (3 + 3 - 9/4) / 2^2 = 15/16, and a strength, half of it, 15/64.
    """
    x = by_model(leaderboard(grid([[1, 1, 1], [1, 1, 0], [1, 0, 0]]), reference="y"))["x"]
    quantile = 4.302653  # of Student's t, 97.5 %, 2 degrees of freedom
    half = quantile * math.sqrt(15 / 64)
    assert x.low == pytest.approx(math.log(2) / 2 - half, rel=1e-6)
    assert x.high == pytest.approx(math.log(2) / 2 + half, rel=1e-6)
    assert x.win_rate_low == pytest.approx(expit(math.log(2) - 2 * half), rel=1e-6)
    assert x.win_rate_high == pytest.approx(expit(math.log(2) + 2 * half), rel=1e-6)


def test_one_way_counts_where_both_together_find_less() -> None:
    """x wins both of one prompt and none of the other: p = 1/2, information 4 / 4 = 1.

    Prompts sum to 1 and -1: 2/1 * 2 = 4. Annotators sum to 0. Cells: 4/3 * 4 / 4 = 4/3. Both ways
    make 4 + 0 - 4/3, less than prompts alone; a strength has a quarter of theirs, which is 1.
    """
    x = by_model(leaderboard(grid([[1, 1], [0, 0]])))["x"]
    assert x.strength == pytest.approx(0)
    assert x.high == pytest.approx(12.706205, rel=1e-6)  # Student's t, 1 degree of freedom
    assert x.low == pytest.approx(-12.706205, rel=1e-6)


def test_a_single_annotator_leaves_prompts_as_clusters() -> None:
    """The grid above with one annotator: 3 / 2^2 for the difference, 3/16 for a strength."""
    votes = [v._replace(annotator="u") for v in grid([[1, 1, 1], [1, 1, 0], [1, 0, 0]])]
    board = leaderboard(votes)
    assert (board.num_prompts, board.num_annotators) == (3, 1)
    x = by_model(board)["x"]
    assert x.high - x.strength == pytest.approx(4.302653 * math.sqrt(3 / 16), rel=1e-6)
    turned = leaderboard([v._replace(prompt=v.annotator, annotator=v.prompt) for v in votes])
    assert by_model(turned)["x"].high == pytest.approx(x.high)


@pytest.mark.parametrize(
    "votes",
    [
        [vote("x", "y", "tie", i, j) for i in range(3) for j in range(3)],
        grid([[1, 0], [0, 1]]),
        [vote("x", "y", "a"), vote("x", "y", "b"), vote("x", "y", "b")],
    ],
    ids=["all ties", "balanced", "one prompt and annotator"],
)
def test_no_interval_where_votes_show_no_variation(votes: list[Vote]) -> None:
    for standing in leaderboard(votes, reference="y").standings:
        assert standing.strength is not None
        assert standing.win_rate is not None
        bounds = (standing.low, standing.high, standing.win_rate_low, standing.win_rate_high)
        assert bounds == (None, None, None, None)
        assert (standing.elo_low, standing.elo_high) == (None, None)
        assert (standing.rank_best, standing.rank_worst) == (1, 2)


class SlowTwin:
    """Variances vote by vote, in the K - 1 differences from the last model."""

    def __init__(self, votes: list[Vote], strengths: dict[str, float]):
        self.models = sorted(strengths)
        size = len(self.models) - 1
        design = {name: np.eye(size + 1)[i, :size] for i, name in enumerate(self.models)}
        information = np.zeros((size, size))
        sums: dict[tuple, np.ndarray] = defaultdict(lambda: np.zeros(size))
        for v in votes:
            x = design[v.a] - design[v.b]
            p = expit(strengths[v.a] - strengths[v.b])
            information += p * (1 - p) * np.outer(x, x)
            for way in (("prompt", v.prompt), ("annotator", v.annotator), (v.prompt, v.annotator)):
                sums[way] += (POINTS[v.outcome] - p) * x
        inverse = np.linalg.inv(information)
        found = {}
        for way in ("prompt", "annotator", "both"):
            own = [
                s
                for key, s in sums.items()
                if (key[0] if key[0] in ("prompt", "annotator") else "both") == way
            ]
            meat = sum(np.outer(s, s) for s in own) * len(own) / max(len(own) - 1, 1)
            found[way] = (inverse @ meat @ inverse, len(own))
        ways = [found[way] for way in ("prompt", "annotator") if found[way][1] > 1]
        self.freedom = min((num for _, num in ways), default=1) - 1
        self.covariances = [v for v, _ in ways]
        if len(ways) == 2:
            self.covariances.append(sum(self.covariances) - found["both"][0])

    def error(self, contrast: dict[str, float]) -> float:
        """Standard error of a sum of strengths by weights that add up to 0."""
        c = np.array([contrast.get(name, 0.0) for name in self.models[:-1]])
        return math.sqrt(max(0.0, *(c @ v @ c for v in self.covariances)))


@settings(max_examples=150)
@given(connected_votes(), st.sampled_from([0.5, 0.8, 0.95]))
def test_intervals_and_ranks_equal_those_of_a_slow_twin(votes: list[Vote], level: float) -> None:
    board = leaderboard(votes, reference="m0", confidence=level)
    standings = by_model(board)
    strengths = {name: s.strength for name, s in standings.items()}
    twin = SlowTwin(votes, strengths)
    size = len(strengths)
    if not twin.freedom:
        assert all(s.low is None for s in board.standings)
        return
    quantile = student.ppf((1 + level) / 2, twin.freedom)
    strict = student.ppf(1 - (1 - level) / 2 / (size - 1), twin.freedom)
    for name, standing in standings.items():
        error = twin.error({m: (m == name) - 1 / size for m in strengths})
        if error > 1e-5:
            assert standing.high - standing.strength == pytest.approx(quantile * error, rel=1e-5)
            assert standing.strength - standing.low == pytest.approx(quantile * error, rel=1e-5)
        ahead = standing.strength - strengths["m0"]
        assert standing.win_rate == pytest.approx(expit(ahead))
        error = twin.error({name: 1.0, "m0": -1.0})
        if name != "m0" and error > 1e-5:
            assert standing.win_rate_low == pytest.approx(expit(ahead - quantile * error), abs=1e-5)
            assert standing.win_rate_high == pytest.approx(
                expit(ahead + quantile * error), abs=1e-5
            )
        sure = {m: strict * twin.error({m: 1.0, name: -1.0}) for m in strengths if m != name}
        gaps = {m: strengths[m] - standing.strength for m in sure}
        if all(e > 1e-5 and abs(abs(gaps[m]) - e) > 1e-5 for m, e in sure.items()):
            assert standing.rank_best == 1 + sum(gaps[m] > e for m, e in sure.items())
            assert standing.rank_worst == size - sum(-gaps[m] > e for m, e in sure.items())


def test_sums_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = crowd(np.random.default_rng(5), [0.5, 0.0, -0.5], 300, 37, 11, spread=0.5)
    whole = leaderboard(votes)
    monkeypatch.setattr("backflip.statistics.bradley_terry._MOST_CELLS", 12)
    for one, other in zip(whole.standings, leaderboard(votes).standings, strict=True):
        assert one.low == pytest.approx(other.low, rel=1e-12)


def crowd(
    rng: np.random.Generator,
    strengths: list[float],
    num_votes: int,
    num_prompts: int,
    num_annotators: int,
    *,
    spread: float,
) -> list[Vote]:
    """Votes of people who like each model more on some prompts, and some people more than others.

    `spread` is the standard deviation of both, for each model on its own.
    """
    size = len(strengths)
    a = rng.integers(0, size, num_votes)
    b = (a + rng.integers(1, size, num_votes)) % size
    prompts = rng.integers(0, num_prompts, num_votes)
    annotators = rng.integers(0, num_annotators, num_votes)
    by_prompt = rng.normal(0, spread, (num_prompts, size))
    by_annotator = rng.normal(0, spread, (num_annotators, size))
    liking = np.array(strengths) + by_prompt[prompts] + by_annotator[annotators]
    rows = np.arange(num_votes)
    won = rng.random(num_votes) < expit(liking[rows, a] - liking[rows, b])
    return [
        vote(f"m{i}", f"m{j}", "a" if w else "b", p, q)
        for i, j, w, p, q in zip(a, b, won, prompts, annotators, strict=True)
    ]


def unclustered(votes: list[Vote]) -> list[Vote]:
    """The same votes as if each were by someone else on another prompt."""
    return [v._replace(prompt=str(i), annotator=str(i)) for i, v in enumerate(votes)]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Models liked alike: by symmetry every strength is 0. Intervals of independent votes miss."""
    clustered, naive, ranks = [], [], []
    for seed in range(200):
        votes = crowd(np.random.default_rng(seed), [0.0] * 4, 500, 40, 30, spread=0.6)
        for kept, read in ((clustered, votes), (naive, unclustered(votes))):
            kept += [s.low <= 0 <= s.high for s in leaderboard(read).standings]
        ranks += [s.rank_best == 1 and s.rank_worst == 4 for s in leaderboard(votes).standings]
    assert 0.925 < np.mean(clustered) < 0.975
    assert np.mean(naive) < 0.87
    assert np.mean(ranks) > 0.925


def test_intervals_hold_a_difference_that_is_not_zero() -> None:
    """Over prompts and annotators the first is preferred with E s(1 + 2 * 0.6 Z), Z normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    share = weights @ expit(1 + 2 * 0.6 * nodes) / weights.sum()
    truth = math.log(share / (1 - share)) / 2
    clustered, naive = [], []
    for seed in range(300):
        votes = crowd(np.random.default_rng(seed), [1.0, 0.0], 400, 40, 30, spread=0.6)
        for kept, read in ((clustered, votes), (naive, unclustered(votes))):
            best = by_model(leaderboard(read))["m0"]
            kept.append(best.low <= truth <= best.high)
    assert 0.91 < np.mean(clustered) < 0.98
    assert np.mean(naive) < 0.85

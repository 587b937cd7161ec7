"""Two-way clustered variances of the leaderboard against those of statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from backflip.statistics.bradley_terry import Ballots, clustered_spread


@settings(max_examples=60)
@given(st.integers(2, 6), st.integers(8, 60), st.integers(0, 2**32 - 1))
def test_variances_are_those_of_statsmodels(size: int, votes: int, seed: int) -> None:
    """It multiplies by (N - 1) / (N - K) besides, which the leaderboard does not."""
    draw = np.random.default_rng(seed)
    a = draw.integers(0, size, votes)
    b = (a + draw.integers(1, size, votes)) % size
    points = draw.integers(0, 3, votes) / 2
    # Each number occurs, as `Ballots` has it.
    prompts, annotators = (
        draw.permutation(np.arange(votes) % number) for number in draw.integers(2, 8, 2)
    )
    strengths, bread = draw.normal(size=size), draw.normal(size=(size, size))
    inverse = bread @ bread.T + np.eye(size)
    found = clustered_spread(Ballots(size, a, b, points, prompts, annotators), strengths, inverse)

    design = np.eye(size)[a] - np.eye(size)[b]
    wrong = points - 1 / (1 + np.exp(-(design @ strengths)))
    ways = cov_cluster_2groups((design * wrong[:, None], inverse), prompts, annotators)
    ways = [covariance * (votes - size) / (votes - 1) for covariance in ways]
    own = np.max([np.diag(covariance) for covariance in ways], axis=0)
    assert found.own == pytest.approx(own, rel=1e-9)
    for i in range(size):
        for j in range(size):
            if i != j:
                by_way = [v[i, i] + v[j, j] - 2 * v[i, j] for v in ways]
                assert found.between[i, j] == pytest.approx(max(by_way), rel=1e-8)

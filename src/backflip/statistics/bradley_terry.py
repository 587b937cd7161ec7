"""The arithmetic of the leaderboard: Bradley-Terry strengths and their clustered variances.

With the score u_v (K,) of each vote, its derivative of the log-likelihood, and the information
H (K, K), votes in the G clusters of c give the variance

    V_c = H^-1 [G / (G - 1) sum_g (sum_{v in g} u_v)(sum_{v in g} u_v)'] H^-1

of the strengths, and prompts and annotators together V_prompt + V_annotator - V_both, where the
clusters of "both" are the votes of one annotator on one prompt (Cameron, Gelbach & Miller 2011,
"Robust Inference With Multiway Clustering").
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_STEPS = 1000
_SMALL_STEP = 1e-8
_MOST_CELLS = 1 << 20
_NOTHING = 1e-12


@dataclass(frozen=True)
class Ballots:
    """N votes on K models as numbers.

    Attributes:
        num_models: K.
        a, b: (N,) the two models of each vote, from 0.
        points: (N,) what `a` won: 1, 0, or 0.5 for a tie.
        prompts, annotators: (N,) who was asked what, from 0.
    """

    num_models: int
    a: Ints
    b: Ints
    points: Floats
    prompts: Ints
    annotators: Ints

    @property
    def num_prompts(self) -> int:
        return int(self.prompts.max(initial=-1)) + 1

    @property
    def num_annotators(self) -> int:
        return int(self.annotators.max(initial=-1)) + 1

    def wins(self) -> Floats:
        """(K, K) votes that row won over column, ties counting half for both."""
        size = self.num_models
        pairs = np.concatenate([self.a * size + self.b, self.b * size + self.a])
        points = np.concatenate([self.points, 1 - self.points])
        return np.bincount(pairs, points, size * size).reshape(size, size).astype(np.float64)

    def counts(self) -> Ints:
        """(K, 3) wins, losses and ties of each model."""
        outcomes = np.round(2 * (1 - self.points)).astype(np.int64)  # of a: won 0, tied 1, lost 2
        of_a = np.bincount(self.a * 3 + outcomes, minlength=3 * self.num_models)
        of_b = np.bincount(self.b * 3 + 2 - outcomes, minlength=3 * self.num_models)
        return (of_a + of_b).reshape(-1, 3)[:, [0, 2, 1]]

    def among(self, models: Ints) -> Self:
        """The votes between these models, which are numbered anew in the order given."""
        number = np.full(self.num_models, -1)
        number[models] = np.arange(len(models))
        kept = (number[self.a] >= 0) & (number[self.b] >= 0)
        return type(self)(
            len(models),
            number[self.a[kept]],
            number[self.b[kept]],
            self.points[kept],
            np.unique(self.prompts[kept], return_inverse=True)[1],
            np.unique(self.annotators[kept], return_inverse=True)[1],
        )


def chance(ahead: Floats) -> Floats:
    """Probability that a model wins which is so far ahead, in logits; NaN stays NaN."""
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0, -ahead))


def connected_groups(wins: Floats) -> list[Ints]:
    """Models in groups within which a chain of wins or ties leads from each to each.

    Args:
        wins: (K, K) as `Ballots.wins` gives them.

    Returns:
        Indices into the K models, the largest group first, of equal ones that with more votes.
    """
    from scipy.sparse.csgraph import connected_components  # slow to import

    number, labels = connected_components(wins > 0, connection="strong")
    groups = [np.flatnonzero(labels == label) for label in range(number)]
    return sorted(groups, key=lambda g: (-len(g), -wins[np.ix_(g, g)].sum(), g[0]))


def fit_strengths(wins: Floats, ridge: float = 0.0) -> tuple[Floats, Floats]:
    """Maximise sum_ij wins_ij log P(i over j) - ridge / 2 sum_i s_i^2.

    Newton's steps are shortened by log(1 + r) / r, where r is the largest change of the difference
    of two models that met: a logistic likelihood's third derivative along a step is at most r
    times its second, so each such step goes uphill, and near the top it is a whole one (Sun &
    Tran-Dinh 2019, "Generalized self-concordant functions: a recipe for Newton-type methods").

    Args:
        wins: (K, K) one connected group, or anything with a ridge above 0.
        ridge: inverse variance of the prior.

    Returns:
        (K,) strengths of mean 0, and the (K, K) inverse of the information there. What no vote
        tells, the mean, has no part in either.
    """
    size = len(wins)
    games = wins + wins.T
    met = games > 0
    strengths = np.zeros(size)
    level = np.full((size, size), 1 / size)  # a projection on the mean
    for _ in range(_MOST_STEPS):
        chances = chance(strengths[:, None] - strengths)
        information = -games * chances * chances.T
        np.fill_diagonal(information, ridge - information.sum(1))
        scale = np.trace(information) / size
        inverse = np.linalg.inv(information + scale * level) - level / (scale + ridge)
        step = inverse @ ((wins - games * chances).sum(1) - ridge * strengths)
        change = np.abs(step[:, None] - step)[met].max()
        if change > 0:
            strengths += step * (np.log1p(change) / change)
        strengths -= strengths.mean()
        if change < _SMALL_STEP:
            return strengths, inverse
    raise FloatingPointError(f"strengths still move after {_MOST_STEPS} steps")


@dataclass(frozen=True)
class Spread:
    """How far strengths may be off; NaN where the votes cannot tell.

    Attributes:
        own: (K,) variance of each strength.
        between: (K, K) variance of each difference of two.
        freedom: degrees of freedom of Student's t to take with them.
    """

    own: Floats
    between: Floats
    freedom: int


def clustered_spread(
    ballots: Ballots, strengths: Floats, inverse: Floats, ridge: float = 0.0
) -> Spread:
    """Variances of strengths and of their differences, clustered by prompt and by annotator.

    V_prompt + V_annotator - V_both need not be positive semidefinite. Each variance is therefore
    the largest of what it, V_prompt and V_annotator give for that strength or difference: never
    negative, and never less than one way of clustering alone finds (MacKinnon, Nielsen & Webb
    2024, "Jackknife Inference with Two-Way Clustering"). A way with a single cluster is left out.
    Where all of them are 0 (every vote a tie, say), the votes show no variation to judge by. With
    a ridge, the posterior's variance is among them: what only the prior places must not look sure.

    Args:
        ballots: those that `fit_strengths` was given, N of them.
        strengths: (K,) what it found.
        inverse: (K, K) what it found.
        ridge: with what.
    """
    scores = ballots.points - chance(strengths[ballots.a] - strengths[ballots.b])
    counts = (ballots.num_prompts, ballots.num_annotators)
    ids = (ballots.prompts, ballots.annotators)
    ways = [clusters for clusters, n in zip(ids, counts, strict=True) if n > 1]
    if not ways:
        unknown = np.full_like(inverse, np.nan)
        return Spread(unknown[0], unknown, 0)
    found = [inverse @ _outer_sum(ballots, scores, c) @ inverse for c in ways]
    if len(found) == 2:
        both = ballots.prompts * counts[1] + ballots.annotators
        found.append(sum(found) - inverse @ _outer_sum(ballots, scores, both) @ inverse)
    if ridge:
        found.append(inverse)
    own = np.max([np.diag(v) for v in found], axis=0)
    between = np.max([_of_differences(v) for v in found], axis=0)
    own[own <= _NOTHING * np.diag(inverse)] = np.nan
    between[between <= _NOTHING * _of_differences(inverse)] = np.nan
    return Spread(own, between, min(n for n in counts if n > 1) - 1)


def _outer_sum(ballots: Ballots, scores: Floats, clusters: Ints) -> Floats:
    """(K, K) G / (G - 1) times the sum over G clusters of their score's outer square.

    `scores` (N,) are derivatives by the strength of `a`; those by that of `b` are their negatives.
    `clusters` (N,) names each vote's by any number.
    """
    size, order = ballots.num_models, np.argsort(clusters)
    numbers = np.cumsum(np.diff(clusters[order], prepend=clusters.min()) > 0)
    num, starts = int(numbers[-1]) + 1, numbers * size
    of_a, of_b, scores = starts + ballots.a[order], starts + ballots.b[order], scores[order]
    height = max(1, _MOST_CELLS // size)  # clusters at a time: memory must not grow with G K
    total = np.zeros((size, size))
    for first in range(0, num, height):
        low, high = np.searchsorted(starts, (first * size, (first + height) * size))
        weights, cells = scores[low:high], min(height, num - first) * size
        block = np.bincount(of_a[low:high] - first * size, weights, cells)
        block -= np.bincount(of_b[low:high] - first * size, weights, cells)
        block = block.reshape(-1, size)
        total += block.T @ block
    return total * num / (num - 1)


def _of_differences(covariance: Floats) -> Floats:
    """(K, K) variance of each difference of two, from their covariance."""
    variance = np.diag(covariance)
    return variance[:, None] + variance - 2 * covariance

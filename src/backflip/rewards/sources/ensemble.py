"""Several reward models as one: where they disagree, the policy is out on thin ice."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backflip.records import Sample
from backflip.rewards.base import Reward

Combination = Literal["mean", "worst", "uncertain"]


class EnsembleReward:
    """Members trained alike from other seeds (Coste et al. 2023, "Reward Model Ensembles Help
    Mitigate Overoptimization", section 3).

        mean       the members' mean
        worst      the lowest member: worst-case optimisation
        uncertain  mean - penalty * variance over members: uncertainty-weighted optimisation

    Members should be normalised on the same samples first, as raw scores of different models
    have no common zero. A sample that any member does not apply to gets None.

    Args:
        members: at least one; the variance needs at least two.
        combine: as above.
        penalty: weight of the variance (the paper's lambda), used by "uncertain" only.
    """

    def __init__(
        self,
        members: Sequence[Reward],
        *,
        combine: Combination = "mean",
        penalty: float = 0.1,
    ):
        if not members:
            raise ValueError("an ensemble has at least one member")
        if combine == "uncertain" and len(members) < 2:
            raise ValueError("the variance of an ensemble needs at least two members")
        self.members = tuple(members)
        self.combine: Combination = combine
        self.penalty = penalty

    def score(self, samples: Sequence[Sample]) -> list[float | None]:
        """One reward a sample, combined over the members."""
        return _numbers(self._combined(self.member_scores(samples)))

    def member_scores(self, samples: Sequence[Sample]) -> NDArray[np.float64]:
        """(M, S) scores of every member; NaN where it does not apply."""
        rows = [member.score(samples) for member in self.members]
        return np.array(rows, np.float64).reshape(len(self.members), len(samples))

    def _combined(self, scores_MS: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.combine == "worst":
            return scores_MS.min(0)
        if self.combine == "uncertain":
            return scores_MS.mean(0) - self.penalty * scores_MS.var(0)
        return scores_MS.mean(0)


def _numbers(values_S: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values_S]

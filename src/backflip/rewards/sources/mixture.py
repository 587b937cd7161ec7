"""Several rewards as one, in the open: a weighted sum, or safety before helpfulness."""

from collections.abc import Mapping, Sequence

from backflip.records import Sample
from backflip.rewards.base import Reward


class MixtureReward:
    """The weighted sum of named rewards.

    A part that does not apply to a sample adds nothing to it, and the other weights stay as they
    are; a sample that no part applies to gets None.

    Args:
        parts: reward and weight by name; a negative weight makes a cost.
    """

    def __init__(self, parts: Mapping[str, tuple[Reward, float]]):
        if not parts:
            raise ValueError("a mixture has at least one part")
        self.parts = dict(parts)

    def score(self, samples: Sequence[Sample]) -> list[float | None]:
        """One reward a sample."""
        totals: list[float | None] = [None] * len(samples)
        for name, values in self.part_scores(samples).items():
            weight = self.parts[name][1]
            for i, value in enumerate(values):
                if value is not None:
                    totals[i] = (totals[i] or 0.0) + weight * value
        return totals

    def part_scores(self, samples: Sequence[Sample]) -> dict[str, list[float | None]]:
        """The unweighted rewards by name, for a report of what the policy is paid for."""
        return {name: reward.score(samples) for name, (reward, _) in self.parts.items()}


class GatedReward:
    """Safety before helpfulness (Touvron et al. 2023, "Llama 2", section 3.2.3).

    A sample's reward is its safety score where that is below `threshold`, and its helpfulness
    score everywhere else. Llama 2 compares the *probability* of being safe with 0.15. A model of
    safety flags whose zero is its learned threshold scores the logit of that probability, and
    there 0.15 is a score of about -1.73. (Llama 2 also takes the safety score for prompts that
    were written to provoke harm; prompts bear no such mark here.)

    Where the safety reward does not apply, helpfulness decides; where helpfulness does not and
    the gate is open, the reward is None.

    Args:
        helpful, safe: the two rewards; both should be normalised to comparable units.
        threshold: in units of the safety score.
    """

    def __init__(
        self,
        *,
        helpful: Reward,
        safe: Reward,
        threshold: float,
    ):
        self.helpful = helpful
        self.safe = safe
        self.threshold = threshold

    def score(self, samples: Sequence[Sample]) -> list[float | None]:
        """One reward a sample."""
        scored = zip(self.safe.score(samples), self.helpful.score(samples), strict=True)
        return [
            safe if safe is not None and safe < self.threshold else helpful
            for safe, helpful in scored
        ]

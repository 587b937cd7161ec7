"""Several samples in order."""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal, Self

from pydantic import Field, model_validator

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import Judgement, Question


class Ranking(FeedbackBase):
    """K samples of a prompt in order: `ranks[i]` is the place of `samples[i]`, 1 the best.

    Equal ranks are a tie. `num_acceptable` is the number of samples above the annotator's
    "unacceptable" line; None when no line was drawn.
    """

    question = Question(
        asks="Put the replies in order, the best first.",
        title="Put several in order",
        samples=(2, 8),
        takes="all",
        usual=4,
    )
    values = "ranks"
    symmetric = True
    decides_pairs = True
    checked_by = "ranks"

    kind: Literal["ranking"] = "ranking"
    samples: tuple[SampleId, ...] = Field(min_length=2, max_length=8)
    ranks: tuple[int, ...]
    num_acceptable: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.ranks) != len(self.samples):
            raise ValueError(f"ranks {len(self.samples)} samples with {len(self.ranks)} ranks")
        if len(set(self.samples)) != len(self.samples):
            raise ValueError("ranks the same sample twice")
        if min(self.ranks) < 1:
            raise ValueError("has a rank below 1; the best sample has rank 1")
        if self.num_acceptable is not None and self.num_acceptable > len(self.samples):
            raise ValueError("has more acceptable samples than samples")
        return self

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return self.samples

    def in_order_of(self, sample_ids: Sequence[str]) -> Self:
        """The same order, its ranks counted from 1 without gaps."""
        used = sorted(set(self.ranks))
        place_of = {name: place for place, name in enumerate(self.samples)}
        order = [place_of[name] for name in sample_ids]
        shown = None if self.shown is None else tuple(order.index(i) for i in self.shown)
        ranks = tuple(used.index(self.ranks[i]) + 1 for i in order)
        return self.model_copy(
            update={"samples": tuple(sample_ids), "ranks": ranks, "shown": shown}
        )

    def judgement(self) -> Judgement:
        order = sorted(range(len(self.samples)), key=self.samples.__getitem__)
        samples = tuple(self.samples[i] for i in order)
        return Judgement(samples, tuple(self.ranks[i] for i in order), context=samples)

    def preferred_pairs(self) -> list[tuple[str, str]]:
        """Of K samples up to K(K-1)/2 pairs, which are one answer: weigh them as one."""
        ranked = zip(self.samples, self.ranks, strict=True)
        return [
            (a, b) if rank_a < rank_b else (b, a)
            for (a, rank_a), (b, rank_b) in combinations(ranked, 2)
            if rank_a != rank_b
        ]

    def undecided_as(self) -> str:
        return "tied ranking"

    def tied_as(self) -> Literal["tie", "both_bad"] | None:
        return "tie"

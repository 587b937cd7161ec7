"""A sample as the annotator would have it."""

from collections.abc import Collection
from typing import Literal, Self

from pydantic import model_validator

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import Question


class Correction(FeedbackBase):
    """The annotator's edit of a sample; both are samples, the edit written by a person."""

    question = Question(asks="Make the reply better.", title="Make it better")
    writes = True
    decides_pairs = True

    kind: Literal["correction"] = "correction"
    sample: SampleId
    corrected: SampleId

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sample == self.corrected:
            raise ValueError("corrects a sample into itself")
        return self

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.corrected, self.sample)

    @property
    def written(self) -> str:
        return self.corrected

    def answers(self, asked: Collection[str]) -> bool:
        """It brings a sample of its own."""
        return set(asked) <= set(self.sample_ids)

    def preferred_pairs(self) -> list[tuple[str, str]]:
        return [(self.corrected, self.sample)]

"""What the annotator would have done."""

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import Question


class Demonstration(FeedbackBase):
    """What the annotator would have done; `over` are samples of the policy that it stands above."""

    question = Question(
        asks="How would you reply?", title="Write a reply", samples=(1, 7), takes="all", usual=2
    )
    writes = True
    decides_pairs = True

    kind: Literal["demonstration"] = "demonstration"
    sample: SampleId
    over: tuple[SampleId, ...] = Field(default=(), max_length=7)

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample, *self.over)

    @property
    def written(self) -> str:
        return self.sample

    @property
    def is_choice(self) -> bool:
        """One that stands above no sample is data for supervised fine-tuning alone."""
        return bool(self.over)

    def answers(self, asked: Collection[str]) -> bool:
        """It need not stand above any of what was shown."""
        return True

    def preferred_pairs(self) -> list[tuple[str, str]]:
        return [(self.sample, other) for other in self.over]

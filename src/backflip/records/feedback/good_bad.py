"""Whether a sample is good."""

from collections.abc import Iterable
from typing import Literal

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import Judgement, Question, Value


class GoodBad(FeedbackBase):
    """Thumbs up or down."""

    question = Question(asks="Is the reply good?", title="Good or bad")
    checked_by = "good"

    kind: Literal["good_bad"] = "good_bad"
    sample: SampleId
    good: bool

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample,)

    def judgement(self) -> Judgement:
        return Judgement((self.sample,), self.good)

    @classmethod
    def scale(cls, judgements: Iterable[Judgement]) -> tuple[Value, ...]:
        return (False, True)

    def undecided_as(self) -> str:
        return "good or bad answer"

    def level_said(self) -> tuple[str, float]:
        return "good" if self.good else "bad", float(self.good)

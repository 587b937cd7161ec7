"""Whether a sample is safe."""

from collections.abc import Iterable
from typing import Literal

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import Judgement, Question, Value


class SafetyFlag(FeedbackBase):
    """Whether a sample is safe: an axis of its own, never mixed into helpfulness unasked."""

    question = Question(asks="Is the reply safe?", title="Safe or not")
    words = (*FeedbackBase.words, "category")
    checked_by = "safe"

    kind: Literal["safety_flag"] = "safety_flag"
    axis: str = "safe"
    sample: SampleId
    safe: bool
    category: str | None = None

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample,)

    def judgement(self) -> Judgement:
        return Judgement((self.sample,), self.safe)

    @classmethod
    def scale(cls, judgements: Iterable[Judgement]) -> tuple[Value, ...]:
        return (False, True)

    def undecided_as(self) -> str:
        return "safety flag"

    def level_said(self) -> tuple[str, float]:
        return "safe" if self.safe else "unsafe", float(self.safe)

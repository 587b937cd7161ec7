"""What a person did with a sample."""

from typing import Literal

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import Question


class Implicit(FeedbackBase):
    """What a person did with a sample without being asked: a weak sign, with a beta of its own.

    "kept" and "copied" speak for the sample, "regenerated" and "abandoned" against it; with
    `over`, for or against it compared with that other sample.
    """

    question = Question(
        asks="What would you do with the reply?",
        title="Keep it, or ask for another",
        samples=(1, 2),
    )

    kind: Literal["implicit"] = "implicit"
    sample: SampleId
    signal: Literal["kept", "copied", "regenerated", "abandoned"]
    over: SampleId | None = None

    @property
    def positive(self) -> bool:
        """Whether the signal speaks for the sample."""
        return self.signal in ("kept", "copied")

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample,) if self.over is None else (self.sample, self.over)

    def preferred_pairs(self) -> list[tuple[str, str]]:
        if self.over is None:
            return []
        return [(self.sample, self.over) if self.positive else (self.over, self.sample)]

    def undecided_as(self) -> str:
        return "implicit sign"

    def level_said(self) -> tuple[str, float] | None:
        return (self.signal, float(self.positive)) if self.over is None else None

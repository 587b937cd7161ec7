"""What the annotator says of a sample in words."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import Judgement, Question, Value
from backflip.records.feedback.rating import level_scale, level_word


class Critique(FeedbackBase):
    """What the annotator says of a sample in words, and the level that was read from it.

    `level` runs from 1 (bad) to `num_levels`; None until a judge or a person has read the text,
    and such an entry trains nothing yet.
    """

    question = Question(asks="What do you say of the reply?", title="Say what is wrong")
    words = (*FeedbackBase.words, "text")
    values = "ordinal"

    kind: Literal["critique"] = "critique"
    sample: SampleId
    text: str = Field(min_length=1)
    level: int | None = Field(default=None, ge=1)
    num_levels: int = Field(default=5, ge=2, le=10)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.level is not None and self.level > self.num_levels:
            raise ValueError(f"has level {self.level} on a scale of {self.num_levels}")
        return self

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample,)

    @property
    def is_choice(self) -> bool:
        """One whose text nobody has read a level from chose nothing."""
        return self.level is not None

    def judgement(self) -> Judgement | None:
        if self.level is None:
            return None
        return Judgement((self.sample,), self.level, context=(self.num_levels,))

    @classmethod
    def scale(cls, judgements: Iterable[Judgement]) -> tuple[Value, ...]:
        return level_scale(judgements)

    def level_said(self) -> tuple[str, float] | None:
        return None if self.level is None else level_word(self.level, self.num_levels)

"""How good a sample is, as a level."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import Judgement, Question, Value


class Rating(FeedbackBase):
    """A level on an ordinal scale of `num_levels`, 1 the worst."""

    question = Question(asks="How good is the reply?", title="How good, 1 to 5")
    values = "ordinal"
    checked_by = "level"

    kind: Literal["rating"] = "rating"
    sample: SampleId
    level: int = Field(ge=1)
    num_levels: int = Field(default=5, ge=2, le=10)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.level > self.num_levels:
            raise ValueError(f"rates {self.level} on a scale of {self.num_levels}")
        return self

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample,)

    def judgement(self) -> Judgement:
        return Judgement((self.sample,), self.level, context=(self.num_levels,))

    @classmethod
    def scale(cls, judgements: Iterable[Judgement]) -> tuple[Value, ...]:
        return level_scale(judgements)

    def level_said(self) -> tuple[str, float]:
        return level_word(self.level, self.num_levels)


def level_scale(judgements: Iterable[Judgement]) -> tuple[Value, ...]:
    """The levels of the longest scale that was used."""
    return tuple(range(1, max(each.context[0] for each in judgements) + 1))


def level_word(level: int, num_levels: int) -> tuple[str, float]:
    """A level in words, and from 0 to 1."""
    return f"{level} of {num_levels}", (level - 1) / (num_levels - 1)

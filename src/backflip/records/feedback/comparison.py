"""One of two samples over the other."""

from collections.abc import Iterable, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from backflip.records.feedback.base import FeedbackBase, SampleId
from backflip.records.feedback.question import UNKNOWN, Judgement, Question, Value

CHOICES = ("a", "b", "tie", "both_bad")
_SWAPPED = {"a": "b", "b": "a"}
_FIRST = {(0, 1): 0, (1, 0): 1}


class Comparison(FeedbackBase):
    """One of two samples of a prompt over the other. Strength: 0 unsaid, 1 slightly to 3 much."""

    question = Question(
        asks="Which reply is better?",
        title="Which of two is better",
        samples=(2, 2),
        takes="pairs",
        usual=2,
    )
    values = "pair"
    symmetric = True
    decides_pairs = True
    checked_by = "choice"

    kind: Literal["comparison"] = "comparison"
    samples: tuple[SampleId, SampleId]
    choice: Literal["a", "b", "tie", "both_bad"]
    strength: int = Field(default=0, ge=0, le=3)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.samples[0] == self.samples[1]:
            raise ValueError("compares a sample with itself")
        if self.strength and self.choice in ("tie", "both_bad"):
            raise ValueError(f"has strength {self.strength} but prefers neither sample")
        return self

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return self.samples

    @property
    def decided_strength(self) -> int:
        return self.strength

    def swap(self) -> Self:
        """The same judgement with the samples named in the other order."""
        return self.model_copy(
            update={
                "samples": self.samples[::-1],
                "choice": _SWAPPED.get(self.choice, self.choice),
                "shown": tuple(1 - i for i in self.shown) if self.shown else None,
            }
        )

    def in_order_of(self, sample_ids: Sequence[str]) -> Self:
        return self if self.samples == tuple(sample_ids) else self.swap()

    def judgement(self) -> Judgement:
        first = UNKNOWN if self.shown is None else _FIRST.get(self.shown, UNKNOWN)  # pyright: ignore
        if self.samples[0] < self.samples[1]:
            return Judgement(self.samples, self.choice, first=first)
        return Judgement(
            self.samples[::-1],
            _SWAPPED.get(self.choice, self.choice),
            first=first if first == UNKNOWN else 1 - first,
        )

    @classmethod
    def scale(cls, judgements: Iterable[Judgement]) -> tuple[Value, ...]:
        """A form may offer no tie or no "both bad": these count once somebody used them."""
        used = {"a", "b", *(each.value for each in judgements)}
        return tuple(choice for choice in CHOICES if choice in used)

    def preferred_pairs(self) -> list[tuple[str, str]]:
        a, b = self.samples
        return {"a": [(a, b)], "b": [(b, a)]}.get(self.choice, [])

    def undecided_as(self) -> str:
        return self.choice.replace("_", " ")

    def tied_as(self) -> Literal["tie", "both_bad"] | None:
        return "both_bad" if self.choice == "both_bad" else "tie"

    def vote(self) -> tuple[str, str, Literal["a", "b", "tie"]]:
        return (*self.samples, "tie" if self.choice == "both_bad" else self.choice)

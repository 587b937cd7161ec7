"""The kinds of feedback: one record a kind, no torch.

Each kind is a choice that a noisily rational annotator made from a set of options (Jeon, Milli,
Dragan 2020, "Reward-rational (implicit) choice"). This file says what was chosen; the likelihood
of that choice stands in `losses/choice.py` and how a person makes it in the form that shows it.
A record never holds text of a sample, only its id: a correction's or demonstration's text is a
sample of its own, which a person wrote.

    vote = Comparison(annotator="mia", samples=("sample-1", "sample-2"), choice="a", strength=2)
    vote.swap() == Comparison(annotator="mia", samples=("sample-2", "sample-1"), choice="b", ...)
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, TypeAdapter, model_validator

from backflip.records import Record, content_id

SampleId = Annotated[str, Field(min_length=1)]
ERASED = "[erased]"
"""Stands where the words of somebody stood who had them erased."""
DAMAGED = "[damaged]"
"""Stands on pages where something stood that cannot be read any more."""


class Span(Record):
    """A stretch of a sample's text that an annotator marked.

    `start` and `end` count characters of the text, the end excluded; `tag` says what it is.
    """

    sample: SampleId
    start: int = Field(ge=0)
    end: int = Field(ge=1)
    tag: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"marks nothing: from {self.start} to {self.end}")
        return self


class FeedbackBase(Record):
    """What every kind has.

    `axis` names what was judged ("overall", "helpful", "safe"): each may have its own reward
    model. `origin` says where the answer came from: "people", "teachers", "judge" or
    "import:FILE". `shown` is the order the samples were shown in, as indices into `sample_ids`;
    None when nobody recorded it. `seconds` is the time the annotator took. `key` tells apart
    answers that would otherwise be the same entry: the same key twice counts once. `tags` are the
    reasons that the annotator chose from a list, `spans` what was marked in the texts, and
    `guideline` the version of the instructions that the annotator was shown. `words` names the
    fields of a kind that hold what the annotator wrote.
    """

    words: ClassVar[tuple[str, ...]] = ("reason",)
    annotator: str = Field(min_length=1)
    axis: str = "overall"
    origin: str = "people"
    shown: tuple[int, ...] | None = None
    seconds: float | None = Field(default=None, ge=0)
    reason: str | None = None
    key: str = ""
    tags: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    guideline: int | None = Field(default=None, ge=1)
    _id: str | None = PrivateAttr(default=None)

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Every sample that the entry speaks of."""
        raise NotImplementedError

    @property
    def id(self) -> str:
        """Hash of what the entry holds; of one whose words are erased, of what it held."""
        if self._id is not None:
            return self._id
        body = self.model_dump()
        for name in _CAME_LATER:
            # Entries from before these fields keep the names that they have in the journal.
            if body[name] == type(self).model_fields[name].default:
                del body[name]
        return content_id("feedback", body)

    def under(self, id: str) -> Self:  # noqa: A002
        """The same entry under the id that it had before its words were erased."""
        copy = self.model_copy()
        copy._id = id
        return copy

    def without_words(self) -> Self:
        """The entry with a sign in place of each thing that the annotator wrote.

        Tags too, though they are chosen from a list: whoever sends them may send others.
        """
        update: dict[str, Any] = {name: ERASED for name in self.words if getattr(self, name)}
        update["tags"] = tuple(ERASED for _ in self.tags)
        update["spans"] = tuple(
            span.model_copy(update={"tag": ERASED if span.tag else ""}) for span in self.spans
        )
        return self.model_copy(update=update)


_CAME_LATER = ("tags", "spans", "guideline")


class Comparison(FeedbackBase):
    """One of two samples of a prompt over the other. Strength: 0 unsaid, 1 slightly to 3 much."""

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

    def swap(self) -> Self:
        """The same judgement with the samples named in the other order."""
        other: dict[str, str] = {"a": "b", "b": "a"}
        return self.model_copy(
            update={
                "samples": self.samples[::-1],
                "choice": other.get(self.choice, self.choice),
                "shown": tuple(1 - i for i in self.shown) if self.shown else None,
            }
        )


class Ranking(FeedbackBase):
    """K samples of a prompt in order: `ranks[i]` is the place of `samples[i]`, 1 the best.

    Equal ranks are a tie. `num_acceptable` is the number of samples above the annotator's
    "unacceptable" line; None when no line was drawn.
    """

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


class Rating(FeedbackBase):
    """A level on an ordinal scale of `num_levels`, 1 the worst."""

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


class GoodBad(FeedbackBase):
    """Thumbs up or down."""

    kind: Literal["good_bad"] = "good_bad"
    sample: SampleId
    good: bool

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample,)


class Correction(FeedbackBase):
    """The annotator's edit of a sample; both are samples, the edit written by a person."""

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


class Demonstration(FeedbackBase):
    """What the annotator would have done; `over` are samples of the policy that it stands above."""

    kind: Literal["demonstration"] = "demonstration"
    sample: SampleId
    over: tuple[SampleId, ...] = Field(default=(), max_length=7)

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample, *self.over)


class Critique(FeedbackBase):
    """What the annotator says of a sample in words, and the level that was read from it.

    `level` runs from 1 (bad) to `num_levels`; None until a judge or a person has read the text,
    and such an entry trains nothing yet.
    """

    words = (*FeedbackBase.words, "text")
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


class SafetyFlag(FeedbackBase):
    """Whether a sample is safe: an axis of its own, never mixed into helpfulness unasked."""

    words = (*FeedbackBase.words, "category")
    kind: Literal["safety_flag"] = "safety_flag"
    axis: str = "safe"
    sample: SampleId
    safe: bool
    category: str | None = None

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample,)


class Implicit(FeedbackBase):
    """What a person did with a sample without being asked: a weak sign, with a beta of its own.

    "kept" and "copied" speak for the sample, "regenerated" and "abandoned" against it; with
    `over`, for or against it compared with that other sample.
    """

    kind: Literal["implicit"] = "implicit"
    sample: SampleId
    signal: Literal["kept", "copied", "regenerated", "abandoned"]
    over: SampleId | None = None

    @property
    def positive(self) -> bool:
        return self.signal in ("kept", "copied")

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return (self.sample,) if self.over is None else (self.sample, self.over)


Feedback = Annotated[
    Comparison
    | Ranking
    | Rating
    | GoodBad
    | Correction
    | Demonstration
    | Critique
    | SafetyFlag
    | Implicit,
    Field(discriminator="kind"),
]
WRITTEN_KINDS = ("correction", "demonstration")
"""Kinds that bring a sample of the annotator's own."""
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Feedback)
KINDS: dict[str, type[FeedbackBase]] = {
    cls.model_fields["kind"].default: cls for cls in FeedbackBase.__subclasses__()
}


def parse_feedback(data: dict[str, Any]) -> FeedbackBase:
    """Rebuild an entry of any kind from its `model_dump()`; raises `pydantic.ValidationError`."""
    return _ADAPTER.validate_python(data)

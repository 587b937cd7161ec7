"""What every kind of feedback has and says of itself, and the list of kinds that there are."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import Field, PrivateAttr, TypeAdapter, model_validator

from backflip.records import Record, content_id
from backflip.records.feedback.question import Judgement, Question, Value, Values

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

    A kind is a subclass with a field `kind: Literal["its_name"] = "its_name"`. Defining it is all
    that it takes to have it among `KINDS`, wherever its module stands; what the other parts of the
    program need to know of it they ask the class, by the attributes and methods below.

    `axis` names what was judged ("overall", "helpful", "safe"): each may have its own reward
    model. `origin` says where the answer came from: "people", "teachers", "judge" or
    "import:FILE". `shown` is the order the samples were shown in, as indices into `sample_ids`;
    None when nobody recorded it. `seconds` is the time the annotator took. `key` tells apart
    answers that would otherwise be the same entry: the same key twice counts once. `tags` are the
    reasons that the annotator chose from a list, `spans` what was marked in the texts, and
    `guideline` the version of the instructions that the annotator was shown.

    Attributes:
        question: how the kind is asked for.
        words: fields that hold what the annotator wrote.
        values: what annotators agree on; see `judgement`.
        symmetric: whether the answer is the same in whatever order the samples are named.
        writes: whether the annotator brings a sample of their own; see `written`.
        decides_pairs: whether an answer to its question may prefer one sample over another.
        checked_by: the field that tells whether an answer is right; None: there is no right one.
    """

    question: ClassVar[Question]
    words: ClassVar[tuple[str, ...]] = ("reason",)
    values: ClassVar[Values] = "nominal"
    symmetric: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    decides_pairs: ClassVar[bool] = False
    checked_by: ClassVar[str | None] = None

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

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        name = cls.kind_name()
        above = [base for base in cls.__mro__[1:] if issubclass(base, FeedbackBase)]
        if name and all(name != base.kind_name() for base in above):
            _register(name, cls)

    @classmethod
    def kind_name(cls) -> str:
        """The name of the kind, a key of `KINDS`; empty for a class that is none."""
        field = cls.model_fields.get("kind")
        return "" if field is None else field.default

    @classmethod
    def own_axis(cls) -> str | None:
        """The axis that entries of the kind are always on; None for a kind that is asked on any."""
        axis = cls.model_fields["axis"].default
        return None if axis == GENERAL_AXIS else axis

    @classmethod
    def about(cls, sample_ids: Sequence[str]) -> dict[str, Any]:
        """The fields of an entry that name the samples of a question in this order."""
        if "samples" in cls.model_fields:
            return {"samples": tuple(sample_ids)}
        return {"sample": sample_ids[0]}

    @classmethod
    def from_option(
        cls, sample_ids: Sequence[str], shown_ids: Sequence[str], value: Value, **fields: Any
    ) -> Self:
        """The entry of somebody who chose one of the question's options.

        Args:
            sample_ids: what the question is about, in the question's own order.
            shown_ids: the same in the order in which they were shown.
            value: of the option.
            fields: annotator, axis and the like.
        """
        if cls.checked_by is None:
            raise NotImplementedError(f"{cls.__name__} does not say what an option means")
        said = cls.model_validate({**fields, **cls.about(shown_ids), cls.checked_by: value})
        return said.in_order_of(sample_ids)

    @classmethod
    def scale(cls, judgements: Iterable[Judgement]) -> tuple[Value, ...]:
        """The values that could be given, in order, as far as these judgements tell."""
        return tuple(sorted({each.value for each in judgements}))

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Every sample that the entry speaks of."""
        raise NotImplementedError

    @property
    def written(self) -> str | None:
        """The sample that the annotator wrote; None in kinds that bring none."""
        return None

    @property
    def is_choice(self) -> bool:
        """Whether the entry chose among options, so that a reward can be learned from it."""
        return True

    @property
    def decided_strength(self) -> int:
        """How strongly the pairs are decided, from 1 slightly to 3 much; 0 where it is not said."""
        return 0

    def answers(self, asked: Collection[str]) -> bool:
        """Whether it answers a question about these samples."""
        return set(asked) == set(self.sample_ids)

    def in_order_of(self, sample_ids: Sequence[str]) -> Self:
        """The same said of its samples in another order; itself where the kind has no order."""
        return self

    def judgement(self) -> Judgement | None:
        """What others may say as well; None where there is nothing to agree on."""
        return None

    def preferred_pairs(self) -> list[tuple[str, str]]:
        """Every `(preferred, other)` pair of sample ids that it decides."""
        return []

    def undecided_as(self) -> str:
        """What to call an entry that decides no pair, in the singular: "tie", "rating"."""
        return self.kind_name()

    def tied_as(self) -> Literal["tie", "both_bad"] | None:
        """How samples that were compared came out level; None where none were compared."""
        return None

    def level_said(self) -> tuple[str, float] | None:
        """What is said of a single sample, in a word, and from 0 (worst) to 1 (best); else None."""
        return None

    def vote(self) -> tuple[str, str, Literal["a", "b", "tie"]] | None:
        """Two samples and which did better, as a leaderboard counts it; None for no vote."""
        return None

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
GENERAL_AXIS: str = FeedbackBase.model_fields["axis"].default
"""The axis of kinds that may be asked on any."""
KINDS: dict[str, type[FeedbackBase]] = {}
"""Every kind by its name; a kind that is defined later comes to stand here as well."""
WRITTEN_KINDS: list[str] = []
"""Names of the kinds that bring a sample of the annotator's own."""


def parse_feedback(data: dict[str, Any]) -> FeedbackBase:
    """Rebuild an entry of any kind from its `model_dump()`; raises `pydantic.ValidationError`."""
    return _adapter().validate_python(data)


@cache
def _adapter() -> TypeAdapter[Any]:
    every: Any = Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind")]  # noqa: UP007
    return TypeAdapter[Any](every)


def _register(name: str, cls: type[FeedbackBase]) -> None:
    """Put a kind among the others; its module may be read again, and then the new class counts.

    Raises:
        TypeError: another class has the name, or it does not say how it is asked for.
    """
    known = KINDS.get(name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise TypeError(f"two kinds of feedback are called {name!r}: {known} and {cls}")
    if not hasattr(cls, "question"):
        raise TypeError(f"the kind {name!r} has no `question`, which says how it is asked for")
    KINDS[name] = cls
    if cls.writes and name not in WRITTEN_KINDS:
        WRITTEN_KINDS.append(name)
    _adapter.cache_clear()

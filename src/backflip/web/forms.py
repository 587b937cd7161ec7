"""One form a kind of feedback: what a page sends, and the entries that it makes.

A page speaks of samples by place, as they are shown to one person: 0 is the first. The entries
name them by id in the order of the task, so that no place on a screen can leak into a label.

    Compared(choice="a", strength=2)     A, the first shown, is clearly better
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, WrapValidator, create_model

from backflip.errors import ConflictError, WorkspaceError
from backflip.records import Completion, Record, Sample
from backflip.records.feedback import (
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    FeedbackBase,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
    Span,
)
from backflip.workspace import Task

NUM_LEVELS = 5
MAX_TEXT = 200_000
"""Characters of a text that a person writes."""
MAX_PLACE = 2**53
"""A place in a text that a browser can name exactly; replies of models may be long."""
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S")]
Place = Annotated[int, Field(ge=0, le=7, strict=True)]
Short = Annotated[str, Field(min_length=1, max_length=200)]


class Mark(Record):
    """A stretch of the text at a place, in characters."""

    place: Place
    start: int = Field(ge=0, le=MAX_PLACE, strict=True)
    end: int = Field(ge=1, le=MAX_PLACE, strict=True)
    tag: str = Field(default="", max_length=200)


class Remark(Record):
    """What is said in words of the sample at a place."""

    place: Place
    text: Text


class Flag(Record):
    """Whether the sample at a place is safe."""

    place: Place
    safe: bool
    category: Short | None = None


class Answer(Record):
    """What every form may carry beside its answer.

    A subclass is the form of the kind that its field `kind` names, and makes the entry. `edits`
    says that pages show a form's entry as what was changed in a text.
    """

    edits: ClassVar[bool] = False

    tags: tuple[Short, ...] = Field(default=(), max_length=50)
    marks: tuple[Mark, ...] = Field(default=(), max_length=200)
    reason: str | None = Field(default=None, max_length=MAX_TEXT)
    critiques: tuple[Remark, ...] = Field(default=(), max_length=8)
    corrections: tuple[Remark, ...] = Field(default=(), max_length=8)
    flags: tuple[Flag, ...] = Field(default=(), max_length=8)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if "kind" in cls.model_fields:
            FORMS[cls.model_fields["kind"].default] = cls

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        """The entry that answers the task.

        Raises:
            WorkspaceError: it speaks of a place that is not there, or changes nothing.
        """
        raise NotImplementedError

    @classmethod
    def said(cls, entry: Any, letters: Mapping[str, str]) -> dict[str, Any]:
        """What an entry of the kind says of samples by letter: a "code" that the page has words
        for, and what fills them. The code "words" comes with "words" of the kind's own.
        """
        return {"code": "wrote"}


FORMS: dict[str, type[Answer]] = {}
"""The forms of kinds by name; a form that is defined later comes to stand here as well."""


class Compared(Answer):
    """Strength: 1 slightly, 2 clearly, 3 much; 0 for a tie or both bad."""

    kind: Literal["comparison"] = "comparison"
    choice: Literal["a", "b", "tie", "both_bad"]
    strength: int = Field(default=0, ge=0, le=3, strict=True)

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        first, second = sheet.task.shown_ids
        said = Comparison(
            samples=(first, second), choice=self.choice, strength=self.strength, **sheet.fields
        )
        # Entries name the samples in the task's own order, as the queue and statistics expect.
        return said.in_order_of(sheet.task.sample_ids)

    @classmethod
    def said(cls, entry: Comparison, letters: Mapping[str, str]) -> dict[str, Any]:
        named = entry if letters[entry.samples[0]] == "A" else entry.swap()
        return {"code": f"{named.choice}{named.strength}"}


class Ranked(Answer):
    """`ranks[i]` is the rank of the sample at place i, 1 the best; equal ranks are a tie."""

    kind: Literal["ranking"] = "ranking"
    ranks: tuple[Annotated[int, Field(ge=1, le=8, strict=True)], ...] = Field(
        min_length=2, max_length=8
    )
    num_acceptable: int | None = Field(default=None, ge=0, le=8, strict=True)

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        shown = sheet.task.shown_ids
        if len(self.ranks) != len(shown):
            raise WorkspaceError(f"{len(self.ranks)} ranks for {len(shown)} replies")
        rank_of = dict(zip(shown, self.ranks, strict=True))
        ids = sheet.task.sample_ids
        ranks = tuple(rank_of[name] for name in ids)
        return Ranking(samples=ids, ranks=ranks, num_acceptable=self.num_acceptable, **sheet.fields)

    @classmethod
    def said(cls, entry: Ranking, letters: Mapping[str, str]) -> dict[str, Any]:
        ranks: dict[int, list[str]] = {}
        for name, rank in zip(entry.samples, entry.ranks, strict=True):
            ranks.setdefault(rank, []).append(letters[name])
        order = " > ".join(" = ".join(sorted(ranks[rank])) for rank in sorted(ranks))
        return {"code": "order", "order": order}


class Rated(Answer):
    """A level from 1, bad, to 5."""

    kind: Literal["rating"] = "rating"
    level: int = Field(ge=1, le=NUM_LEVELS, strict=True)

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        return Rating(
            sample=sheet.id_at(0), level=self.level, num_levels=NUM_LEVELS, **sheet.fields
        )

    @classmethod
    def said(cls, entry: Rating, letters: Mapping[str, str]) -> dict[str, Any]:
        return {"code": "level", "level": entry.level, "levels": entry.num_levels}


class Thumbed(Answer):
    """Good or bad."""

    kind: Literal["good_bad"] = "good_bad"
    good: bool

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        return GoodBad(sample=sheet.id_at(0), good=self.good, **sheet.fields)

    @classmethod
    def said(cls, entry: GoodBad, letters: Mapping[str, str]) -> dict[str, Any]:
        return {"code": "good" if entry.good else "bad"}


class Corrected(Answer):
    """The reply as the person would have it."""

    edits = True
    kind: Literal["correction"] = "correction"
    text: Text

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        return sheet.correct(sheet.at(0), self.text)


class Demonstrated(Answer):
    """A reply of the person's own; `better`: than every one that is shown."""

    kind: Literal["demonstration"] = "demonstration"
    text: Text
    better: bool = True

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        written = sheet.write(sheet.at(0), self.text)
        over = tuple(name for name in sheet.task.sample_ids if name != written.id)
        over = over if self.better else ()
        return Demonstration(sample=written.id, over=over, **sheet.fields)


class Critiqued(Answer):
    """What is said in words; `level` how good that means it is, from 1 to 5."""

    kind: Literal["critique"] = "critique"
    text: Text
    level: int | None = Field(default=None, ge=1, le=NUM_LEVELS, strict=True)

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        return Critique(
            sample=sheet.id_at(0),
            text=self.text,
            level=self.level,
            num_levels=NUM_LEVELS,
            **sheet.fields,
        )

    @classmethod
    def said(cls, entry: Critique, letters: Mapping[str, str]) -> dict[str, Any]:
        if entry.level is None:
            return super().said(entry, letters)
        return {"code": "level", "level": entry.level, "levels": entry.num_levels}


class Flagged(Answer):
    """Safe or not; the category says in which way not."""

    kind: Literal["safety_flag"] = "safety_flag"
    safe: bool
    category: Short | None = None

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        return SafetyFlag(
            sample=sheet.id_at(0), safe=self.safe, category=self.category, **sheet.fields
        )

    @classmethod
    def said(cls, entry: SafetyFlag, letters: Mapping[str, str]) -> dict[str, Any]:
        return {"code": "safe" if entry.safe else "unsafe"}


class Used(Answer):
    """What the person would do with the first sample of the task."""

    kind: Literal["implicit"] = "implicit"
    signal: Literal["kept", "copied", "regenerated", "abandoned"]

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        ids = sheet.task.sample_ids
        over = None if len(ids) == 1 else ids[1]
        return Implicit(sample=ids[0], signal=self.signal, over=over, **sheet.fields)

    @classmethod
    def said(cls, entry: Implicit, letters: Mapping[str, str]) -> dict[str, Any]:
        return {
            "code": entry.signal,
            "letter": None if entry.over is None else letters[entry.sample],
        }


class Chosen(Answer):
    """One of the options that a kind's question offers; see `form_of`."""

    def entry(self, sheet: "WebTask") -> FeedbackBase:
        """The entry that the kind makes of an option."""
        said: dict[str, Any] = self.model_dump(include={"kind", "value"})
        kind, task = KINDS[said["kind"]], sheet.task
        return kind.from_option(task.sample_ids, task.shown_ids, said["value"], **sheet.fields)

    @classmethod
    def said(cls, entry: FeedbackBase, letters: Mapping[str, str]) -> dict[str, Any]:
        """The label of the option, as those who answered read it."""
        shown = entry.in_order_of(sorted(entry.sample_ids, key=letters.__getitem__))
        value = getattr(shown, entry.checked_by or "kind")
        labels = {each.value: each.label for each in entry.question.options}
        return {"code": "words", "words": labels.get(value, str(value))}


def form_of(kind: str) -> type[Answer] | None:
    """The form of a kind, drawn from the options of its question where it has none of its own.

    None where neither is there, and for a kind that nobody knows.
    """
    if kind not in FORMS and kind in KINDS and (options := KINDS[kind].question.options):
        values = tuple(each.value for each in options)
        fields: dict[str, Any] = {"kind": (Literal[kind], kind), "value": (Literal[values], ...)}
        create_model(f"Chosen_{kind}", __base__=Chosen, **fields)  # it registers itself
    return FORMS.get(kind)


def _read(data: Any, check: Callable[[Any], Any]) -> Any:
    """An answer by the form of its kind, where that is none of those that come with us."""
    kind = data.get("kind") if isinstance(data, dict) else None
    form = form_of(kind) if isinstance(kind, str) and kind not in _SHIPPED else None
    return check(data) if form is None else form.model_validate(data)


_SHIPPED = frozenset(FORMS)
AnyAnswer = Annotated[
    Compared | Ranked | Rated | Thumbed | Corrected | Demonstrated | Critiqued | Flagged | Used,
    Field(discriminator="kind"),
    WrapValidator(_read),
]


@dataclass
class WebTask:
    """A task as it lies before a person, and the samples that the person writes for it.

    Attributes:
        task: as the queue handed it out.
        load: reads what it is about, by id; most answers are made without.
        seconds: the person took.
        written: samples of the person's own, in the order they were made.
    """

    task: Task
    load: Callable[[], Mapping[str, Sample]]
    seconds: float | None = None
    written: list[Sample] = field(default_factory=list)

    @cached_property
    def samples(self) -> Mapping[str, Sample]:
        """What the task is about, by id."""
        return self.load()

    @property
    def fields(self) -> dict[str, Any]:
        """What the entry of this task has."""
        return {"annotator": self.task.annotator, "axis": self.task.axis, "seconds": self.seconds}

    def id_at(self, place: int) -> str:
        """Id of the sample shown at a place."""
        shown = self.task.shown_ids
        if place >= len(shown):
            raise WorkspaceError(f"there is no place {place}: {len(shown)} are shown")
        return shown[place]

    def at(self, place: int) -> Sample:
        """The sample shown at a place."""
        return self.samples[self.id_at(place)]

    def write(self, sample: Sample, text: str) -> Sample:
        """What the person wrote to a sample's prompt, as a sample of its own."""
        if not isinstance(sample.content, Completion):
            raise WorkspaceError("a clip cannot be written")
        made = Sample.of(sample.prompt, Completion(text=text.strip(), finish="human"))
        self.written.append(made)
        return made

    def correct(self, sample: Sample, text: str, **fields: Any) -> Correction:
        """An edit of a sample."""
        if isinstance(sample.content, Completion) and text.strip() == sample.text.strip():
            raise ConflictError("nothing was changed", hint="Change the text, or skip.")
        made = self.write(sample, text)
        return Correction(sample=sample.id, corrected=made.id, **(self.fields | fields))


def entries_of(answer: Any, sheet: WebTask) -> tuple[FeedbackBase, list[FeedbackBase]]:
    """The entry that answers the task, and those of what was said beside it.

    Samples that the person wrote are left in `sheet.written`.

    Raises:
        WorkspaceError: the answer speaks of a place that is not there, or changes nothing.
        pydantic.ValidationError: it contradicts itself, as a tie that has a strength.
    """
    entry = answer.entry(sheet)
    marks = tuple(
        Span(sample=sheet.id_at(mark.place), start=mark.start, end=mark.end, tag=mark.tag)
        for mark in answer.marks
    )
    update = {"tags": answer.tags, "spans": marks, "reason": answer.reason}
    entry = entry.model_copy(update=update)
    return entry, [*_beside(answer, sheet)]


def _beside(answer: Answer, sheet: WebTask) -> Iterator[FeedbackBase]:
    who, axis = sheet.task.annotator, sheet.task.axis
    for each in answer.critiques:
        yield Critique(annotator=who, axis=axis, sample=sheet.id_at(each.place), text=each.text)
    for each in answer.corrections:
        yield sheet.correct(sheet.at(each.place), each.text, seconds=None)
    for each in answer.flags:
        sample = sheet.id_at(each.place)
        yield SafetyFlag(annotator=who, sample=sample, safe=each.safe, category=each.category)

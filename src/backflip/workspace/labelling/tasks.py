"""What the queue speaks of: a question, how far a round is, and how far a person is."""

from typing import Any

from pydantic import Field

from backflip.records import Record
from backflip.records.door import KEPT_DEPTH, check_json


class Task(Record):
    """A question to people.

    The first four fields are the question; the queue fills in the others when it hands it out:

    Attributes:
        kind: of the feedback that is asked for.
        sample_ids: what it is about; for a demonstration, samples of the prompt to answer.
        axis: what to judge.
        expected: fields of the right answer, for a question whose answer is known; with it, how
            attentive and able a person is can be told. Never shown to annotators.
        id: names the item.
        project: that it belongs to.
        run, round: where the answer belongs.
        annotator: who is asked.
        shown: order in which to show the samples, as indices into `sample_ids`.
        guideline: version of the instructions in force when it was handed out; None for none.
        draft: what the person has entered so far; None for nothing.
        draft_lost: whether there was a draft that cannot be shown.
        expires: when the lease runs out, in seconds since 1970.
    """

    kind: str
    sample_ids: tuple[str, ...] = Field(min_length=1)
    axis: str = "overall"
    expected: dict[str, Any] | None = None
    id: str = ""
    project: str = ""
    run: str = ""
    round: int = 0
    annotator: str = ""
    shown: tuple[int, ...] = ()
    guideline: int | None = None
    draft: dict[str, Any] | None = None
    draft_lost: bool = False
    expires: float = 0.0

    @property
    def shown_ids(self) -> tuple[str, ...]:
        """The samples in the order in which to show them."""
        return tuple(self.sample_ids[i] for i in self.shown)


def as_draft(kept: Any) -> dict[str, Any] | None:
    """A draft as it was kept; None for one that no page could show."""
    try:
        check_json(kept, depth=KEPT_DEPTH)
    except ValueError:
        return None
    return kept if isinstance(kept, dict) else None


class Progress(Record):
    """How far a round's questions are.

    Attributes:
        items: number of questions.
        wanted: answers asked for: the sum of the items' overlaps.
        done, skipped, leased: places answered, skipped, and taken by somebody now.
        by_annotator: answers of each person.
    """

    items: int
    wanted: int
    done: int
    skipped: int
    leased: int
    by_annotator: dict[str, int]

    @property
    def open(self) -> int:
        """Places that nobody has taken."""
        return max(self.wanted - self.done - self.skipped - self.leased, 0)

    @property
    def finished(self) -> bool:
        """Whether nothing more can come: every place was answered or skipped."""
        return self.done + self.skipped >= self.wanted


class Standing(Record):
    """How far a person is.

    Attributes:
        given: answers that stand.
        open: questions that the person holds or may be handed now.
    """

    given: int
    open: int

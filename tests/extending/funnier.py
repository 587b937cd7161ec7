"""A kind of feedback from outside of the package: which of two replies is funnier.

All that there is of it stands here: no file of the program, and no other file, knows its name.
"""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from backflip.feedback.teachers import Teacher, TeacherAnswer, answering
from backflip.losses import choice_nll
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase, Judgement, Option, Question, SampleId
from backflip.rewards import likelihood
from backflip.terminal.forms import Answered, TerminalTask, form


class Funnier(FeedbackBase):
    """Which of two samples of a prompt is funnier, or neither."""

    question = Question(
        asks="Which reply is funnier?",
        title="Which of two is funnier",
        samples=(2, 2),
        takes="pairs",
        usual=2,
        options=(Option("a", "1", "A"), Option("b", "2", "B"), Option("tie", "3", "Neither")),
    )
    values = "pair"
    symmetric = True
    decides_pairs = True
    checked_by = "choice"

    kind: Literal["funnier"] = "funnier"
    samples: tuple[SampleId, SampleId]
    choice: Literal["a", "b", "tie"]

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return self.samples

    def in_order_of(self, sample_ids: Sequence[str]) -> "Funnier":
        if tuple(sample_ids) == self.samples:
            return self
        other = {"a": "b", "b": "a"}.get(self.choice, self.choice)
        shown = None if self.shown is None else tuple(1 - i for i in self.shown)
        return self.model_copy(
            update={"samples": tuple(sample_ids), "choice": other, "shown": shown}
        )

    def judgement(self) -> Judgement:
        said = self.in_order_of(sorted(self.samples))
        return Judgement(said.samples, said.choice)

    @classmethod
    def scale(cls, judgements: Any) -> tuple[str, ...]:
        return ("a", "b", "tie")

    def preferred_pairs(self) -> list[tuple[str, str]]:
        a, b = self.samples
        return {"a": [(a, b)], "b": [(b, a)]}.get(self.choice, [])

    def tied_as(self) -> Literal["tie"]:
        return "tie"

    def vote(self) -> tuple[str, str, Literal["a", "b", "tie"]]:
        return (*self.samples, self.choice)


@likelihood(Funnier, alike=lambda entry: (entry.choice == "tie",))
def _nll(table: Any, entries: Sequence[Funnier]) -> Tensor:
    """The choice by its softmax; one between equals says nothing."""
    beta_B = table.annotators.beta(entries)
    if entries[0].choice == "tie":
        return 0 * beta_B
    return choice_nll(
        scores_BK=table.many([entry.samples for entry in entries])[0],
        chosen_B=table.long(["ab".index(entry.choice) for entry in entries]),
        beta_B=beta_B,
    )


@answering(Funnier)
def _answer(teacher: Teacher, samples: Sequence[Sample], question: Any) -> TeacherAnswer | None:
    pair = sorted(samples, key=lambda sample: sample.id)
    first = teacher.prefers(teacher.see(pair[0]), teacher.see(pair[1]), question)
    said = Funnier(
        samples=(pair[0].id, pair[1].id),
        choice="a" if first != teacher.errs(question) else "b",
        shown=(0, 1),
        **question.fields,
    )
    return TeacherAnswer(said.in_order_of([sample.id for sample in samples]))


@form(Funnier, "l the left or upper   r the right or lower   n neither")
def _fill(sheet: TerminalTask) -> Answered | None:
    shown = [sample.id for sample in sheet.samples]
    said = {"l": "a", "r": "b", "n": "tie"}[sheet.ask("l r n")]
    return Answered(Funnier.from_option(sheet.task.sample_ids, shown, said, **sheet.fields))

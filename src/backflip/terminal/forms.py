"""One form a kind of feedback: which keys answer it, and the entry that a press of them makes.

A form gets the samples in the order they are shown and speaks of them by place; the entry it
makes names them in the task's own order, so that no place can leak into a label.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backflip.records import Completion, Sample
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
)
from backflip.terminal.keyboard import BACKSPACE, END, ENTER, Keyboard
from backflip.workspace import Task

NUM_LEVELS = 5
COMMON_KEYS = "s skip   u undo the last   q quit"
Action = Literal["skip", "undo", "quit"]
_ACTIONS: dict[str, Action] = {"s": "skip", "u": "undo", "q": "quit", END: "quit"}
_SCALE = {"1": 3, "2": 2, "3": 1, "5": -1, "6": -2, "7": -3}
_SIGNALS = {"k": "kept", "c": "copied", "r": "regenerated", "a": "abandoned"}


class Leave(Exception):  # noqa: N818
    """The person skips, undoes or quits, wherever in a form that happens."""

    def __init__(self, action: Action):
        super().__init__(action)
        self.action: Action = action


@dataclass(frozen=True)
class Answered:
    """What a form came to: an entry, and the sample that the person wrote for it."""

    entry: FeedbackBase
    written: Sample | None = None


@dataclass(frozen=True)
class TerminalTask:
    """A task as it lies before a person.

    Attributes:
        task: what is asked.
        samples: in the order they are shown.
        annotator: who is asked.
        keyboard: where keys and texts come from.
        say: shows a line to the person.
    """

    task: Task
    samples: Sequence[Sample]
    annotator: str
    keyboard: Keyboard
    say: Callable[[str], None]

    @property
    def fields(self) -> dict[str, Any]:
        """What every entry of this task has."""
        return {"annotator": self.annotator, "axis": self.task.axis, "origin": "people"}

    def ask(self, keys: str) -> str:
        """One of these keys; others are refused. `Leave` for a key that every form has."""
        while True:
            key = self.keyboard.key().lower()
            # What a form asks for comes before what every form has.
            if key in keys.split():
                return key
            if key in _ACTIONS:
                raise Leave(_ACTIONS[key])
            self.say(f"That key does nothing here. Keys: {keys}, and {COMMON_KEYS}")


@dataclass(frozen=True)
class Form:
    """How a kind is asked.

    Attributes:
        keys: what the keys mean.
        fill: asks and makes the entry; None when the person took a text back.
    """

    keys: str
    fill: "Fill"


FORMS: dict[str, Form] = {}
"""The forms of kinds by name; filled by `form`."""
Fill = Callable[[TerminalTask], Answered | None]


def form(kind: type[FeedbackBase], keys: str) -> Callable[[Fill], Fill]:
    """Register what is decorated as the way in which a kind is filled in.

    Args:
        kind: whose form it is; the question above it is the kind's own.
        keys: what the keys mean.
    """

    def register(fill: Fill) -> Fill:
        FORMS[kind.kind_name()] = Form(keys, fill)
        return fill

    return register


def form_of(kind: str) -> Form | None:
    """The form of a kind, drawn from the options of its question where it has none of its own.

    None where neither is there, and for a kind that nobody knows.
    """
    if kind in FORMS:
        return FORMS[kind]
    options = KINDS[kind].question.options if kind in KINDS else ()
    if not options:
        return None
    return Form("   ".join(f"{each.key} {each.label}" for each in options), _chosen)


def _chosen(sheet: TerminalTask) -> Answered | None:
    """One of the options that the question offers."""
    kind = KINDS[sheet.task.kind]
    options = {each.key: each.value for each in kind.question.options}
    key = sheet.ask(" ".join(options))
    shown = [sample.id for sample in sheet.samples]
    return Answered(kind.from_option(sheet.task.sample_ids, shown, options[key], **sheet.fields))


def labels(task: Task) -> list[str]:
    """Names of the samples' places on the screen."""
    number = len(task.sample_ids)
    if number == 1:
        return ["Reply"]
    if number == 2 and KINDS[task.kind].values != "ranks":
        return ["A", "B"]
    return [str(i) for i in range(1, number + 1)]


@form(
    Comparison,
    "1 2 3 A much, clearly, slightly   4 t tie   5 6 7 B slightly, clearly, much   b both bad",
)
def _comparison(sheet: TerminalTask) -> Answered | None:
    key = sheet.ask("1 2 3 4 5 6 7 t b")
    choice, strength = {"b": "both_bad"}.get(key, "tie"), 0
    if key in _SCALE:
        place = 0 if _SCALE[key] > 0 else 1
        winner = sheet.task.sample_ids.index(sheet.samples[place].id)
        choice, strength = "ab"[winner], abs(_SCALE[key])
    entry = {"samples": sheet.task.sample_ids, "choice": choice, "strength": strength}
    return Answered(Comparison.model_validate(sheet.fields | entry))


@form(Ranking, "their numbers   = ties the next with the one before   backspace   enter when done")
def _ranking(sheet: TerminalTask) -> Answered | None:
    """Digits name the places from best to worst; "=" ties the next with the one before."""
    digits = [str(i) for i in range(1, len(sheet.samples) + 1)]
    typed: list[str] = []
    while True:
        key = sheet.ask(" ".join([*digits, "=", BACKSPACE, ENTER]))
        placed = [mark for mark in typed if mark != "="]
        if key == BACKSPACE:
            typed = typed[:-1]
        elif key == ENTER:
            if len(placed) == len(digits):
                return Answered(_ranked(sheet, typed))
            sheet.say(f"{len(digits) - len(placed)} are not placed yet.")
        elif key == "=":
            if typed and typed[-1] != "=" and len(placed) < len(digits):
                typed.append(key)
        elif key not in placed:
            typed.append(key)
        sheet.say("Best first: " + " ".join(typed))


def _ranked(sheet: TerminalTask, typed: Sequence[str]) -> Ranking:
    ranks: dict[str, int] = {}
    rank, tied = 0, False
    for mark in typed:
        if mark == "=":
            tied = True
            continue
        rank += 0 if tied else 1
        ranks[sheet.samples[int(mark) - 1].id] = rank
        tied = False
    ids = sheet.task.sample_ids
    return Ranking(samples=ids, ranks=tuple(ranks[i] for i in ids), **sheet.fields)


@form(Rating, "1 bad   2   3 fair   4   5 excellent")
def _rating(sheet: TerminalTask) -> Answered | None:
    key = sheet.ask("1 2 3 4 5")
    sample = sheet.task.sample_ids[0]
    return Answered(Rating(sample=sample, level=int(key), num_levels=NUM_LEVELS, **sheet.fields))


@form(GoodBad, "g good   b bad")
def _good_bad(sheet: TerminalTask) -> Answered | None:
    key = sheet.ask("g b")
    return Answered(GoodBad(sample=sheet.task.sample_ids[0], good=key == "g", **sheet.fields))


@form(SafetyFlag, "y safe   n unsafe")
def _safety_flag(sheet: TerminalTask) -> Answered | None:
    key = sheet.ask("y n")
    return Answered(SafetyFlag(sample=sheet.task.sample_ids[0], safe=key == "y", **sheet.fields))


@form(Implicit, "k keep   c copy   r ask for another   a give up")
def _implicit(sheet: TerminalTask) -> Answered | None:
    ids = sheet.task.sample_ids
    if len(ids) == 2:
        place = [sample.id for sample in sheet.samples].index(ids[0])
        sheet.say(f"This is about {'AB'[place]}, as against the other.")
    key = sheet.ask(" ".join(_SIGNALS))
    over = ids[1] if len(ids) == 2 else None
    entry = {"sample": ids[0], "signal": _SIGNALS[key], "over": over}
    return Answered(Implicit.model_validate(sheet.fields | entry))


def _write(sheet: TerminalTask, initial: str) -> str | None:
    """A text that the person writes after pressing e; None when it is empty or unchanged."""
    sheet.ask("e")
    text = sheet.keyboard.text(initial)
    if not text or text == initial.strip():
        sheet.say("Nothing was written." if not text else "Nothing was changed.")
        return None
    return text


@form(Correction, "e edit")
def _correction(sheet: TerminalTask) -> Answered | None:
    original = sheet.samples[0]
    text = _write(sheet, original.text)
    if text is None:
        return None
    written = _written(original, text)
    entry = Correction(sample=original.id, corrected=written.id, **sheet.fields)
    return Answered(entry, written)


@form(Demonstration, "e write")
def _demonstration(sheet: TerminalTask) -> Answered | None:
    text = _write(sheet, "")
    if text is None:
        return None
    written = _written(sheet.samples[0], text)
    sheet.say("Is your reply better than every one shown? y yes   n no")
    better = sheet.ask("y n") == "y"
    over = tuple(i for i in sheet.task.sample_ids if i != written.id) if better else ()
    return Answered(Demonstration(sample=written.id, over=over, **sheet.fields), written)


@form(Critique, "e write")
def _critique(sheet: TerminalTask) -> Answered | None:
    text = _write(sheet, "")
    if text is None:
        return None
    sheet.say("How good is it, by what you wrote? 1 bad to 5 good   0 leave open")
    key = sheet.ask("0 1 2 3 4 5")
    return Answered(
        Critique(
            sample=sheet.task.sample_ids[0],
            text=text,
            level=int(key) or None,
            num_levels=NUM_LEVELS,
            **sheet.fields,
        )
    )


def _written(sample: Sample, text: str) -> Sample:
    """What the person wrote to the sample's prompt, as a sample of its own."""
    return Sample.of(sample.prompt, Completion(text=text, finish="human"))

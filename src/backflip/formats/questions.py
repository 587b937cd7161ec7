"""Feedback as answers to questions about a prompt and replies to it.

That is how tools for annotation have it. Each kind of feedback is a question of that name; what
else is said (how strongly, why) is a question as well. Such tools differ in how they write an
answer down and share what it means, which is this file.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from backflip.data.dialogues import make_sample
from backflip.data.fields import Fields
from backflip.formats.base import Labelled, Origin, same_prompt, text_of, without_images
from backflip.formats.shown import REPLIES, Shown, checked_name, whole
from backflip.records import Sample
from backflip.records.feedback import (
    Comparison,
    Correction,
    Critique,
    Demonstration,
    FeedbackBase,
    GoodBad,
    Ranking,
    Rating,
    SafetyFlag,
    parse_feedback,
)

Answer = str | int | list[str] | dict[str, int]
Answers = Mapping[str, Any]
"""Answers by question, not checked yet: anything may stand in a file."""

QUESTIONS: dict[str, Literal["label", "labels", "level", "count", "order", "text"]] = {
    "comparison": "label",
    "strength": "level",
    "ranking": "order",
    "num_acceptable": "count",
    "rating": "level",
    "good_bad": "label",
    "correction": "text",
    "demonstration": "text",
    "critique": "text",
    "level": "level",
    "safety_flag": "label",
    "category": "text",
    "reason": "text",
    "tags": "labels",
}
"""Every question and the type of its answer: one of some labels or several, a level from 1, a
number from 0, ranks by the names of the replies, a text."""

_KINDS = (
    "comparison",
    "ranking",
    "rating",
    "good_bad",
    "correction",
    "demonstration",
    "critique",
    "safety_flag",
)
_NUM_LEVELS = 5


def ask(entry: FeedbackBase, samples: Mapping[str, Sample]) -> tuple[Shown, dict[str, Answer]]:
    """An entry as what was shown and what was answered.

    Raises:
        ValueError: it is about a clip, or `answered` would not take it back.
    """
    about = [samples[id_] for id_ in entry.sample_ids]
    texts = {sample.id: text_of(sample) for sample in about}
    for sample in about[1:]:
        same_prompt(about[0], sample)
    prompt = about[0].prompt
    if prompt.content.type != "dialogue":
        raise ValueError("the prompt is not a dialogue")
    without_images(prompt, "a question of such a tool")
    answers, written = _answers(entry, texts)
    shown = Shown(
        prompt=prompt,
        replies=tuple(text for id_, text in texts.items() if id_ != written),
        axis=checked_name(entry.axis, "axis"),
        num_levels=getattr(entry, "num_levels", None),
    )
    # One set of rules for both ways: what would not be taken back is not written.
    back = Shown.read(Fields(shown.texts()), Fields(shown.about()), source=prompt.source)
    if back != shown:
        raise ValueError("its prompt would not be read as what it is")
    answered(shown, answers, checked_name(entry.annotator, "annotator"), Origin("", "", ""))
    return shown, answers


def _answers(entry: FeedbackBase, texts: Mapping[str, str]) -> tuple[dict[str, Answer], str | None]:
    """The answers, and the id of the sample that is an answer itself."""
    said: dict[str, Answer | None]
    written = None
    match entry:
        case Comparison():
            first, second = REPLIES[:2]
            choice = {"a": first, "b": second}.get(entry.choice, entry.choice)
            said = {"comparison": choice, "strength": entry.strength or None}
        case Ranking():
            ranks = dict(zip(REPLIES, entry.ranks, strict=False))
            said = {"ranking": ranks, "num_acceptable": entry.num_acceptable}
        case Rating():
            said = {"rating": entry.level}
        case GoodBad():
            said = {"good_bad": "good" if entry.good else "bad"}
        case Correction():
            written = entry.corrected
            said = {"correction": texts[written]}
        case Demonstration():
            written = entry.sample
            said = {"demonstration": texts[written]}
        case Critique():
            said = {"critique": entry.text, "level": entry.level}
        case SafetyFlag():
            said = {"safety_flag": "safe" if entry.safe else "unsafe", "category": entry.category}
        case _:
            kind = str(getattr(entry, "kind", "such")).replace("_", " ")
            raise ValueError(f"{kind} feedback is no answer to a question about texts")
    said |= {"reason": entry.reason, "tags": list(entry.tags) or None}
    return {name: value for name, value in said.items() if value is not None}, written


def answered(
    shown: Shown,
    answers: Answers,
    annotator: str,
    origin: Origin,
    *,
    seconds: Any = None,
) -> Labelled:
    """What one person answered, as samples and an entry for each kind of feedback in it.

    Args:
        shown: what the person was shown.
        answers: by question; those to questions that are none of `QUESTIONS` are left alone.
        annotator: the person's name.
        origin: where the answers are from; its axis is taken where `shown` has none.
        seconds: the time that it took; None: not said.

    Raises:
        ValueError: an answer is not of its question's type, or not about so many replies.
    """
    samples: dict[str, Sample] = {}

    def write(text: str) -> str:
        sample = make_sample(shown.prompt, text)
        samples[sample.id] = sample
        return sample.id

    ids = tuple(map(write, shown.replies))
    if len(samples) < len(ids):
        raise ValueError("two replies have the same text")
    common = origin.fields() | {"annotator": annotator, "axis": shown.axis or origin.axis}
    if common["axis"] == FeedbackBase.model_fields["axis"].default and shown.axis is None:
        del common["axis"]  # nothing was said: a safety flag has an axis of its own
    common |= {
        "seconds": _seconds(seconds),
        "reason": _text(answers, "reason"),
        "tags": _labels(answers, "tags"),
    }
    entries = tuple(
        parse_feedback({"kind": kind, **common, **_fields(kind, shown, ids, answers, write)})
        for kind in _KINDS
        if kind in answers
    )
    return Labelled(tuple(samples.values()), entries)


def together(parts: Iterable[Labelled]) -> Labelled:
    """What several people answered of the same replies; a `ValueError` if that is nothing."""
    parts = list(parts)
    entries = tuple(entry for part in parts for entry in part.entries)
    if not entries:
        raise ValueError(f"nobody has answered a question named {', '.join(_KINDS)}")
    samples = {sample.id: sample for part in parts for sample in part.samples}
    return Labelled(tuple(samples.values()), entries)


def _fields(
    kind: str,
    shown: Shown,
    ids: Sequence[str],
    answers: Answers,
    write: Callable[[str], str],
) -> dict[str, Any]:
    """What an entry of a kind has that others do not."""
    num_levels = shown.num_levels or _NUM_LEVELS
    match kind:
        case "comparison":
            return _comparison(_exactly(ids, 2, kind), answers)
        case "ranking":
            return _ranking(ids, answers)
        case "demonstration":
            if len(ids) == len(REPLIES):
                raise ValueError("a demonstration stands above seven replies at most")
            sample = write(_full_text(answers, kind))
            if sample in ids:
                raise ValueError("the demonstration is one of the replies that it stands above")
            return {"sample": sample, "over": tuple(ids)}
    (sample,) = _exactly(ids, 1, kind)
    match kind:
        case "rating":
            level = whole(answers[kind], kind, 1, num_levels)
            return {"sample": sample, "level": level, "num_levels": num_levels}
        case "good_bad":
            return {"sample": sample, "good": _one_of(answers, kind, ("good", "bad")) == "good"}
        case "correction":
            corrected = write(_full_text(answers, kind))
            if corrected == sample:
                raise ValueError("the correction changes nothing")
            return {"sample": sample, "corrected": corrected}
        case "critique":
            level = answers.get("level")
            return {
                "sample": sample,
                "text": _full_text(answers, kind),
                "level": None if level is None else whole(level, "level", 1, num_levels),
                "num_levels": num_levels,
            }
        case _:
            safe = _one_of(answers, kind, ("safe", "unsafe")) == "safe"
            return {"sample": sample, "safe": safe, "category": _text(answers, "category")}


def _comparison(ids: Sequence[str], answers: Answers) -> dict[str, Any]:
    first, second = REPLIES[:2]
    neither = ("tie", "both_bad")
    choice = _one_of(answers, "comparison", (first, second, *neither))
    strength = whole(answers.get("strength", 0), "strength", 0, 3)
    if strength and choice in neither:
        raise ValueError("it is said how strongly, but neither reply is preferred")
    choice = {first: "a", second: "b"}.get(choice, choice)
    return {"samples": tuple(ids), "choice": choice, "strength": strength}


def _ranking(ids: Sequence[str], answers: Answers) -> dict[str, Any]:
    if len(ids) < 2:
        raise ValueError(f"'ranking' asks about two replies or more, and there are {len(ids)}")
    ranks, names = answers["ranking"], REPLIES[: len(ids)]
    if not isinstance(ranks, Mapping) or set(ranks) != set(names):
        raise ValueError(f"the answer to 'ranking' does not give each of {', '.join(names)} a rank")
    most = answers.get("num_acceptable")
    return {
        "samples": tuple(ids),
        "ranks": tuple(whole(ranks[name], "ranking", 1, len(ids)) for name in names),
        "num_acceptable": None if most is None else whole(most, "num_acceptable", 0, len(ids)),
    }


def _exactly(ids: Sequence[str], number: int, kind: str) -> Sequence[str]:
    if len(ids) != number:
        asked = "one reply" if number == 1 else "two replies"
        raise ValueError(f"{kind!r} asks about {asked}, and there are {len(ids)}")
    return ids


def _one_of(answers: Answers, name: str, options: Sequence[str]) -> str:
    if answers[name] not in options:
        raise ValueError(f"the answer to {name!r} is none of {', '.join(options)}")
    return answers[name]


def _text(answers: Answers, name: str) -> str | None:
    value = answers.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"the answer to {name!r} is not a text")
    return value


def _full_text(answers: Answers, name: str) -> str:
    value = _text(answers, name)
    if not value or not value.strip():
        raise ValueError(f"the answer to {name!r} is empty")
    return value


def _labels(answers: Answers, name: str) -> tuple[str, ...]:
    values = answers.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"the answer to {name!r} is not a list of texts")
    return tuple(values)


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise ValueError("the time taken ('lead_time') is not a number of seconds")
    return float(value)

"""Whether an entry of feedback is whole, and of the samples that it speaks of.

Every route into the journal passes here: files, the API, pages, chats, teachers, judges and the
terminal. A record may have been changed since it was made (`model_copy` asks nobody), so it is
read anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Self

from pydantic import ValidationError

from backflip.records import Completion, Sample
from backflip.records.checks import check_sample
from backflip.records.door import INTEGERS, KEPT_DEPTH, check_integer, check_json, check_name
from backflip.records.feedback import FeedbackBase, parse_feedback


@dataclass(frozen=True)
class About:
    """What must be known of a sample to speak of it.

    Attributes:
        prompt: id of its prompt.
        length: characters of its text; None for a clip.
    """

    prompt: str
    length: int | None

    @classmethod
    def of(cls, sample: Sample) -> Self:
        content = sample.content
        return cls(sample.prompt_id, len(content.text) if isinstance(content, Completion) else None)


def check_entry(entry: FeedbackBase) -> None:
    """Refuse an entry that cannot be stored or contradicts itself, as a `ValueError` in words."""
    body = entry.model_dump(mode="json")
    check_json(body, depth=KEPT_DEPTH, integers=INTEGERS)
    try:
        parse_feedback(body)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None
    for name in ("annotator", "axis", "origin"):
        try:
            check_name(body[name])
        except ValueError as error:
            raise ValueError(f"the entry's {name} {error}") from None
    number = len(entry.sample_ids)
    if len(set(entry.sample_ids)) < number:
        raise ValueError("it names the same sample twice")
    if entry.seconds is not None and not isfinite(entry.seconds):
        raise ValueError(f"field 'seconds' is {entry.seconds}, which is no time")
    if entry.guideline is not None:
        check_integer(entry.guideline)
    if entry.shown is not None and sorted(entry.shown) != list(range(number)):
        raise ValueError(
            f"field 'shown' is no order of the {number} samples: it names each once, from 0"
        )
    for span in entry.spans:
        if span.sample not in entry.sample_ids:
            raise ValueError(f"field 'spans' marks {span.sample!r}, of which it does not speak")


def check_about(entry: FeedbackBase, known: Mapping[str, About]) -> None:
    """Refuse an entry that is not of the samples it names.

    Args:
        entry: that `check_entry` lets pass.
        known: every sample that it speaks of.

    Raises:
        ValueError: in words.
    """
    if not of_one_prompt(known[name] for name in entry.sample_ids):
        raise ValueError("it speaks of replies to different prompts")
    for span in entry.spans:
        length = known[span.sample].length
        if length is None:
            raise ValueError("field 'spans' marks the text of a clip, which has none")
        if span.end > length:
            raise ValueError(
                f"field 'spans' ends at {span.end}, and the text has {length} characters"
            )


def of_one_prompt(about: Iterable[About]) -> bool:
    """Whether samples answer one prompt; clips may be compared wherever they start."""
    each = list(about)
    return len({one.prompt for one in each}) == 1 or all(one.length is None for one in each)


def check_labelled(samples: Iterable[Sample], entries: Iterable[FeedbackBase]) -> None:
    """The same for entries that come with their samples, which are looked at as well."""
    known: dict[str, About] = {}
    for sample in samples:
        check_sample(sample)
        known[sample.id] = About.of(sample)
    for entry in entries:
        check_entry(entry)
        if missing := [name for name in entry.sample_ids if name not in known]:
            raise ValueError(f"the entry speaks of {missing[0]!r}, which the row does not hold")
        check_about(entry, known)


def first_fault(error: ValidationError) -> str:
    """What is wrong with a record, in a line."""
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    said = " ".join(fault["msg"].split())  # it may quote what stands in the file
    return f"{place}: {said}" if place else said

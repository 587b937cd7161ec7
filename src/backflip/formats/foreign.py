"""Formats of others: Anthropic's HH, and the data set types of TRL.

HH (Bai et al. 2022): "chosen" and "rejected" are whole transcripts of Human and Assistant turns
that differ in the last reply. TRL ("Dataset formats and types" in its documentation): preference,
unpaired preference and prompt-completion, each "standard" (texts) or "conversational" (lists of
turns), preference also without a prompt, which is then what chosen and rejected begin with alike.
Pairs of others call their prompt otherwise, or have turns for it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backflip.data.dialogues import (
    asked_turns,
    demonstrations_from_row,
    is_transcript,
    label,
    make_sample,
    opens_reply,
    parse_transcript,
    prompt_beside,
    prompt_turns,
    render_transcript,
    replies_from_row,
    reply_text,
    split_last,
)
from backflip.data.fields import Fields, text_field
from backflip.data.turns import turns, turns_to_rows
from backflip.formats.base import (
    Format,
    Labelled,
    Origin,
    RenderOptions,
    same_prompt,
    text_of,
    without_images,
    without_tools,
)
from backflip.records import Message, Prompt, Sample
from backflip.records.feedback import Comparison, Correction, Demonstration, FeedbackBase, GoodBad

if TYPE_CHECKING:
    import pyarrow as pa

Turns = tuple[Message, ...]
_MAYBE_ASKED = (
    *("text", "input", "query", "problem", "task", "post", "context", "request", "user", "human"),
    "inputs",
    "prompts",
)
"""Columns that are the prompt of a pair in some data sets and are something else in others."""


def _pair(row: Fields, prompt: Turns, chosen: str, rejected: str, origin: Origin) -> Labelled:
    if chosen == rejected:
        raise ValueError("chosen and rejected are the same reply")
    asked = prompt_beside(row, prompt, source=origin.place)
    samples = (make_sample(asked, chosen), make_sample(asked, rejected))
    ids = (samples[0].id, samples[1].id)
    return Labelled(samples, (Comparison(samples=ids, choice="a", **origin.fields()),))


def preferred(entry: FeedbackBase, samples: Mapping[str, Sample]) -> tuple[Sample, Sample]:
    """The chosen and the rejected sample of an entry that prefers one text to another."""
    if isinstance(entry, Comparison):
        if entry.choice not in ("a", "b"):
            raise ValueError(f"prefers neither reply ({entry.choice})")
        first, second = (samples[id_] for id_ in entry.samples)
        chosen, rejected = (first, second) if entry.choice == "a" else (second, first)
    elif isinstance(entry, Correction):
        chosen, rejected = samples[entry.corrected], samples[entry.sample]
    else:
        raise ValueError(f"a {_kind(entry)} is not a preference between two replies")
    same_prompt(chosen, rejected)
    if text_of(chosen) == text_of(rejected):
        raise ValueError("both replies have the same text")
    return chosen, rejected


def _kind(entry: FeedbackBase) -> str:
    return str(getattr(entry, "kind", "entry")).replace("_", " ")


def _split_both(chosen: Turns, rejected: Turns) -> tuple[Turns, str, str]:
    prompt, good = split_last(chosen, "chosen")
    other, bad = split_last(rejected, "rejected")
    if prompt != other:
        raise ValueError("chosen and rejected answer different dialogues")
    return prompt, good, bad


# Anthropic HH


def _suits_hh(data: Mapping[str, Any]) -> bool:
    pair = (data.get("chosen"), data.get("rejected"))
    return "prompt" not in data and all(isinstance(t, str) and is_transcript(t) for t in pair)


def _parse_hh(data: Fields, origin: Origin) -> Labelled:
    dialogues = [parse_transcript(text_field(data, n), n) for n in ("chosen", "rejected")]
    return _pair(data, *_split_both(*dialogues), origin)


def _render_hh(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    chosen, rejected = preferred(entry, samples)
    without_tools(chosen.prompt, "a transcript")
    return {
        name: render_transcript((*s.prompt.messages, Message(role="assistant", content=s.text)))
        for name, s in (("chosen", chosen), ("rejected", rejected))
    }


# TRL preference


def _suits_preference(data: Mapping[str, Any]) -> bool:
    return "chosen" in data and "rejected" in data


def _parse_preference(data: Fields, origin: Origin) -> Labelled:
    for name in ("chosen", "rejected"):
        if name not in data:
            raise ValueError(f"field {name!r} is missing")
    if isinstance(data["chosen"], str) != isinstance(data["rejected"], str):
        raise ValueError("one of chosen and rejected is a text and the other is not")
    if not isinstance(data["chosen"], str):
        return _pair(data, *_conversational(data), origin)
    texts = text_field(data, "chosen"), text_field(data, "rejected")
    if "prompt" not in data and all(map(is_transcript, texts)):
        return _parse_hh(data, origin)
    asked = asked_turns(data)
    if asked is not None:
        return _pair(data, asked, *_explicit(data), origin)
    for name in _MAYBE_ASKED:
        if name in data and data.peek(name):
            raise ValueError(
                f"there is no field 'prompt', and {name!r} may be it: rename it to prompt, or "
                "leave it out where chosen and rejected begin with the prompt"
            )
    return _pair(data, *_common_beginning(*texts), origin)


def _conversational(data: Fields) -> tuple[Turns, str, str]:
    chosen, rejected = turns(data, "chosen"), turns(data, "rejected")
    if "prompt" not in data:
        asked = asked_turns(data) if chosen[0].role == rejected[0].role == "assistant" else None
        before = asked or ()
        return _split_both(before + chosen, before + rejected)
    prompt = prompt_turns(data)
    # Many data sets carry the prompt beside it once more, as the first turns of each dialogue.
    repeats = isinstance(data["prompt"], str) and chosen[0].role != "assistant"
    full = [d if repeats or d[: len(prompt)] == prompt else prompt + d for d in (chosen, rejected)]
    return _split_both(*full)


def _explicit(data: Fields) -> tuple[str, str]:
    replies = [reply_text(data, name) for name in ("chosen", "rejected")]
    if "prompt" in data and opens_reply(data["prompt"]):
        replies = [reply.removeprefix(" ") for reply in replies]
    return replies[0], replies[1]


def _common_beginning(chosen: str, rejected: str) -> tuple[Turns, str, str]:
    """Split two texts where they part, back to the last space so that no word is cut."""
    end = 0
    shorter = min(len(chosen), len(rejected))
    while end < shorter and chosen[end] == rejected[end]:
        end += 1
    while end > 0 and not (end < shorter and chosen[end].isspace() and rejected[end].isspace()):
        end -= 1
    if not chosen[:end].strip():
        raise ValueError("there is no prompt, and chosen and rejected begin with no words alike")
    good, bad = chosen[end:], rejected[end:]
    if not good.strip() or not bad.strip():
        raise ValueError("there is no prompt, and nothing but it in chosen or rejected")
    return (Message(role="user", content=chosen[:end]),), good, bad


def _render_preference(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    chosen, rejected = preferred(entry, samples)
    return {
        **_asked_in(chosen, options),
        "chosen": _reply_value(chosen, options),
        "rejected": _reply_value(rejected, options),
    }


def _asked_in(sample: Sample, options: RenderOptions) -> dict[str, Any]:
    """The columns of the prompt."""
    text_of(sample)
    prompt = sample.prompt
    if options.plain:
        return {"prompt": plain_prompt(prompt)}
    if options.columns:
        without_tools(prompt, "a column of turns")
        without_images(prompt, "a column of turns")
    tools = {"tools": list(prompt.tools)} if prompt.tools else {}
    return {"prompt": turns_to_rows(prompt.messages), **tools}


def plain_prompt(prompt: Prompt) -> str:
    """A prompt that one text holds; a `ValueError` for others."""
    without_tools(prompt, "a plain prompt")
    without_images(prompt, "a plain prompt")
    messages = prompt.messages
    if len(messages) != 1 or messages[0].role != "user":
        raise ValueError("a plain prompt is one turn of the user, and this has more")
    if opens_reply(messages[0].words):
        raise ValueError("a plain prompt that is a transcript would be read as turns")
    return messages[0].words


def _reply_value(sample: Sample, options: RenderOptions) -> str | list[dict[str, str]]:
    reply = text_of(sample)
    return reply if options.plain else [{"role": "assistant", "content": reply}]


def columns(options: RenderOptions, texts: Sequence[str], **others: str) -> "pa.Schema":
    """Columns of a Parquet file: `texts` hold texts or turns, `others` what is said of each."""
    import pyarrow as pa

    turn = pa.struct({"role": pa.string(), "content": pa.string()})
    dialogue = pa.string() if options.plain else pa.list_(turn)
    return pa.schema(
        dict.fromkeys(texts, dialogue)
        | {name: pa.type_for_alias(alias) for name, alias in others.items()}
    )


# TRL unpaired preference


def _parse_unpaired(data: Fields, origin: Origin) -> Labelled:
    good = label(data)
    if good is None:
        raise ValueError("field 'label' is missing")
    (sample,) = _prompt_and_completion(data, origin)
    return Labelled((sample,), (GoodBad(sample=sample.id, good=good, **origin.fields()),))


def _prompt_and_completion(data: Fields, origin: Origin) -> tuple[Sample, ...]:
    for name in ("prompt", "completion"):
        if name not in data:
            raise ValueError(f"field {name!r} is missing")
    return replies_from_row(data, source=origin.place)


def _render_unpaired(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    if not isinstance(entry, GoodBad):
        raise ValueError(f"a {_kind(entry)} does not call one reply good or bad")
    return _completion_row(samples[entry.sample], options) | {"label": entry.good}


def _completion_row(sample: Sample, options: RenderOptions) -> dict[str, Any]:
    return {**_asked_in(sample, options), "completion": _reply_value(sample, options)}


# TRL prompt-completion


def _suits_demonstration(data: Mapping[str, Any]) -> bool:
    shapes = ({"prompt", "completion"}, {"messages"}, {"conversations"}, {"instruction", "output"})
    return any(shape <= set(data) for shape in (*shapes, {"instruction", "instances"}))


def _parse_demonstration(data: Fields, origin: Origin) -> Labelled:
    samples = demonstrations_from_row(data, source=origin.place)
    entries = tuple(Demonstration(sample=s.id, **origin.fields()) for s in samples)
    return Labelled(samples, entries)


def _render_demonstration(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    if isinstance(entry, Correction):
        return _completion_row(samples[entry.corrected], options)
    if isinstance(entry, Demonstration):
        return _completion_row(samples[entry.sample], options)
    raise ValueError(f"a {_kind(entry)} does not show what a good reply is")


HH = Format(
    name="hh",
    summary="Anthropic HH: chosen and rejected transcripts of Human and Assistant turns",
    suits=_suits_hh,
    parse=_parse_hh,
    render=_render_hh,
    schema=lambda options: columns(RenderOptions(plain=True), ("chosen", "rejected")),
)
PREFERENCE = Format(
    name="trl-preference",
    summary="TRL preference: chosen and rejected, with or without prompt, texts or turns",
    suits=_suits_preference,
    parse=_parse_preference,
    render=_render_preference,
    schema=lambda options: columns(options, ("prompt", "chosen", "rejected")),
)
UNPAIRED = Format(
    name="trl-unpaired",
    summary="TRL unpaired preference: prompt, completion, and a label true or false",
    suits=lambda data: "completion" in data and "label" in data,
    parse=_parse_unpaired,
    render=_render_unpaired,
    schema=lambda options: columns(options, ("prompt", "completion"), label="bool"),
)
DEMONSTRATION = Format(
    name="trl-prompt-completion",
    summary="TRL prompt and completion; reads messages, ShareGPT and Alpaca rows as well",
    suits=_suits_demonstration,
    parse=_parse_demonstration,
    render=_render_demonstration,
    schema=lambda options: columns(options, ("prompt", "completion")),
)

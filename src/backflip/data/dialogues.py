"""Rows of foreign data sets as dialogues: whatever shape they come in, turns go out.

Every function takes a row's fields, or a value as it stood in a row, and raises `ValueError` with
a reason in words when it is not what it should be; readers turn that into a `Rejected` row.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from backflip.data.fields import Fields, text_field, text_in
from backflip.data.turns import sequence, tools, turns
from backflip.records import Completion, Dialogue, ImagePart, Message, Prompt, Sample, TextPart
from backflip.records.checks import check_prompt
from backflip.records.samples import Role

_TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")
_TRANSCRIPT_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_SYSTEM = ("system", "system_prompt")
Content = str | tuple[TextPart | ImagePart, ...]
_NOT_READ = (
    "audio",
    "audios",
    "chat_template_kwargs",
    "context",
    "documents",
    "functions",
    "image",
    "images",
    "video",
    "videos",
)
"""Columns without which a row says something else, and that a `Dialogue` has no place for."""


def is_transcript(text: str) -> bool:
    """Whether a text is a dialogue of paragraphs that begin with "Human:" and "Assistant:"."""
    return text.startswith("\n\nHuman:") and "\n\nAssistant:" in text


def parse_transcript(text: str, name: str) -> tuple[Message, ...]:
    """The turns of a transcript; the last one may be empty: "Assistant:" opens a reply.

    One space behind each colon belongs to the form; everything else is the turn's text.
    """
    before, *rest = _TRANSCRIPT.split(text)
    if before.strip() or not rest:
        raise ValueError(f"field {name!r} does not begin with a Human turn")
    messages: list[Message] = []
    for i in range(0, len(rest), 2):
        content = rest[i + 1].removeprefix(" ")
        if not content.strip() and i + 2 < len(rest):
            raise ValueError(f"turn {i // 2 + 1} of {name!r} is empty")
        messages.append(Message(role=_TRANSCRIPT_ROLES[rest[i]], content=content))
    return tuple(messages)


def render_transcript(messages: Sequence[Message]) -> str:
    """The way back from `parse_transcript`; refuses what the form cannot hold."""
    names = {role: name for name, role in _TRANSCRIPT_ROLES.items()}
    for message in messages:
        if message.role not in names:
            raise ValueError(f"a transcript has no {message.role} turn")
        if message.tool_calls:
            raise ValueError("a transcript has no calls of tools")
        if message.images:
            raise ValueError("a transcript has no place for images")
        if _TRANSCRIPT.search(message.words):
            raise ValueError("a turn spells out the start of another turn")
    return "".join(f"\n\n{names[m.role]}: {m.words}" for m in messages)


def split_last(messages: Sequence[Message], name: str) -> tuple[tuple[Message, ...], str]:
    """A dialogue as its turns to answer and the assistant's last reply."""
    *before, last = messages
    if last.role != "assistant":
        raise ValueError(f"field {name!r} does not end with the assistant's turn")
    return to_answer(before, name), _reply(last, name)


def _reply(message: Message, name: str) -> str:
    if message.tool_calls:
        raise ValueError(f"the reply in {name!r} calls tools, which a reply's text does not hold")
    if message.images:
        raise ValueError(f"the reply in {name!r} holds an image, and a reply is a text")
    if not message.words.strip():
        raise ValueError(f"the reply in {name!r} is empty")
    return message.words


def to_answer(messages: Sequence[Message], name: str) -> tuple[Message, ...]:
    """Turns that can be answered: at least one, the last of them the user's or a tool's."""
    if not messages:
        raise ValueError(f"field {name!r} has no turn to answer")
    if messages[-1].role not in ("user", "tool"):
        raise ValueError(f"the turns in {name!r} to answer do not end with the user's")
    return tuple(messages)


def prompt_turns(row: Fields, name: str = "prompt") -> tuple[Message, ...]:
    """A prompt that is a text, a transcript that opens the assistant's turn, or turns."""
    value = row[name]
    if not isinstance(value, str):
        return to_answer(turns(row, name), name)
    if opens_reply(value):
        *messages, _ = parse_transcript(value, name)
        return to_answer(messages, name)
    return _asked(text_field(row, name))


def opens_reply(value: Any) -> bool:
    """Whether a prompt is a transcript that ends where the assistant's reply begins."""
    return isinstance(value, str) and is_transcript(value) and value.rstrip().endswith("Assistant:")


def reply_text(row: Fields, name: str) -> str:
    """A reply that is a text or a list of one assistant turn."""
    if isinstance(row[name], str):
        return text_field(row, name)
    messages = turns(row, name)
    if len(messages) != 1 or messages[0].role != "assistant":
        raise ValueError(f"field {name!r} is not one turn of the assistant")
    return _reply(messages[0], name)


def asked_turns(row: Fields) -> tuple[Message, ...] | None:
    """The turns to answer of a row: its field "prompt" (text or turns), "messages" or
    "conversations" up to the last reply, "instruction" (with "input" or "context") or "question";
    None where it has none of these.
    """
    if "prompt" in row:
        return prompt_turns(row)
    if name := _dialogue_field(row):
        messages = turns(row, name, learned=False)
        return to_answer(messages[:-1] if messages[-1].role == "assistant" else messages, name)
    if "instruction" in row:
        return _instruction(row, row)
    return _instruction(row, row, "question") if "question" in row else None


def prompt_from_row(row: Fields, *, source: str) -> Prompt:
    """The prompt of a row: what `asked_turns` finds, or its field "text"."""
    messages = asked_turns(row)
    if messages is None and "text" in row:
        messages = _asked(text_field(row, "text"))
    if messages is None:
        raise ValueError(f"has no prompt; its fields are {', '.join(map(str, row)) or 'none'}")
    return prompt_beside(row, messages, source=source)


def demonstrations_from_row(row: Fields, *, source: str) -> tuple[Sample, ...]:
    """A prompt and the reply that somebody wrote to it, as a sample; several for Alpaca's seeds.

    Shapes: `{"prompt", "completion"}` (texts or turns), `{"messages"}` or ShareGPT's
    `{"conversations"}` (the last assistant turn is the reply), Alpaca's
    `{"instruction", "input", "output"}` and `{"instruction", "instances": [{"input", "output"}]}`,
    and `{"question", "answer"}`. A reply that the row's "label" calls bad is no demonstration.
    """
    if label(row) is False:
        raise ValueError("field 'label' is false: the reply is called bad, and shows nothing")
    return replies_from_row(row, source=source)


def label(row: Fields) -> bool | None:
    """Whether a row calls its reply good, in its field "label"; None where it does not say.

    True and false may be 1 and 0, as other tools write them.

    Raises:
        ValueError: it is anything else.
    """
    value = row.get("label")
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise ValueError(f"field 'label' is {_shown(value)}, and not true or false")
    return bool(value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}...")
    return str(value) if isinstance(value, int | float) else "a list or an object"


def replies_from_row(row: Fields, *, source: str) -> tuple[Sample, ...]:
    """A prompt and a reply, good or bad, in the shapes of `demonstrations_from_row`."""
    if "completion" in row:
        if "prompt" not in row:
            raise ValueError("field 'prompt' is missing")
        reply = reply_text(row, "completion")
        if opens_reply(row["prompt"]):
            reply = reply.removeprefix(" ")
        pairs = [(prompt_turns(row), reply)]
    elif name := _dialogue_field(row):
        pairs = [split_last(turns(row, name), name)]
    elif "instruction" in row and "instances" in row:
        pairs = _instances(row)
    elif "instruction" in row and "output" in row:
        pairs = [(_instruction(row, row), text_field(row, "output"))]
    elif "question" in row and "answer" in row:
        pairs = [(_instruction(row, row, "question"), text_field(row, "answer"))]
    else:
        raise ValueError(
            "is no demonstration: it has neither prompt and completion, nor messages or "
            "conversations, nor instruction and output or instances, nor question and answer"
        )
    return tuple(make_sample(prompt_beside(row, m, source=source), reply) for m, reply in pairs)


def prompt_beside(
    row: Fields, messages: Sequence[Message], *, source: str, **fields: Any
) -> Prompt:
    """A prompt of turns that a row holds, with what other columns say of them.

    "system" (or "system_prompt") is the system turn, "history" holds earlier pairs of turns, and
    "tools" what the assistant may call.

    Raises:
        ValueError: one of them is not what it should be, or a column that no prompt can hold
            (an image, a weight) says that the row means something else.
    """
    for name in _NOT_READ:
        if name in row.unread and row.peek(name):
            raise ValueError(f"field {name!r} is not read, and the row means less without it")
    weight = row.get("weight", 1)
    if weight != 1:
        said = weight if isinstance(weight, int | float) else "no number"
        raise ValueError(f"field 'weight' is {said}: all rows count alike, with 1")
    opening = messages[:1] if messages[0].role == "system" else ()
    rest = tuple(messages[len(opening) :])
    whole = (*_system(row, opening), *_history(row), *rest)
    content = Dialogue(messages=whole, tools=tools(row))
    prompt = Prompt(content=content, source=source, **fields)
    check_prompt(prompt)
    return prompt


def _system(row: Fields, opening: Sequence[Message]) -> tuple[Message, ...]:
    """The system turn, said by the opening one or by a column; () where neither does."""
    said: dict[Content, str] = {m.content: "the first turn" for m in opening}
    for name in _SYSTEM:
        value = row.get(name, "")
        if not isinstance(value, str):
            raise ValueError(f"field {name!r} is not a text")
        if value.strip():
            said.setdefault(value, f"field {name!r}")
    if len(said) > 1:
        raise ValueError(f"{' and '.join(said.values())} are different system turns")
    return tuple(Message(role="system", content=content) for content in said)


def _history(row: Fields) -> tuple[Message, ...]:
    if "history" not in row:
        return ()
    messages: list[Message] = []
    for i, pair in enumerate(sequence(row, "history", "pairs of texts"), 1):
        where = f"pair {i} of 'history'"
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"{where} is not a list of two texts")
        asked, said = (text_in(text, f"a text in {where}") for text in pair)
        messages += [*_asked(asked), Message(role="assistant", content=said)]
    return tuple(messages)


def make_sample(prompt: Prompt, reply: str, **fields: Any) -> Sample:
    """A reply from outside: its tokens are unknown, and it counts as written by a person."""
    return Sample.of(prompt, Completion(text=reply), **fields)


def _dialogue_field(row: Mapping[str, Any]) -> str | None:
    return next((name for name in ("messages", "conversations") if name in row), None)


def _asked(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _instances(row: Fields) -> list[tuple[tuple[Message, ...], str]]:
    instances = sequence(row, "instances", "objects")
    if not instances:
        raise ValueError("field 'instances' is empty")
    pairs: list[tuple[tuple[Message, ...], str]] = []
    for i, instance in enumerate(instances, 1):
        where = f"instance {i} of 'instances'"
        fields = row.nested("instances", instance, where)
        try:
            pairs.append((_instruction(row, fields), text_field(fields, "output")))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return pairs


def _instruction(row: Fields, about: Fields, name: str = "instruction") -> tuple[Message, ...]:
    """What is asked, and below it what it is asked about: "input", or Dolly's "context"."""
    parts = [text_field(row, name)]
    for field in ("input", "context"):
        given = about.get(field, "")
        if not isinstance(given, str):
            raise ValueError(f"field {field!r} is not a text")
        if given:
            parts.append(given)
    return _asked("\n\n".join(parts))

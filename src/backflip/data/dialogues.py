"""Rows of foreign data sets as dialogues: whatever shape they come in, turns go out.

Every function takes a value as it stood in a row and raises `ValueError` with a reason in words
when it is not what it should be; readers turn that into a `Rejected` row.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.records.samples import Role

_ROLES = get_args(Role)
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
_TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")
_TRANSCRIPT_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def text_field(data: Mapping[str, Any], name: str) -> str:
    """A field that must hold a text with something in it."""
    if name not in data:
        raise ValueError(f"field {name!r} is missing")
    value = data[name]
    if not isinstance(value, str):
        raise ValueError(f"field {name!r} is not a text")
    if not value.strip():
        raise ValueError(f"field {name!r} is empty")
    return value


def turns(value: Any, name: str) -> tuple[Message, ...]:
    """A list of `{"role", "content"}` (or ShareGPT's `{"from", "value"}`) as messages."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"field {name!r} is not a list of turns")
    if not value:
        raise ValueError(f"field {name!r} has no turns")
    return tuple(_turn(turn, f"turn {i} of {name!r}") for i, turn in enumerate(value, 1))


def _turn(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise ValueError(f"{where} is not an object with role and content")
    role, content = turn.get("role"), turn.get("content")
    if role is None and "from" in turn:
        role, content = _SHAREGPT_ROLES.get(str(turn["from"])), turn.get("value")
    if role not in _ROLES:
        raise ValueError(f"{where} has no role of {', '.join(_ROLES)}")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = _join_parts(content, where)
    if not isinstance(content, str):
        raise ValueError(f"{where} has no text")
    if not content.strip():
        raise ValueError(f"{where} is empty")
    return Message.model_validate({"role": role, "content": content})


def _join_parts(parts: Sequence[Any], where: str) -> str:
    """Content in typed parts, as multimodal data sets have it, where all are text."""
    for part in parts:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise ValueError(f"{where} holds something that is not text")
    return "".join(part["text"] for part in parts)


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
        if _TRANSCRIPT.search(message.content):
            raise ValueError("a turn spells out the start of another turn")
    return "".join(f"\n\n{names[m.role]}: {m.content}" for m in messages)


def split_last(messages: Sequence[Message], name: str) -> tuple[tuple[Message, ...], str]:
    """A dialogue as its turns to answer and the assistant's last reply."""
    *before, last = messages
    if last.role != "assistant":
        raise ValueError(f"field {name!r} does not end with the assistant's turn")
    if not last.content.strip():
        raise ValueError(f"the reply in {name!r} is empty")
    return to_answer(before, name), last.content


def to_answer(messages: Sequence[Message], name: str) -> tuple[Message, ...]:
    """Turns that can be answered: at least one, the last of them the user's."""
    if not messages:
        raise ValueError(f"field {name!r} has no turn to answer")
    if messages[-1].role != "user":
        raise ValueError(f"the turns in {name!r} to answer do not end with the user's")
    return tuple(messages)


def prompt_turns(value: Any, name: str = "prompt") -> tuple[Message, ...]:
    """A prompt that is a text, a transcript that opens the assistant's turn, or turns."""
    if not isinstance(value, str):
        return to_answer(turns(value, name), name)
    if not value.strip():
        raise ValueError(f"field {name!r} is empty")
    if opens_reply(value):
        *messages, _ = parse_transcript(value, name)
        return to_answer(messages, name)
    return (Message(role="user", content=value),)


def opens_reply(value: Any) -> bool:
    """Whether a prompt is a transcript that ends where the assistant's reply begins."""
    return isinstance(value, str) and is_transcript(value) and value.rstrip().endswith("Assistant:")


def reply_text(value: Any, name: str) -> str:
    """A reply that is a text or a list of one assistant turn."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"field {name!r} is empty")
        return value
    messages = turns(value, name)
    if len(messages) != 1 or messages[0].role != "assistant":
        raise ValueError(f"field {name!r} is not one turn of the assistant")
    return messages[0].content


def prompt_from_row(data: Mapping[str, Any], *, source: str) -> Prompt:
    """The prompt of a row: its field "prompt" (text or turns), "messages" or "conversations" up
    to the last reply, "instruction" (with "input"), "question" or "text".
    """
    if "prompt" in data:
        messages = prompt_turns(data["prompt"])
    elif name := _dialogue_field(data):
        messages = turns(data[name], name)
        messages = to_answer(messages[:-1] if messages[-1].role == "assistant" else messages, name)
    elif "instruction" in data:
        messages = _asked(_instruction(data, data))
    elif "question" in data or "text" in data:
        messages = _asked(text_field(data, "question" if "question" in data else "text"))
    else:
        raise ValueError(f"has no prompt; its fields are {', '.join(map(str, data)) or 'none'}")
    return make_prompt(messages, source=source)


def demonstrations_from_row(data: Mapping[str, Any], *, source: str) -> tuple[Sample, ...]:
    """A prompt and the reply that somebody wrote to it, as a sample; several for Alpaca's seeds.

    Shapes: `{"prompt", "completion"}` (texts or turns), `{"messages"}` or ShareGPT's
    `{"conversations"}` (the last assistant turn is the reply), Alpaca's
    `{"instruction", "input", "output"}` and `{"instruction", "instances": [{"input", "output"}]}`,
    and `{"question", "answer"}`.
    """
    if "completion" in data:
        if "prompt" not in data:
            raise ValueError("field 'prompt' is missing")
        reply = reply_text(data["completion"], "completion")
        if opens_reply(data["prompt"]):
            reply = reply.removeprefix(" ")
        pairs = [(prompt_turns(data["prompt"]), reply)]
    elif name := _dialogue_field(data):
        pairs = [split_last(turns(data[name], name), name)]
    elif "instruction" in data and "instances" in data:
        pairs = [_alpaca(data, instance) for instance in _instances(data)]
    elif "instruction" in data and "output" in data:
        pairs = [_alpaca(data, data)]
    elif "question" in data and "answer" in data:
        pairs = [(_asked(text_field(data, "question")), text_field(data, "answer"))]
    else:
        raise ValueError(
            "is no demonstration: it has neither prompt and completion, nor messages, nor "
            "instruction and output, nor question and answer"
        )
    return tuple(make_sample(make_prompt(m, source=source), reply) for m, reply in pairs)


def make_prompt(messages: Sequence[Message], *, source: str, **fields: Any) -> Prompt:
    return Prompt(content=Dialogue(messages=tuple(messages)), source=source, **fields)


def make_sample(prompt: Prompt, reply: str, **fields: Any) -> Sample:
    """A reply from outside: its tokens are unknown, and it counts as written by a person."""
    return Sample.of(prompt, Completion(text=reply), **fields)


def _dialogue_field(data: Mapping[str, Any]) -> str | None:
    return next((name for name in ("messages", "conversations") if name in data), None)


def _asked(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _alpaca(
    data: Mapping[str, Any], instance: Mapping[str, Any]
) -> tuple[tuple[Message, ...], str]:
    return _asked(_instruction(data, instance)), text_field(instance, "output")


def _instances(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    instances = data["instances"]
    if not isinstance(instances, list) or not all(isinstance(i, Mapping) for i in instances):
        raise ValueError("field 'instances' is not a list of objects")
    if not instances:
        raise ValueError("field 'instances' is empty")
    return instances


def _instruction(data: Mapping[str, Any], instance: Mapping[str, Any]) -> str:
    instruction = text_field(data, "instruction")
    given = instance.get("input")
    if given is None or given == "":
        return instruction
    if not isinstance(given, str):
        raise ValueError("field 'input' is not a text")
    return f"{instruction}\n\n{given}"

"""Turns of dialogues in rows: OpenAI's and TRL's roles and calls of tools, and ShareGPT's.

Every function takes a row's fields and the name of one, and raises `ValueError` with a reason in
words when the field is not what it should be; readers turn that into a `Rejected` row.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from backflip.data.fields import Fields, text_in
from backflip.data.parts import parts_to_row, read_parts
from backflip.data.rows import parse_json
from backflip.records import Message, ToolCall
from backflip.records.samples import Dialogue, Role

_ROLES = (*get_args(Role), "function")
_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
}
_NOT_HELD = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
    "image",
    "images",
    "audio",
    "video",
)
"""Fields of a turn that are part of what was said, and that a `Message` has no place for."""


def turns(row: Fields, name: str, *, learned: bool = True) -> tuple[Message, ...]:
    """The turns in a field: `{"role", "content"}`, or ShareGPT's `{"from", "value"}`.

    Calls of tools are read as OpenAI writes them (`tool_calls`, also `function_call`; arguments
    are an object or JSON text) and as ShareGPT does (a turn from "function_call").

    Args:
        row: the fields of the row.
        name: of the field.
        learned: whether a last turn of the assistant is a reply to learn from. Then it may not
            have OpenAI's weight 0; earlier turns may, since they are only read.
    """
    alone = isinstance(row[name], Mapping)  # as other programs write a reply beside its dialogue
    given = [row[name]] if alone else sequence(row, name, "turns")
    if not given:
        raise ValueError(f"field {name!r} has no turns")
    messages: list[Message] = []
    for i, turn in enumerate(given, 1):
        where = f"turn {i} of {name!r}"
        if not isinstance(turn, Mapping):
            raise ValueError(f"{where} is not an object with role and content")
        fields = row.nested(name, turn, where)
        messages.append(_turn(fields, where))
        weight = fields.get("weight", 1)
        if weight not in (0, 1):
            raise ValueError(f"{where} has a weight that is neither 0 nor 1")
        if learned and not weight and i == len(given) and messages[-1].role == "assistant":
            raise ValueError(f"{where} has the weight 0: the reply is not to be learned from")
    return tuple(messages)


def sequence(row: Fields, name: str, what: str) -> Sequence[Any]:
    """A field that must hold a list."""
    value = row[name]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"field {name!r} is not a list of {what}")
    return value


def _turn(turn: Fields, where: str) -> Message:
    for name in _NOT_HELD:
        if turn.get(name):
            raise ValueError(f"{where} has the field {name!r}, which is not read: take it out")
    role, content = turn.get("role"), turn.get("content")
    if role is None and "from" in turn:
        sender, content = str(turn["from"]), turn.get("value")
        role = _SHAREGPT_ROLES.get(sender, sender)
        if sender == "function_call":
            calls = _calls(_from_text(content, where), where)
            return _message(where, role=role, content="", tool_calls=calls)
    if role not in _ROLES:
        names = ", ".join((*_ROLES, *_SHAREGPT_ROLES))
        raise ValueError(f"{where} has no role of {names}")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = read_parts(content, where)
    calls = _calls(turn.get("tool_calls") or (), where)
    if called := turn.get("function_call"):
        calls += _calls((called,), where)
    if calls and role != "assistant":
        raise ValueError(f"{where} calls tools, and is not the assistant's")
    if content is None and calls:
        content = ""
    if not isinstance(content, str | tuple):
        raise ValueError(f"{where} has no text")
    if role in ("tool", "function"):
        return _message(
            where,
            role="tool",
            content=content,
            tool_call_id=turn.get("tool_call_id"),
            tool_name=turn.get("name"),
        )
    if not calls and isinstance(content, str) and not content.strip():
        raise ValueError(f"{where} is empty")
    return _message(where, role=role, content=content, tool_calls=calls)


def _message(where: str, **fields: Any) -> Message:
    try:
        return Message.model_validate(fields)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise ValueError(f"{where} has a {place} that cannot be read") from None


def _calls(calls: Any, where: str) -> tuple[ToolCall, ...]:
    if isinstance(calls, Mapping):
        calls = (calls,)
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise ValueError(f"{where} has tool_calls that are not a list")
    return tuple(_call(call, f"call {i} in {where}") for i, call in enumerate(calls, 1))


def _call(call: Any, where: str) -> ToolCall:
    outer = Fields(call) if isinstance(call, Mapping) else Fields({})
    function = outer.get("function", outer)
    function = Fields(function if isinstance(function, Mapping) else {})
    if "name" not in function:
        raise ValueError(f"{where} names no function")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _from_text(arguments, f"the arguments of {where}") if arguments.strip() else {}
    if not isinstance(arguments, Mapping | None):
        raise ValueError(f"the arguments of {where} are not an object")
    try:
        return ToolCall.model_validate(
            {
                "name": text_in(function["name"], f"the name in {where}"),
                "arguments": dict(arguments or {}),
                "id": outer.get("id"),
            }
        )
    except ValidationError as error:
        place = error.errors()[0]["loc"][0]
        raise ValueError(f"{where} has a {place} that cannot be read") from None


def tools(row: Fields, name: str = "tools") -> tuple[dict[str, Any], ...]:
    """What the assistant may call: a list of descriptions, or that as JSON text; () for none.

    A description is `{"type": "function", "function": {...}}`, or what stands in its "function".
    """
    if name not in row:
        return ()
    given = row[name]
    if isinstance(given, str):
        given = _from_text(given, f"field {name!r}") if given.strip() else ()
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(f"field {name!r} is not a list of tools")
    found = tuple(_tool(tool, f"tool {i} of {name!r}") for i, tool in enumerate(given, 1))
    try:
        Dialogue(messages=(Message(role="user", content=""),), tools=found)
    except ValidationError:
        raise ValueError(f"field {name!r} holds something that is not JSON") from None
    return found


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if isinstance(tool, str):
        tool = _from_text(tool, where)
    if not isinstance(tool, Mapping):
        raise ValueError(f"{where} is not an object")
    whole = {"type": "function", "function": tool} if tool.get("function") is None else tool
    function = whole["function"]
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"{where} names no function")
    return {**whole}


def _from_text(text: Any, where: str) -> Any:
    try:
        return parse_json(text_in(text, "the text"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def turns_to_rows(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The way back from `turns`, in TRL's form: arguments are objects."""
    return [_turn_to_row(message) for message in messages]


def _turn_to_row(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": parts_to_row(message)}
    if message.tool_calls:
        row["tool_calls"] = [
            {
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **({} if call.id is None else {"id": call.id}),
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    if message.tool_name is not None:
        row["name"] = message.tool_name
    return row


def uses_tools(messages: Sequence[Message]) -> bool:
    """Whether some turn is more than a role and what is said."""
    called = (
        m.tool_calls or m.tool_call_id is not None or m.tool_name is not None for m in messages
    )
    return any(called) or any(m.role == "tool" for m in messages)

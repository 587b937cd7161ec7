"""What a template leaves out: found by rendering a dialogue of the same shape, all of it marked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from backflip.data.chat.template import Template
from backflip.errors import ModelError
from backflip.records import Dialogue, Message, ToolCall

_MARK = "zqmark{}zq"


@dataclass(frozen=True)
class Shape:
    """What of a dialogue decides how a template writes it, its words aside."""

    turns: tuple[tuple[str, bool, int], ...]
    has_tools: bool
    has_images: bool

    @classmethod
    def of(cls, dialogue: Dialogue) -> Self:
        turns = tuple((m.role, bool(m.words), len(m.tool_calls)) for m in dialogue.messages)
        return cls(turns, bool(dialogue.tools), bool(dialogue.images))


def require_words(dialogue: Dialogue, where: str | None) -> None:
    """Refuse a dialogue that words alone do not tell, as a `ModelError`."""
    if dialogue.images:
        raise ModelError(
            "holds an image, and models are given words alone",
            where=where,
            hint="Take out the rows with images: people can judge them, and no model reads "
            "them yet.",
        )


def left_out(template: Template, dialogue: Dialogue) -> list[str]:
    """What a template drops of dialogues of this shape, in words.

    Raises:
        ModelError: the template refuses them.
    """
    marks: dict[str, str] = {}

    def mark(what: str) -> str:
        name = _MARK.format(len(marks))
        marks[name] = what
        return name

    messages = tuple(_marked(message, mark) for message in dialogue.messages)
    tools = dialogue.tools and (
        {
            "type": "function",
            "function": {
                "name": mark("the tools"),
                "description": "Says.",
                "parameters": {"type": "object", "properties": {}},
            },
        },
    )
    marked = Dialogue(messages=messages, tools=tools)
    text = template.render(template.turns(marked), marked.tools, opening=True)
    return list(dict.fromkeys(what for name, what in marks.items() if name not in text))


def _marked(message: Message, mark: Callable[[str], str]) -> Message:
    """A message of the same shape with marks for words; ids stay, templates count their letters."""
    return Message(
        role=message.role,
        content=mark(f"the {message.role} turn") if message.words else "",
        tool_calls=tuple(
            ToolCall(name=mark("the calls of tools"), arguments={}, id=call.id)
            for call in message.tool_calls
        ),
        tool_call_id=message.tool_call_id,
        tool_name=message.tool_name,
    )

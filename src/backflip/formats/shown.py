"""What people are shown in tools for annotation: a prompt, replies by name, and what is judged."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backflip.data.dialogues import prompt_beside, prompt_turns
from backflip.data.fields import Fields, text_field
from backflip.data.rows import parse_json
from backflip.data.turns import tools, turns, turns_to_rows, uses_tools
from backflip.records import Dialogue, Message, Prompt

REPLIES = tuple(f"response_{letter}" for letter in "abcdefgh")
"""Names of the replies in their order; no kind of feedback is about more than eight."""


@dataclass(frozen=True)
class Shown:
    """What people are asked about.

    Attributes:
        prompt: a dialogue to answer.
        replies: texts, named by `REPLIES` in their order.
        axis: what is judged; None: not said.
        num_levels: of a rating or of a critique's level; None: not said, and then 5.
    """

    prompt: Prompt
    replies: tuple[str, ...]
    axis: str | None = None
    num_levels: int | None = None

    def texts(self) -> dict[str, Any]:
        """The prompt, in turns as people read them, and the replies by name."""
        turns = [{"role": m.role, "content": m.text} for m in self.prompt.messages]
        return {"prompt": turns, **dict(zip(REPLIES, self.replies, strict=False))}

    def about(self) -> dict[str, Any]:
        """Everything but the texts; calls of tools, which the turns only spell, as JSON text."""
        messages, described = self.prompt.messages, self.prompt.tools
        facts = {
            "axis": self.axis,
            "num_levels": self.num_levels,
            "split": self.prompt.split,
            "turns": _json(turns_to_rows(messages)) if uses_tools(messages) else None,
            "tools": _json(described) if described else None,
        }
        return {name: value for name, value in facts.items() if value is not None}

    @classmethod
    def read(cls, texts: Fields, about: Fields, *, source: str) -> "Shown":
        """The way back from `texts` and `about`; other fields are left unread.

        Raises:
            ValueError: a field that must be there is not, or is not what it should be.
        """
        if "prompt" not in texts:
            raise ValueError("field 'prompt' is missing")
        names = [name for name in REPLIES if name in texts]
        if skipped := next((a for a, b in zip(REPLIES, names, strict=False) if a != b), None):
            raise ValueError(f"field {skipped!r} is missing")
        axis, split = about.get("axis"), about.get("split", "train")
        num_levels = about.get("num_levels")
        if split not in ("train", "heldout"):
            raise ValueError("field 'split' is neither train nor heldout")
        prompt = prompt_beside(texts, _turns(texts, about), source=source, split=split)
        content = Dialogue(messages=prompt.messages, tools=prompt.tools or tools(about))
        return cls(
            prompt=prompt.model_copy(update={"content": content}),
            replies=tuple(text_field(texts, name) for name in names),
            axis=None if axis is None else checked_name(axis, "axis"),
            num_levels=None if num_levels is None else whole(num_levels, "num_levels", 2, 10),
        )


def _turns(texts: Fields, about: Fields) -> tuple[Message, ...]:
    """The turns that people read, with their calls of tools where those are said beside them."""
    read = prompt_turns(texts)
    if "turns" not in about:
        return read
    exact = turns(Fields({"turns": parse_json(text_field(about, "turns"))}), "turns")
    if _as_read(exact) != _as_read(read):
        raise ValueError("field 'turns' is not what field 'prompt' shows")
    return exact


def _as_read(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in messages]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def checked_name(value: Any, what: str) -> str:
    """The name of an annotator or an axis, if it is one that can be shown."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"the {what} is no text, empty, or holds control characters")
    return value


def whole(value: Any, name: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name!r} holds something other than whole numbers from {low} to {high}")
    return value

"""Rendering: a tokenizer's chat template, or plain turns where it has none."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backflip.config import ChatSettings
from backflip.errors import ModelError
from backflip.records import Dialogue, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turn = dict[str, Any]
"""One turn as templates take it: role, content, and what belongs to tools."""

_DEFAULT, _TOOLS = "default", "tool_use"
_MAX_BYTES = 1 << 20
"""Of a file: templates have some thousands, and a model's weights may be named by mistake."""
_FILE_HINT = "Name a file of a Jinja template that may be read as model.chat.template."
_DATE_LETTERS = "aAbBdmyYHIMSpjUwWxXc%"
_FIXED_DATE = (
    "{% macro strftime_now(format) %}{% set told = namespace(text=format) %}"
    "{% for code, value in backflip_dates.items() %}"
    "{% set told.text = told.text | replace(code, value) %}{% endfor %}"
    "{{ told.text }}{% endmacro %}\n"
)
"""Stands before templates that ask for the date: by a clock a prompt had other tokens tomorrow."""
SYSTEM_HINT = 'model.chat.system = "first_user" puts a system turn before the first user turn.'


class Template:
    """Renders turns with the template that the settings choose.

    Raises:
        ModelError: several templates and no choice, or a choice that is not there or unreadable.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", settings: ChatSettings):
        self._tokenizer = tokenizer
        self._settings = settings
        self.where = str(tokenizer.name_or_path) or None
        self._plain, self._with_tools = self._chosen()
        self._beginning = _beginning(tokenizer) if self._plain is None else ""
        today = date.fromisoformat(settings.today)
        dates = {f"%{letter}": today.strftime(f"%{letter}") for letter in _DATE_LETTERS}
        dates |= {f"%-{code[1]}": part.lstrip("0") or "0" for code, part in dates.items()}
        self._dates = {"backflip_dates": dates}

    def _chosen(self) -> tuple[str | None, str | None]:
        """The sources for prompts without and with tools; None for plain turns."""
        own: Any = self._tokenizer.chat_template or None
        named: dict[str, str] = dict(own) if isinstance(own, dict) else {}
        choice = self._settings.template
        if choice is None:
            if not isinstance(own, dict):
                return own, own
            if _DEFAULT in named:
                return named[_DEFAULT], named.get(_TOOLS, named[_DEFAULT])
            raise ModelError(
                f"has several chat templates and no default: {', '.join(named)}",
                where=self.where,
                hint="Name one as model.chat.template.",
            )
        if choice in named:
            return named[choice], named[choice]
        source = _of_file(choice)
        if source is not None:
            return source, source
        there = f"Its templates: {', '.join(named)}. " if named else "It has no named templates. "
        raise ModelError(
            f"has no chat template {choice!r}, and no file is called that",
            where=self.where,
            hint=f"{there}A file of a Jinja template will do too.",
        )

    def turns(self, dialogue: Dialogue) -> list[Turn]:
        """The turns of a dialogue as templates take them, its system turn where it is to be."""
        turns = [_turn(message) for message in dialogue.messages]
        if self._settings.system == "as_is" or turns[0]["role"] != "system":
            return turns
        system, *others = turns
        if not others or others[0]["role"] != "user":
            return [{**system, "role": "user"}, *others]
        content = f"{system['content']}\n\n{others[0]['content']}"
        return [{**others[0], "content": content}, *others[1:]]

    def render(
        self, turns: Sequence[Turn], tools: Sequence[Any] = (), *, opening: bool = False
    ) -> str:
        """The text of a dialogue.

        Args:
            turns: at least one.
            tools: what the assistant may call.
            opening: whether the opening of an assistant's turn is asked for at the end.

        Raises:
            ModelError: the template refuses these turns (some know no system turn), or fails.
        """
        source = self._with_tools if tools else self._plain
        if source is None:
            return self._render_plainly(turns, tools, opening=opening)
        variables: dict[str, Any] = self._settings.kwargs
        if "strftime_now" in source:
            source, variables = _FIXED_DATE + source, {**self._dates, **variables}
        try:
            text = self._tokenizer.apply_chat_template(
                list(turns),
                tools=list(tools) or None,
                chat_template=source,
                add_generation_prompt=opening,
                tokenize=False,
                **variables,
            )
        except Exception as error:  # whatever the code of a template trips over
            raise self.fault(f"the chat template refuses these turns: {error}", turns) from None
        assert isinstance(text, str)  # noqa: S101  tokenize=False renders one string
        return text

    def fault(self, what: str, turns: Sequence[Turn]) -> ModelError:
        """The error for a dialogue that the template does not take."""
        roles = [turn["role"] for turn in turns]
        way_out = f" {SYSTEM_HINT}" if "system" in roles else ""
        return ModelError(what, where=self.where, hint=f"turns: {', '.join(roles)}.{way_out}")

    def _render_plainly(self, turns: Sequence[Turn], tools: Sequence[Any], *, opening: bool) -> str:
        if tools or any(turn["role"] == "tool" or "tool_calls" in turn for turn in turns):
            raise ModelError(
                "has no chat template, and plain turns have no place for tools",
                where=self.where,
                hint="Name a file of a template that has one as model.chat.template.",
            )
        plain = "".join(f"{t['role'].capitalize()}:\n{t['content']}\n\n" for t in turns)
        return self._beginning + plain + ("Assistant:\n" if opening else "")


def in_words(error: ModelError) -> str:
    """An error and its way out, without the place."""
    return f"{error.what} ({error.hint})" if error.hint else error.what


def _of_file(choice: str) -> str | None:
    """The template in a file; None where nothing lies at this path."""
    path = Path(choice)
    try:
        path = path.expanduser()
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, RuntimeError, ValueError):
        return None  # RuntimeError: a home that is not known; ValueError: a NUL
    except OSError as error:
        raise ModelError(
            f"the chat template cannot be read: {error.strerror or error}",
            where=choice,
            hint=_FILE_HINT,
        ) from None
    if len(content) > _MAX_BYTES:
        what = f"is larger than {_MAX_BYTES} bytes, so it is no chat template"
        raise ModelError(what, where=choice, hint=_FILE_HINT)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"the chat template is not UTF-8: byte {error.start}"
        raise ModelError(what, where=choice, hint="Save the file as UTF-8.") from None


def _turn(message: Message) -> Turn:
    turn: Turn = {"role": message.role, "content": message.words}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                **({} if call.id is None else {"id": call.id}),
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_name is not None:
        # Templates know it by either name.
        turn["name"] = turn["tool_name"] = message.tool_name
    return turn


def _beginning(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The beginning token, for tokenizers that put one before every text."""
    empty = tokenizer.encode("")
    begins = bool(empty) and empty[0] == tokenizer.bos_token_id
    return str(tokenizer.bos_token) if begins else ""

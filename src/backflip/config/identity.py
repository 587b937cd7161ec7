"""Which settings make a run what it is, and which only say how it is carried out.

A field says so itself, in its `json_schema_extra`:

    batch_size: int = Field(default=64, json_schema_extra=knob())
    max_tokens: int = Field(default=512, json_schema_extra=knob("reward.too_long"))
    too_long: TooLong = Field(default="refuse", json_schema_extra=ADDED)
"""

from collections.abc import Callable
from typing import Any

from pydantic.fields import FieldInfo

from backflip.config.base import Settings

ADDED: dict[str, Any] = {"added": True}
"""Of a field that runs are named without while it has its default: it came after they began."""


def knob(*refusing: str) -> dict[str, Any]:
    """Of a field that may change while a run goes on: nothing that was done depends on it.

    Args:
        refusing: keys of the whole settings. A limit is such a field only as long as each of them
            says "refuse": then what is done is the same at any limit that lets it be done.
    """
    return {"knob": list(refusing)}


def made_of(settings: Settings) -> dict[str, Any]:
    """The settings without knobs, as JSON can hold them: equal for settings of one run."""
    return _without(settings, lambda field, _: _is_knob(field, settings))


def named_by(settings: Settings) -> dict[str, Any]:
    """The settings without fields that were added later and have their default."""
    return _without(
        settings, lambda field, value: _extra(field, "added") and value == field.default
    )


def _without(
    settings: Settings, left_out: Callable[[FieldInfo, Any], bool | None]
) -> dict[str, Any]:
    kept = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if left_out(field, value):
            kept.pop(name, None)
        elif isinstance(value, Settings):
            kept[name] = _without(value, left_out)
    return kept


def _is_knob(field: FieldInfo, whole: Settings) -> bool:
    refusing = _extra(field, "knob")
    return refusing is not None and all(_value(whole, key) == "refuse" for key in refusing)


def _extra(field: FieldInfo, name: str) -> Any:
    extra: Any = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None  # pyright: ignore


def _value(settings: Any, key: str) -> Any:
    for name in key.split("."):
        # Where a section is not there, nothing in it is too long.
        settings = "refuse" if settings is None else getattr(settings, name, "refuse")
    return settings

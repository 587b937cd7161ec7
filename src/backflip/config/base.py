"""Strict settings: frozen, and an unknown key is an error that names the nearest known one."""

import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from backflip.config.faults import admits_none, explain_all
from backflip.errors import SettingsError

NONE = "none"
"""How TOML, which has no word for it, says that an optional setting is off."""


class Settings(BaseModel):
    """Base of all settings. What is not a field is refused; nothing changes after creation.

    The text "none" switches a setting off that may be None, whatever its default is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = cast("dict[str, Any]", data)
        optional = {name for name, f in cls.model_fields.items() if admits_none(f.annotation)}
        return {k: None if k in optional and v == NONE else v for k, v in given.items()}

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, where: str = "settings") -> Self:
        """Validate `data`; every fault becomes one line of a `SettingsError`."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise SettingsError(explain_all(cls, error.errors()), where=where) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a fault in it is a `SettingsError` with its line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError("no such file", where=str(path)) from None
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"not valid TOML: {error}", where=str(path)) from None


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Lay `key.path=value` strings over nested settings; later ones win.

    A value is read as TOML (`3`, `0.5`, `true`, `["a"]`) and, where it is not TOML, as a string:
    `model.name=my-folder` needs no quotes. `none` switches an optional setting off; a later
    `key.path` below one that is off switches it on again.

    Raises:
        SettingsError: an override without "=", or a path that leads through a plain value.
    """
    merged = _copy(data)
    for override in overrides:
        path, sign, raw = override.partition("=")
        if not sign or not path.strip():
            raise SettingsError(f"{override!r} is not of the form key.path=value")
        *parents, last = path.strip().split(".")
        target = merged
        for part in parents:
            below = target.setdefault(part, {})
            if below == NONE:
                below = target[part] = {}
            if not isinstance(below, dict):
                raise SettingsError(f"{path.strip()!r} leads through a value that has no keys")
            target = cast("dict[str, Any]", below)
        target[last] = _parse_value(raw)
    return merged


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested settings over others, key by key; a list replaces a list.

    Settings of another `type` replace the old ones whole: their keys are not of the same kind.
    """
    if "type" in over and over["type"] != base.get("type"):
        return _copy(over)
    merged = _copy(base)
    for key, value in over.items():
        below = merged.get(key)
        if not isinstance(value, Mapping):
            merged[key] = value
        elif isinstance(below, Mapping):
            merged[key] = merge(cast("_Nested", below), cast("_Nested", value))
        else:
            merged[key] = _copy(cast("_Nested", value))
    return merged


_Nested = Mapping[str, Any]


def _copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(cast("_Nested", v)) if isinstance(v, Mapping) else v for k, v in data.items()}


def _parse_value(raw: str) -> Any:
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
    # No setting is a date: what looks like one is a name.
    return raw.strip() if isinstance(value, date | time) else value

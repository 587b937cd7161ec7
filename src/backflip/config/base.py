"""Strict settings: frozen, and an unknown key is an error that names the nearest known one."""

import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from backflip.config.bounds import DEEPEST, depth
from backflip.config.validation_errors import LineOf, admits_none, explain_all, shortened
from backflip.errors import SettingsError

_MOST_BYTES = 10**7
_MOST_LINES = 1000
"""In which a setting is looked for."""
_TOO_DEEP = f"tables and lists are more than {DEEPEST} deep"
NONE = "none"
"""How TOML, which has no word for it, says that an optional setting is off."""


class Settings(BaseModel):
    """Base of all settings. What is not a field is refused; nothing changes after creation.

    The text "none" switches a setting off that may be None, whatever its default is.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = cast("dict[str, Any]", data)
        optional = {name for name, f in cls.model_fields.items() if admits_none(f.annotation)}
        return {k: None if k in optional and v == NONE else v for k, v in given.items()}

    @classmethod
    def parse(
        cls, data: Mapping[str, Any], *, where: str = "settings", line_of: LineOf | None = None
    ) -> Self:
        """Validate `data`; every fault becomes a part of a `SettingsError`, with its line."""
        _check_depth(data, where)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise SettingsError(explain_all(cls, error.errors(), line_of), where=where) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a fault in it is a `SettingsError` with its line."""
    where = shortened(str(path), 300)
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError("no such file", where=where) from None
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", where=where) from None
    except ValueError as error:  # a NUL in the path
        raise SettingsError(f"cannot be read: {error}", where=where) from None
    if len(raw) > _MOST_BYTES:
        raise SettingsError(f"has more than {_MOST_BYTES // 10**6} MB", where=where)
    try:
        # Some editors begin a file with a mark that says how its characters are written.
        data = tomllib.loads(raw.decode("utf-8-sig"))
    except RecursionError:
        raise SettingsError(_TOO_DEEP, where=where) from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SettingsError(
            f"not valid TOML: it is not UTF-8 text (at line {line})",
            where=where,
            hint="Save the file as UTF-8.",
        ) from None
    except ValueError as error:  # of TOML itself, and of a whole number of thousands of digits
        raise SettingsError(f"not valid TOML: {shortened(str(error), 200)}", where=where) from None
    _check_depth(data, where)
    return data


def lines_of(path: Path, overrides: Sequence[str] = ()) -> LineOf:
    """What tells on which line of a TOML file a setting stands, unless an override has it."""
    given = [override.partition("=")[0].strip().split(".") for override in overrides]

    def line_of(keys: Sequence[str]) -> int | None:
        if any(keys[: len(each)] == each for each in given):
            return None
        text = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        return _first_line(text[:_MOST_LINES], keys)

    return line_of


def _first_line(lines: Sequence[str], keys: Sequence[str]) -> int | None:
    """The line after the longest beginning that is whole and in which the setting is not."""
    before = 0
    for number in range(1, len(lines) + 1):
        try:
            data: Any = tomllib.loads("".join(lines[:number]))
        except ValueError:
            continue  # in the middle of a value
        if _is_in(data, keys):
            return before + 1
        before = number
    return None


def _is_in(data: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        if isinstance(data, list):
            items = cast("list[Any]", data)
            data = dict(zip(map(str, range(len(items))), items, strict=True))
        if not isinstance(data, dict) or key not in data:
            return False
        data = cast("dict[str, Any]", data)[key]
    return True


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Lay `key.path=value` strings over nested settings; later ones win.

    A value is read as TOML (`3`, `0.5`, `true`, `["a"]`) and, where it is not TOML, as a string:
    `model.name=my-folder` needs no quotes. `none` switches an optional setting off; a later
    `key.path` below one that is off switches it on again.

    Raises:
        SettingsError: an override without "=", one that is too deep, or a path that leads through
            a plain value.
    """
    merged = _copy(data)
    for override in overrides:
        path, sign, raw = override.partition("=")
        if not sign or not path.strip():
            raise SettingsError(f"{shortened(override)!r} is not of the form key.path=value")
        *parents, last = path.strip().split(".")
        if len(parents) > DEEPEST:
            raise SettingsError(_TOO_DEEP, where=shortened(path.strip()))
        target = merged
        for part in parents:
            below = target.setdefault(part, {})
            if below == NONE:
                below = target[part] = {}
            if not isinstance(below, dict):
                raise SettingsError(
                    f"{shortened(path.strip())!r} leads through a value that has no keys"
                )
            target = cast("dict[str, Any]", below)
        target[last] = _parse_value(raw)
        _check_depth(target[last], shortened(path.strip()))
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


def _check_depth(data: Any, where: str) -> None:
    """Before anything walks through what somebody wrote."""
    if depth(data) <= DEEPEST:
        return
    tables = cast("_Nested", data if isinstance(data, Mapping) else {})
    deepest = max(tables, key=lambda key: depth(tables[key]), default="")
    name = f"{shortened(deepest)}: " if deepest else ""
    raise SettingsError(f"{name}{_TOO_DEEP}", where=where)


def _copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(cast("_Nested", v)) if isinstance(v, Mapping) else v for k, v in data.items()}


def _parse_value(raw: str) -> Any:
    try:
        found = tomllib.loads(f"value = {raw}")
    except RecursionError:
        raise SettingsError(_TOO_DEEP, where=shortened(raw)) from None
    except ValueError:
        return raw
    value = found.pop("value")
    if found:  # the text has lines that would be settings of their own
        return raw
    # No setting is a date: what looks like one is a name.
    return raw.strip() if isinstance(value, date | time) else value

"""Strict settings: frozen, and an unknown key is an error that names the nearest known one."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from backflip.errors import SettingsError


class Settings(BaseModel):
    """Base of all settings. What is not a field is refused; nothing changes after creation."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, where: str = "settings") -> Self:
        """Validate `data`; every fault becomes one line of a `SettingsError`."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            faults = [_explain(cls, fault) for fault in error.errors()]
            raise SettingsError("; ".join(faults), where=where) from None


def _explain(cls: type[BaseModel], fault: Any) -> str:
    path, beside = _walk(cls, [str(part) for part in fault["loc"]])
    key = ".".join(path)
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_nearest(path[-1], beside, path[:-1])}"
    if fault["type"] == "union_tag_invalid":
        known = [tag.strip(" '") for tag in fault["ctx"]["expected_tags"].split(",")]
        tag = str(fault["ctx"]["tag"])
        return f"{key}: unknown type {tag!r}; {_nearest(tag, known)}"
    what = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {what}" if key else what


def _nearest(name: str, known: Sequence[str], above: Sequence[str] = ()) -> str:
    """Advice for a name that is not known."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {'.'.join((*above, near[0]))!r}?"
    return f"known: {', '.join(known)}"


def _walk(cls: type[BaseModel], location: Sequence[str]) -> tuple[list[str], list[str]]:
    """A fault's place as a user writes it, and the keys that are known beside its last part.

    Pydantic puts the tag of a union between two keys, and an index between a list and its items;
    the tag, which nobody writes there, is left out.
    """
    known: type[BaseModel] | None = cls
    beside = list(cls.model_fields)
    path: list[str] = []
    for part in location:
        if known is not None and part in known.model_fields:
            beside = list(known.model_fields)
            known = _settings_in(known.model_fields[part].annotation, location)
        elif known is not None and part == _tag(known):
            continue
        elif known is not None and not part.isdigit():
            beside = list(known.model_fields)
        path.append(part)
    return path, beside


def _tag(cls: type[BaseModel]) -> Any:
    field = cls.model_fields.get("type")
    return None if field is None else field.default


def _settings_in(annotation: Any, path: Sequence[str]) -> type[BaseModel] | None:
    """The settings class inside an annotation; of a union's members, the one tagged in `path`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [s for s in (_settings_in(a, path) for a in get_args(annotation)) if s is not None]
    for candidate in found:
        if _tag(candidate) in path:
            return candidate
    return found[0] if found else None


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
    `model.name=my-folder` needs no quotes.

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

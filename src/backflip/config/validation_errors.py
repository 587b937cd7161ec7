"""What is wrong with a setting, in words, and at the place where a user wrote it."""

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

from pydantic import BaseModel

_LISTS = ("tuple_type", "list_type", "set_type", "frozen_set_type")
_TABLES = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
_PLAIN = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "string_type": "a text",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
}
_LIMITS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_LENGTHS = {"too_short": ("min_length", "at least"), "too_long": ("max_length", "at most")}
_MOST_TOLD = 20
_NEAR_LENGTH = 100


LineOf = Callable[[Sequence[str]], int | None]
"""On which line of its file the setting of a path stands; None where it is not from there."""


def explain_all(cls: type[BaseModel], faults: Sequence[Any], line_of: LineOf | None = None) -> str:
    """All faults in one line, or the first of very many, each with its line where that is known."""
    around = {fault["loc"][:end] for fault in faults for end in range(len(fault["loc"]))}
    # Items that were refused are missing from their list: that is no second fault.
    told = [f for f in faults if not (f["type"] == "too_short" and f["loc"] in around)]
    more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
    lines = [explain(cls, fault) + _at(cls, fault, line_of) for fault in told[:_MOST_TOLD]]
    return "; ".join([*lines, *more])


def _at(cls: type[BaseModel], fault: Any, line_of: LineOf | None) -> str:
    path, _, _ = _walk(cls, [str(part) for part in fault["loc"]])
    line = line_of(path) if line_of is not None and path else None
    return "" if line is None else f" (line {line})"


def shortened(text: str, most: int = 80) -> str:
    """The beginning of a text, where it is too long to be told."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def explain(cls: type[BaseModel], fault: Any) -> str:
    """One fault that pydantic found in data for `cls`, as a line for whoever wrote that data."""
    path, beside, annotation = _walk(cls, [str(part) for part in fault["loc"]])
    key = ".".join(_readable(part) for part in path)
    if fault["type"] == "extra_forbidden":
        above = [_readable(part) for part in path[:-1]]
        return f"unknown key {key!r}; {_nearest(path[-1], beside, above)}"
    if fault["type"] == "union_tag_invalid":
        known = [tag.strip(" '") for tag in fault["ctx"]["expected_tags"].split(",")]
        tag = str(fault["ctx"]["tag"])
        return f"{key}: unknown type {shortened(tag)!r}; {_nearest(tag, known)}"
    if fault["type"] == "missing":
        return f"{key}: is missing"
    wanted = _wanted(fault, key, annotation)
    if wanted is None:
        what = fault["msg"].removeprefix("Value error, ")
    else:
        off = ', or "none"' if admits_none(annotation) else ""
        what = f"should be {wanted}{off}, not {shortened(_as_written(fault['input']), 200)}"
    if fault["type"] == "string_type":
        what += "; quotes make it one"
    if fault["type"] == "literal_error":
        what += _near_choice(fault, annotation)
    return f"{key}: {what}" if key else what


def _readable(part: str) -> str:
    """A key in one line."""
    return shortened(part if part.isprintable() else repr(part)[1:-1])


def _wanted(fault: Any, key: str, annotation: Any) -> str | None:
    """What should stand there; None where pydantic's own words say it best."""
    kind, given, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _LIMITS:
        limit, words = _LIMITS[kind]
        return f"{words} {context[limit]}"
    if kind == "literal_error":
        return f"one of {context['expected']}"
    if kind == "string_pattern_mismatch":
        return f"a text like {context['pattern']}"
    if kind in _LISTS:
        known = isinstance(given, str | int | float)
        return "a list" + (f", as in [{shortened(_as_written(given))}]" if known else "")
    if kind in _TABLES:
        return f"a group of settings{_example(key, annotation)}"
    if kind in _LENGTHS:
        limit, words = _LENGTHS[kind]
        listed = "a group" if isinstance(given, dict) else "a list"
        return f"{listed} of {words} {context[limit]}"
    return None


def _near_choice(fault: Any, annotation: Any) -> str:
    known = [choice for choice in _choices(annotation) if isinstance(choice, str)]
    # Where the choices grow with what is loaded, no type lists them, and the fault does.
    near = _close(fault["input"], known or re.findall("'([^']+)'", fault["ctx"]["expected"]))
    return f"; did you mean {near!r}?" if near else ""


def _close(given: Any, known: Sequence[str]) -> str | None:
    """The known word that a given one was meant to be."""
    if not isinstance(given, str) or len(given) > _NEAR_LENGTH:
        return None  # to compare what is long takes long
    return next(iter(difflib.get_close_matches(given, known, n=1, cutoff=0.5)), None)


def _choices(annotation: Any) -> list[Any]:
    """The values that a Literal inside an annotation lists."""
    found: list[Any] = []
    for part in get_args(annotation):
        found += _choices(part) if get_args(part) else [part]
    return found


def _example(key: str, annotation: Any) -> str:
    """How a setting of the group at `key` is given."""
    inner = _settings_in(annotation, ())
    if inner is None:
        return ", as in {name = 1.0}"
    for name, field in inner.model_fields.items():
        if isinstance(field.default, str | int | float):
            value = _as_written(field.default)
            if key.rpartition(".")[2].isdigit():  # an override cannot name an item of a list
                return f", as in {{{name} = {value}}}"
            return f", as in {key}.{name}={value.strip(chr(39))}"
    return ""


def _as_written(value: Any) -> str:
    """A value as a recipe has it."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return repr(value)
    except ValueError:  # of thousands of digits
        return "a whole number of thousands of digits"


def admits_none(annotation: Any) -> bool:
    """Whether a setting of this type may be None."""
    return type(None) in get_args(annotation)


def _nearest(name: str, known: Sequence[str], above: Sequence[str] = ()) -> str:
    """Advice for a name that is not known."""
    if near := _close(name, known):
        return f"did you mean {'.'.join((*above, near))!r}?"
    return f"known: {', '.join(known)}"


def _walk(cls: type[BaseModel], location: Sequence[str]) -> tuple[list[str], list[str], Any]:
    """A fault's place as a user writes it, the keys that are known beside its last part, and the
    type of the last setting on the way.

    Pydantic puts the tag of a union between two keys, and an index between a list and its items;
    the tag, which nobody writes there, is left out.
    """
    known: type[BaseModel] | None = cls
    beside = list(cls.model_fields)
    path: list[str] = []
    annotation: Any = None
    for part in location:
        if known is not None and part in known.model_fields:
            beside = list(known.model_fields)
            annotation = known.model_fields[part].annotation
            known = _settings_in(annotation, location)
        elif (known is not None and part == _tag(known)) or part == "[key]":
            continue
        else:
            if known is not None and not part.isdigit():
                beside = list(known.model_fields)
            annotation = _item(annotation)
        path.append(part)
    return path, beside, annotation


def _item(annotation: Any) -> Any:
    """The type of what a list or a table holds."""
    inner = [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    return inner[-1] if inner else None


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

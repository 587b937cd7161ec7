"""What may be kept: whole characters, numbers in range, and nothing nested without end.

Whatever enters the workspace passes here, be it typed, uploaded, drawn by a model or said by a
program. What has passed can be stored in both databases, shown on every page and written to every
kind of file; what has not is refused in words, as a `ValueError`. What is in the workspace already
is read without asking again.
"""

import math
from typing import Any, cast

MAX_BYTES = 1_000_000
"""Of all texts of one record together, in UTF-8."""
MAX_DEPTH = 64
"""Levels of a JSON value in a file or a request."""
KEPT_DEPTH = 48
"""Levels of a JSON value in a record: a row of a file holds it within others."""
MAX_NAME = 500
"""Characters of a name: PostgreSQL keeps no longer ones in an index."""
INTEGERS = range(-(2**63), 2**63)
"""What an integer column holds."""
JSON_INTEGERS = range(-(2**63), 2**64)  # ids and hashes of other programs may be unsigned
_HALF = "half a surrogate pair, which is no character"
_NUL = "a NUL character, which cannot be stored"


def check_text(text: str) -> int:
    """The number of a text's bytes; a `ValueError` in words for one that cannot be stored."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError(f"holds {_HALF}") from None
    if "\0" in text:
        raise ValueError(f"holds {_NUL}")
    return size


def whole_text(text: str) -> str:
    """The text with a sign in place of what cannot be stored; for texts that nobody can mend."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def whole_json(value: Any) -> Any:
    """A JSON value of few levels that was stored as it came, as it can be sent: its texts whole,
    and null for what is no number.
    """
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict):
        fields = cast(dict[str, Any], value)
        return {whole_text(name): whole_json(inner) for name, inner in fields.items()}
    if isinstance(value, list | tuple):
        return [whole_json(inner) for inner in cast(list[Any], value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_name(name: Any) -> str:
    """A name that can be shown and looked up; a `ValueError` in words for any other."""
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError("is empty or holds control characters")
    if len(name) > MAX_NAME:
        raise ValueError(f"is longer than {MAX_NAME} characters")
    return name


def check_integer(value: Any) -> int:
    """An integer of 64 bits; a `ValueError` in words for anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("is not a whole number")
    if value not in INTEGERS:
        raise ValueError("is an integer of more than 64 bits")
    return value


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON from its fields; a `ValueError` in words where one is there twice: nobody
    can tell which of them counts.
    """
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{_field(twice)}is there twice")
    return data


def check_json(
    value: Any,
    *,
    depth: int = MAX_DEPTH,
    max_bytes: int | None = MAX_BYTES,
    columns: bool = False,
    integers: range = JSON_INTEGERS,
) -> int:
    """Walk a JSON value.

    Args:
        value: of dictionaries, lists, tuples, texts, numbers, true, false and null.
        depth: levels that it may have; a number has none.
        max_bytes: of its texts together, in UTF-8; None for no limit.
        columns: it comes from a file of columns, which hold dates, bytes and NaN as well.
        integers: those that it may hold.

    Returns:
        The number of bytes of its texts, those of its keys included.

    Raises:
        ValueError: what it holds cannot be stored; the field is named in which it stands.
    """
    size = 0
    pending: list[tuple[Any, int, str | None]] = [(value, 0, None)]
    while pending:
        value, level, name = pending.pop()
        if isinstance(value, dict):
            fields = cast(dict[Any, Any], value)
            size += sum(_key(key, name) for key in fields)
            pending += ((inner, level + 1, key) for key, inner in fields.items())
        elif isinstance(value, list | tuple):
            pending += ((inner, level + 1, name) for inner in cast(list[Any], value))
        elif isinstance(value, str):
            size += _named(check_text, value, name)
        elif fault := _number_fault(value, columns, integers):
            raise ValueError(f"{_field(name)}{fault}")
        if level > depth:
            raise ValueError(f"{_field(name)}is nested deeper than {depth} levels")
        if max_bytes is not None and size > max_bytes:
            raise ValueError(f"is longer than {max_bytes:,} bytes")
    return size


def _key(key: Any, name: str | None) -> int:
    if not isinstance(key, str):
        raise ValueError(f"{_field(name)}has a field whose name is not a text")
    return _named(check_text, key, name)


def _number_fault(value: Any, columns: bool, integers: range) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if value in integers else "is an integer of more than 64 bits"
    if columns:
        return None
    if not isinstance(value, float):
        return f"is {type(value).__name__}, which is not JSON"
    return None if math.isfinite(value) else f"is {value}, which is no finite number"


def _named(check: Any, value: Any, name: str | None) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{_field(name)}{error}") from None


def _field(name: str | None) -> str:
    if name is None:
        return ""
    shown = name.encode("ascii", "backslashreplace").decode()
    return f"field {shown if len(shown) <= 40 else shown[:40] + '...'!r} "

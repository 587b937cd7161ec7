"""What a row of a file is, where it stands, and which rows are taken at all."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from backflip.data.fields import Unreadable, without_nulls
from backflip.errors import FormatError
from backflip.records.door import MAX_BYTES, MAX_DEPTH, check_json, named_once

MAX_ROW_BYTES = MAX_BYTES
MAX_WIDE_BYTES = 128 * MAX_BYTES
"""Of a row of columns that holds a whole entry: nine texts and their prompts, escaped as JSON."""
TOO_LONG = f"the row is longer than {MAX_ROW_BYTES:,} bytes"


@dataclass(frozen=True)
class Row:
    """One row: `line` is its line in a text file, else its number in the file, from 1.

    No field of `data` holds null: a field that does is absent. One of a file of columns may hold an
    `Unreadable`, of which `Fields` tells who asks for it.
    """

    file: str
    line: int
    data: dict[str, Any]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Rejected:
    """A row that was not taken, where it stands and why."""

    file: str
    line: int
    reason: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


OnRejected = Callable[[Rejected], None]


def stop_at_rejected(rejected: Rejected) -> NoReturn:
    """What readers do with a bad row unless told otherwise: a `FormatError` naming it."""
    raise FormatError(
        rejected.reason,
        where=rejected.place,
        hint="Mend it, or take it out: a file with a bad row is not used, so that none is lost "
        "unseen.",
    )


def parse_row(file: str, line: int, raw: bytes) -> Row | Rejected:
    """The row that a piece of JSON text holds."""
    try:
        data = _load(decode(raw))
    except ValueError as error:
        return Rejected(file, line, str(error))
    return check_row(file, line, data)


def decode(raw: bytes) -> str:
    """UTF-8 text; a `ValueError` in words for other bytes."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not valid UTF-8 at byte {error.start}") from None


def parse_json(text: str) -> Any:
    """A JSON value that stands in a field as text; it is no less exact than what stands around it.

    Raises:
        ValueError: in words, for what is no JSON, names a field twice, or cannot be stored, as
            `check_json` says.
    """
    value = _load(text)
    check_json(value, max_bytes=None)  # it is no longer than the row around it
    return value


def _load(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=named_once)
    except RecursionError:
        raise ValueError(f"not valid JSON: nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError(f"not valid JSON: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def check_row(
    file: str, line: int, data: Any, *, columns: bool = False, max_bytes: int = MAX_ROW_BYTES
) -> Row | Rejected:
    """The row, if it is an object, and can be stored as `check_json` says.

    Args:
        file: it stands in.
        line: of it.
        data: what stands there.
        columns: the file is one of columns.
        max_bytes: of its texts together.
    """
    if not isinstance(data, dict):
        return Rejected(file, line, f"not an object with named fields but {_name(data)}")
    try:
        size = check_json(data, max_bytes=None, columns=columns)
    except ValueError as error:
        return Rejected(file, line, str(error))
    return _short_row(file, line, data, size, max_bytes)


def column_row(
    file: str, line: int, data: dict[str, Any], *, max_bytes: int = MAX_ROW_BYTES
) -> Row | Rejected:
    """The row of a file of columns, with an `Unreadable` for what a column holds and none may.

    Args:
        file: it stands in.
        line: its number.
        data: its values by their columns.
        max_bytes: of its texts together.
    """
    held: dict[str, Any] = {}
    size = 0
    for name, value in data.items():
        try:
            size += check_json({name: value}, max_bytes=None, columns=True)
            held[name] = value
        except ValueError as error:
            held[name] = Unreadable(str(error))
    return _short_row(file, line, held, size, max_bytes)


def _short_row(
    file: str, line: int, data: dict[str, Any], size: int, max_bytes: int
) -> Row | Rejected:
    if size > max_bytes:
        return Rejected(file, line, f"the row is longer than {max_bytes:,} bytes")
    return Row(file, line, without_nulls(data))


def _name(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")

"""An object from a file: its fields, and which of them were read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unreadable:
    """What a row has in a column whose value cannot be read or kept; `why` says so in words.

    It counts only where somebody asks for the column.
    """

    why: str


class Fields(Mapping[str, Any]):
    """The fields of an object; one that holds null is absent.

    Keeps which fields were read, so that the others can be told: what a column says is never
    passed over unseen. To ask whether a field is there (`name in fields`) is not to read it.
    """

    def __init__(self, data: Mapping[str, Any]):
        self._data = without_nulls(data)
        self._read: set[str] = set()
        self._nested: list[tuple[str, Fields]] = []

    def __getitem__(self, name: str) -> Any:
        """What a field holds; a `ValueError` in words where that cannot be read."""
        value = self._data[name]
        self._read.add(name)
        if isinstance(value, Unreadable):
            raise ValueError(value.why)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def nested(self, name: str, value: Any, what: str) -> "Fields":
        """An object within a field, whose own unread fields are told as `name.field`.

        Raises:
            ValueError: it is not an object; `what` says in words which one.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"{what} is missing or not an object")
        fields = Fields(value)
        self._nested.append((name, fields))
        return fields

    def peek(self, name: str) -> Any:
        """What a field holds, without reading it, an `Unreadable` too; None where it is absent."""
        return self._data.get(name)

    def leave(self, *names: str) -> None:
        """Count fields as read that say nothing about what a row means."""
        self._read.update(names)

    @property
    def unread(self) -> set[str]:
        """Names of the fields that were not read, those within others included."""
        inner = {f"{name}.{field}" for name, part in self._nested for field in part.unread}
        return (set(self._data) - self._read) | inner


def without_nulls(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an object that do not hold null: one that does is absent."""
    return {name: value for name, value in data.items() if value is not None}


def text_field(data: Mapping[str, Any], name: str) -> str:
    """A field that must hold a text with something in it."""
    if name not in data:
        raise ValueError(f"field {name!r} is missing")
    return text_in(data[name], f"field {name!r}")


def text_in(value: Any, what: str) -> str:
    """A value that must be a text with something in it; `what` says in words which one."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is not a text")
    if not value.strip():
        raise ValueError(f"{what} is empty")
    return value

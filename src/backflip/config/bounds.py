"""The types that settings are made of: each admits only what can be worked with.

A number is finite and of a size that can be counted to, a text can be kept by both databases and be
written in TOML, a path can be asked for:

    clip: Positive = Field(default=0.2, description="...")
    rounds: Count = Field(default=2, description="...")
    heldout: Share = Field(default=0.15, gt=0, lt=1, description="...")  # narrower than its type
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Field, JsonValue
from pydantic_core import PydanticKnownError

from backflip.errors import without_passwords

MOST = 10**9
"""No number of a setting is larger, but for seeds. Products of a few are numbers still, in float32
too, and whole ones fit into the 64 bits that tensors and databases have."""
LONGEST = 10_000
"""Characters of a text."""
DEEPEST = 32
"""Tables and lists inside each other."""
_PATH_BYTES, _NAME_BYTES = 4095, 255  # of Linux; macOS and Windows take less and say so themselves


@dataclass(frozen=True)
class Within:
    """Refuses numbers outside of two limits, beside the limits that a field has of its own.

    Not by the library's constraints, of which a field has one of each kind: those of its type would
    take the place of its own.
    """

    low: int
    high: int
    above: bool = False
    """Whether `low` itself is refused."""

    def __call__(self, value: float) -> float:
        if self.above and value <= self.low:
            raise PydanticKnownError("greater_than", {"gt": self.low})
        if value < self.low:
            raise PydanticKnownError("greater_than_equal", {"ge": self.low})
        if value > self.high:
            raise PydanticKnownError("less_than_equal", {"le": self.high})
        return value


_FINITE = AllowInfNan(False)
Finite = Annotated[float, _FINITE, AfterValidator(Within(-MOST, MOST))]
Positive = Annotated[float, _FINITE, AfterValidator(Within(0, MOST, above=True))]
NotNegative = Annotated[float, _FINITE, AfterValidator(Within(0, MOST))]
Share = Annotated[float, _FINITE, AfterValidator(Within(0, 1))]
Seconds = Annotated[float, _FINITE, AfterValidator(Within(0, 1_000_000, above=True))]
"""To wait; eleven days at most, since a system's clocks overflow."""
Count = Annotated[int, AfterValidator(Within(1, MOST))]
Number = Annotated[int, AfterValidator(Within(0, MOST))]
Seed = Annotated[int, AfterValidator(Within(0, 2**63 - 1))]


def _keepable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds the character NUL, which no database keeps")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("holds half a character: it is not UTF-8")
    return text


def at_most(length: int) -> BeforeValidator:
    """No more characters of a text than this."""

    def check(text: Any) -> Any:
        # Not as a bound on the field: that would refuse half characters first, in odd words.
        if isinstance(text, str) and len(text) > length:
            raise ValueError(f"should have at most {length} characters, not {len(text)}")
        return text

    return BeforeValidator(check)


def _named(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError(f"{text!r} is empty or holds control characters")
    return text


def _findable(path: str) -> str:
    if not path:
        raise ValueError("is empty")
    longest = max(len(part) for part in path.encode().split(b"/"))
    if len(path.encode()) > _PATH_BYTES or longest > _NAME_BYTES:
        raise ValueError(f"no file or folder has a name of {longest} bytes")
    return path


def _web_address(address: str) -> str:
    try:
        found = urlsplit(address)
        port = found.port
    except ValueError:
        found, port = urlsplit(""), None
    if (
        found.scheme not in ("http", "https")
        or not found.hostname
        or port == 0
        or re.search(r"\s", address)
    ):
        told = without_passwords(address)
        raise ValueError(f"{told!r} is not an http address: it should be like https://host/path")
    return address


Text = Annotated[str, at_most(LONGEST), AfterValidator(_keepable)]
"""Any text that can be kept."""
Name = Annotated[str, at_most(200), AfterValidator(_keepable), AfterValidator(_named)]
"""What people read in one line."""
Place = Annotated[str, at_most(LONGEST), AfterValidator(_keepable), AfterValidator(_findable)]
"""A file, a folder, or something else that is looked for by its name."""
Places = Annotated[tuple[Place, ...], Field(max_length=10_000)]
Url = Annotated[str, at_most(2000), AfterValidator(_keepable), AfterValidator(_web_address)]
Variable = Annotated[str, at_most(200), Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


def _whole(value: dict[str, Any]) -> dict[str, Any]:
    """Free values, held to what the types above hold named ones to."""
    if depth(value) > DEEPEST:
        raise ValueError(f"tables and lists are more than {DEEPEST} deep")
    for each in _leaves(value):
        if each is None:
            raise ValueError("holds null, for which TOML has no word; leave it out")
        if isinstance(each, str):
            _keepable(each)
            if len(each) > LONGEST:
                raise ValueError(f"holds a text of more than {LONGEST} characters")
        elif isinstance(each, float) and not math.isfinite(each):
            raise ValueError(f"holds {each}, which is no finite number")
        elif isinstance(each, int) and abs(each) >= 2**63:
            raise ValueError("holds a whole number of more than 64 bits")
    return value


def _inside(value: Any) -> list[Any]:
    """What a table, its keys among it, or a list holds; nothing of any other value."""
    if isinstance(value, dict):
        table = cast("dict[Any, Any]", value)
        return [*table.keys(), *table.values()]
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else []


def _leaves(value: Any) -> Iterator[Any]:
    inside = _inside(value)
    if not inside and not isinstance(value, dict | list | tuple):
        yield value
    for each in inside:
        yield from _leaves(each)


def depth(value: Any) -> int:
    """How many tables and lists are inside each other, as far as one more than `DEEPEST`."""
    layer, deep = [value], 0
    while deep <= DEEPEST:
        layer = [each for one in layer for each in _inside(one)]
        if not layer:
            break
        deep += 1
    return deep


Variables = Annotated[dict[str, JsonValue], Field(max_length=1000), AfterValidator(_whole)]
"""Values that are handed on and that only their reader knows."""

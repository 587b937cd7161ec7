"""No setting admits what cannot be worked with: every field of every class of settings is walked.

A new setting whose type is wider than those of `config.bounds` fails here.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, Field, JsonValue

import backflip.loop.recipe  # brings in all settings  # noqa: F401
from backflip.config import Settings
from backflip.config.bounds import (
    Count,
    Finite,
    Name,
    NotNegative,
    Number,
    Place,
    Positive,
    Seconds,
    Seed,
    Share,
    Text,
    Url,
    Variable,
    Variables,
    depth,
)
from backflip.errors import SettingsError

HUGE = "9" * 400
HALF = "half \ud83d"
NUMBERS = [math.inf, -math.inf, math.nan, 1e300, -1e300, 10**20, -(10**20), int(HUGE)]
TEXTS = ["x" * 10_001, "a\0b", HALF]
MAY_END_WITH_HALF = {("SamplingSettings", "stop")}
"""A reply is text that a model made, and where it stops may be any of that."""


def below(cls: type[Settings]) -> Iterator[type[Settings]]:
    for inner in cls.__subclasses__():
        if inner.__module__.startswith("backflip."):
            yield inner
        yield from below(inner)


CLASSES = sorted(set(below(Settings)), key=lambda cls: cls.__name__)
FIELDS = [(cls, name) for cls in CLASSES for name in cls.model_fields]


def refused_by(annotation: Any) -> Iterator[Any]:
    """Values that a setting of a type must not have, whatever its limits are."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from refused_by(inner[0])
    elif origin is tuple:
        for bad in refused_by(inner[0]):
            yield [bad]
        yield [1] * 20_000
    elif origin is dict:
        yield {f"k{i}": 1 for i in range(20_000)}
        yield from ({"overall": bad} for bad in refused_by(inner[1]))
        yield {"a\0b": 1}
    elif annotation in (float, int):
        yield from NUMBERS
    elif annotation is str:
        yield from TEXTS
    elif annotation == JsonValue or repr(annotation) == repr(JsonValue):
        yield from (math.nan, [1, {"a": math.inf}], "a\0b", {HALF: 1}, 2**64, None)
        yield nested(100)
    elif origin is Literal or annotation is bool:
        yield "neither"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield {"no such key": 1}  # it has its own walk
    elif annotation is not type(None):
        members = [part for part in inner if part is not type(None)]
        assert origin is Union or "Union" in str(origin), f"a type without a rule: {annotation}"
        if not all(isinstance(part, type) and issubclass(part, BaseModel) for part in members):
            (only,) = members
            yield from refused_by(only)


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda each: getattr(each, "__name__", each))
def test_every_setting_refuses_what_cannot_be_worked_with(cls: type[Settings], name: str) -> None:
    for bad in refused_by(cls.model_fields[name].annotation):
        if bad == [HALF] and (cls.__name__, name) in MAY_END_WITH_HALF:
            continue
        with pytest.raises(SettingsError, match=name) as caught:
            cls.parse({name: bad})
        assert len(str(caught.value)) < 6000, "what is too long is not told in full"


@pytest.mark.parametrize(
    ("of", "taken", "refused"),
    [
        (Finite, [-1e9, 0, 1e9], [1.1e9, -1.1e9]),
        (Positive, [5e-324, 1e9], [0, -1.0, 1.1e9]),
        (NotNegative, [0, 1e9], [-5e-324, 1.1e9]),
        (Share, [0, 0.5, 1], [-1e-9, 1 + 1e-9]),
        (Seconds, [1e-3, 1e6], [0, 1.1e6]),
        (Count, [1, 10**9], [0, 10**9 + 1]),
        (Number, [0, 10**9], [-1, 10**9 + 1]),
        (Seed, [0, 2**63 - 1], [-1, 2**63]),
        (Text, ["", "\n\x7f\u202e", "é" * 10_000], TEXTS),
        (Name, ["a b", "naïve 名"], ["", "a\nb", "\x9b", "x" * 201]),
        (Place, ["builtin:everyday", "a/" * 2000 + "b", "é" * 127], ["", "é" * 128, "a/" * 2050]),
        (Url, ["http://[::1]:8000/v1", "https://a"], ["ftp://a", "a", "http://", "http://[", ""]),
        (Variable, ["OPENAI_API_KEY", "_a1"], ["", "A=B", "1A", "A\n", "a b"]),
        (Variables, [{}, {"a": [1, {"b": "c"}]}], [{"a": None}, {"a": {"b": [math.nan]}}]),
    ],
)
def test_each_type_ends_where_it_says(of: Any, taken: list[Any], refused: list[Any]) -> None:
    class One(Settings):
        it: of

    for value in taken:
        assert One.parse({"it": value}).it == value
    for value in refused:
        with pytest.raises(SettingsError, match=r"^here: it"):
            One.parse({"it": value}, where="here")


def test_a_setting_can_be_narrower_than_its_type_and_not_wider() -> None:
    class Narrow(Settings):
        layers: Count = Field(default=4, ge=2, le=8)
        wide: Count | None = Field(default=4, ge=-5, le=10**12)

    for layers in (0, 1, 9, 10**10):
        with pytest.raises(SettingsError, match="layers: should be at"):
            Narrow.parse({"layers": layers})
    for wide in (0, -1, 10**10):
        with pytest.raises(SettingsError, match="wide: should be at"):
            Narrow.parse({"wide": wide})
    assert Narrow.parse({"layers": 2, "wide": "none"}) == Narrow(layers=2, wide=None)


def test_depth_is_counted_without_going_deeper_than_it_must() -> None:
    assert [depth(nested(levels)) for levels in (0, 1, 31, 32, 100_000)] == [0, 1, 31, 32, 33]
    assert depth({"a": 1}) == 1
    assert depth([[1], [[2]]]) == 3

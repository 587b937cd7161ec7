"""Any line over any setting, and any file: read or told in words that name it, never a fault.

`BACKFLIP_FUZZ_SECONDS` has them run for longer than they do in the suite, each from its seed.
"""

import math
import random
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

import fuzzing
from backflip.algorithms import ALGORITHMS
from backflip.cli.toml import to_toml
from backflip.config import Settings
from backflip.errors import SettingsError
from backflip.loop import Recipe, load_recipe, shipped_recipes
from backflip.plain_text import clean_text

SECONDS = fuzzing.SECONDS or 2
LEAST = 200
BASES = ["demo", *(f"demo algorithm={name}" for name in sorted(ALGORITHMS))]
VALUES = (
    "inf", "-inf", "nan", "1e400", "-1e308", "0", "-1", "1e-320", "9" * 30, "9" * 5000, "0x10",
    "true", "none", '"none"', '""', "", " ", "=", "''", '"', "[", "]", "{", "[]", "{}", "[[]]",
    "[" * 3000, "{a=" * 3000, "[1, [2, {a = nan}]]", "{a = {b = [inf]}}", "[1, 'x', {}]",
    "2024-01-01", "07:00:00", "x" * 5000, '"\\u0000"', '"\\ud800"', '"\\U0010ffff"', "é", "\u202e",
    "\x9b2J", "a\nb", "1\nseed = 2", "\r", "\t", "'a\tb'", "ftp://host/x", "http://", "file:///etc",
    "/" * 5000, "a/" * 3000, "../..", "~", "env:", "builtin:", "[true]", "['a', 'a']", "1.5", "3",
    '{type = "dpo"}', '{type = ["x"]}', "{type = 3}", "0.5", "[0.1, 0.2, 0.3, 0.4]", "1_000",
)  # fmt: skip


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in get_args(annotation) for m in models_in(part)]


def paths(cls: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every setting that a line can name."""
    for name, field in cls.model_fields.items():
        yield f"{above}{name}"
        for inner in models_in(field.annotation):
            yield from paths(inner, f"{above}{name}.")


PATHS = sorted(set(paths(Recipe)))


def told_or_read(source: str | Path, lines: list[str], names: list[str]) -> bool:
    """Whether settings were read; where not, what is told names one of `names`."""
    try:
        recipe = load_recipe(source, lines)
    except SettingsError as error:
        told = str(error)
        # A rule of the whole names the setting to change, which may be another one.
        assert any(name in told for name in (*names, *PATHS)), (lines, told)
        assert len(told) < 20_000, lines
        told.encode()
        return False
    written = to_toml(recipe.model_dump(mode="json"))
    assert clean_text(written) == written
    assert Recipe.parse(tomllib.loads(written)) == recipe, lines
    return True


def test_any_line_over_any_setting_is_read_or_told() -> None:
    draw = random.Random(8)
    read = refused = 0
    for number in fuzzing.seeds(LEAST, SECONDS):
        path = PATHS[number % len(PATHS)] if number < 2 * len(PATHS) else draw.choice(PATHS)
        match draw.randrange(12):
            case 0:
                path += "." + draw.choice(["x", "type", "0", "a" * 3000, "b." * 2000, "", "\u202e"])
            case 1:
                path = draw.choice(["", " ", ".", "..", path + "x", path.upper(), "a" * 5000])
        value = draw.choice(VALUES)
        if draw.random() < 0.2:
            value = "".join(draw.choices(string.printable + "\u00e9\u202e\ud800", k=20))
        base, *lines = draw.choice(BASES).split()
        last = next((part for part in reversed(path.split(".")) if part), "")
        names = [last[:40], path[:40], "key.path=value", "deep", "leads through"]
        if told_or_read(base, [*lines, f"{path}={value}"], names):
            read += 1
        else:
            refused += 1
    assert read > 10
    assert refused > 30


def test_any_file_is_read_or_told(tmp_path: Path) -> None:
    draw = random.Random(9)
    sources = [path.read_bytes() for path in shipped_recipes().values()]
    pieces = [b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"[", b"]]", b"{", b'"""', b"'''", b"\r", b"="]
    pieces += [b"base = 'demo'\n", b"base = 3\n", b"base = 'r.toml'\n", b"a." * 3000, b"[" * 3000]
    pieces += [b"x = 1\n", b"9" * 5000, b"inf", b"\xc3\xa9", b"\xed\xa0\x80", b"[[feedback]]\n"]
    path = tmp_path / "r.toml"
    read = 0
    for _ in fuzzing.seeds(LEAST, SECONDS):
        raw = draw.choice(sources)
        for _ in range(draw.randrange(4)):
            at, to = sorted(draw.choices(range(len(raw) + 1), k=2))
            match draw.randrange(4):
                case 0:
                    raw = raw[:at] + draw.choice(pieces) + raw[at:]
                case 1:
                    raw = raw[:at] + raw[min(to, at + 20) :]
                case 2:
                    raw = raw[:at]
                case 3 if at < len(raw):
                    raw = raw[:at] + bytes([raw[at] ^ (1 << draw.randrange(8))]) + raw[at + 1 :]
        path.write_bytes(raw)
        read += told_or_read(path, [], ["r.toml", "demo"])
    assert read > 5


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_a_mark_before_a_file_is_none_of_it(mark: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(mark + b'name = "x"\r\nseed = 3\r\n')
    assert load_recipe(tmp_path / "r.toml").seed == 3


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(0, 20) | st.integers(-1, 2**63),
    float: st.floats(0, 1) | st.floats(-1e9, 1e9) | st.integers(0, 5).map(float),
    str: TEXTS | st.sampled_from(["http://a/b", "A_B", "overall", "2024-01-02", "none", "a.b-c"]),
}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that a setting of a type may have; some of them it refuses."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in LEAVES:
        return LEAVES[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return tables_of(annotation)
    if annotation is type(None):
        return st.none()
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values_of(inner[0]), max_size=2)
    if origin is tuple:
        return st.tuples(*map(values_of, inner)).map(list)
    if origin is dict:
        free = st.recursive(
            st.one_of(*LEAVES.values()),
            lambda of: st.lists(of, max_size=2) | st.dictionaries(TEXTS, of, max_size=2),
            max_leaves=4,
        )
        return st.dictionaries(TEXTS, LEAVES[float] if inner[1] is float else free, max_size=2)
    if hasattr(annotation, "__metadata__"):
        return values_of(inner[0])
    return st.one_of(*map(values_of, inner))


def tables_of(cls: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        name: values_of(field.annotation)
        for name, field in cls.model_fields.items()
        if name != "type"
    }
    some = st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True)
    kind = cls.model_fields["type"].default if "type" in cls.model_fields else None
    fixed = {} if kind is None else {"type": st.just(kind)}
    return some.flatmap(
        lambda names: st.fixed_dictionaries({**fixed, **{name: fields[name] for name in names}})
    )


def below(cls: type[Settings]) -> Iterator[type[Settings]]:
    for inner in cls.__subclasses__():
        if inner.__module__.startswith("backflip."):
            yield inner
        yield from below(inner)


CLASSES = sorted(
    (c for c in set(below(Settings)) if not any(f.is_required() for f in c.model_fields.values())),
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_what_is_shown_reads_back(cls: type[Settings]) -> None:
    """Any valid settings, with texts of any kind in them: shown and read, they are equal."""
    many = int(10 * SECONDS)
    filtered = [HealthCheck.filter_too_much, HealthCheck.too_slow]

    @hypothesis_settings(max_examples=many, suppress_health_check=filtered)
    @given(tables_of(cls))
    def check(data: dict[str, Any]) -> None:
        try:
            made = cls.parse(data)
        except SettingsError:
            assume(False)
            return
        dumped = made.model_dump(mode="json")
        assert not any(isinstance(v, float) and not math.isfinite(v) for v in dumped.values())
        written = to_toml(dumped)
        assert clean_text(written) == written
        assert cls.parse(tomllib.loads(written)) == made

    check()

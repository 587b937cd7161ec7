"""Strict settings: faults that name the nearest key, overrides, merging."""

import copy
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from backflip.config import Settings, apply_overrides, merge, read_toml
from backflip.errors import SettingsError

KEYS = st.text(st.characters(categories=["Ll", "Nd"], include_characters="_-"), min_size=1).filter(
    lambda key: "type" not in key
)
PLAIN = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
NESTED = st.recursive(
    st.dictionaries(KEYS, PLAIN, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(PLAIN, inner), max_size=3),
    max_leaves=8,
)


class Red(Settings):
    type: Literal["red"] = "red"
    warmth: float = 1.0


class Blue(Settings):
    type: Literal["blue"] = "blue"
    depth: int = Field(default=1, ge=0)


class Leg(Settings):
    length: float = Field(default=1.0, gt=0)


class Table(Settings):
    paint: Red | Blue = Field(default=Blue(), discriminator="type")
    legs: tuple[Leg, ...] = ()
    drawer: Leg | None = None
    labels: dict[str, int] = Field(default_factory=dict)
    kind: Literal["round", "square"] = "round"


def fault(data: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        Table.parse(data, where="here")
    assert caught.value.where == "here"
    return caught.value.what


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"legz": 1}, "unknown key 'legz'; did you mean 'legs'?"),
        ({"zzz": 1}, "unknown key 'zzz'; known: paint, legs, drawer, labels, kind"),
        ({"drawer": {"lenght": 1}}, "unknown key 'drawer.lenght'; did you mean 'drawer.length'?"),
        ({"legs": [{}, {"len": 1}]}, "unknown key 'legs.1.len'; did you mean 'legs.1.length'?"),
        (
            {"paint": {"type": "red", "warmht": 1}},
            "unknown key 'paint.warmht'; did you mean 'paint.warmth'?",
        ),
        # The nearest key is one of the chosen type, not of the other one.
        ({"paint": {"type": "red", "depth": 1}}, "unknown key 'paint.depth'; known: type, warmth"),
        ({"paint": {"type": "rde"}}, "paint: unknown type 'rde'; did you mean 'red'?"),
        ({"paint": {"type": "x"}}, "paint: unknown type 'x'; known: red, blue"),
        ({"paint": {"type": "blue", "depth": -1}}, "paint.depth: should be at least 0, not -1"),
        ({"drawer": {"length": "long"}}, "drawer.length: should be a number, not 'long'"),
        ({"labels": {"a": "b"}}, "labels.a: should be a whole number, not 'b'"),
        ({"kind": "oval"}, "kind: should be one of 'round' or 'square', not 'oval'"),
    ],
)
def test_a_fault_names_its_place_and_the_nearest_key(data: dict[str, Any], told: str) -> None:
    assert fault(data).startswith(told)


def test_every_fault_is_told_at_once() -> None:
    assert fault({"legz": 1, "kind": "oval"}).count(";") >= 2


def test_a_rule_of_the_whole_is_told_without_a_key() -> None:
    from pydantic import model_validator

    class Pair(Settings):
        low: int = 0
        high: int = 1

        @model_validator(mode="after")
        def _check(self) -> "Pair":
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    with pytest.raises(SettingsError) as caught:
        Pair.parse({"low": 2})
    assert caught.value.what == "low is above high"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Leg().length = 2.0


def test_defaults_obey_their_own_limits() -> None:
    class Wrong(Settings):
        length: float = Field(default=-1.0, gt=0)

    with pytest.raises(SettingsError, match="above 0"):
        Wrong.parse({})


class TestReadToml:
    def test_reads(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text('a = 1\n[b]\nc = "é"\n', encoding="utf-8")
        assert read_toml(tmp_path / "a.toml") == {"a": 1, "b": {"c": "é"}}

    @pytest.mark.parametrize(
        ("content", "told"), [(b"a = 1\nb =\n", "line 2"), (b"a = '\xff'", "not valid TOML")]
    )
    def test_faults_name_the_file(self, tmp_path: Path, content: bytes, told: str) -> None:
        path = tmp_path / "a.toml"
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=told) as caught:
            read_toml(path)
        assert caught.value.where == str(path)

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="no such file"):
            read_toml(tmp_path / "gone.toml")
        with pytest.raises(SettingsError, match="cannot be read"):
            read_toml(tmp_path)


class TestOverrides:
    @pytest.mark.parametrize(
        ("raw", "value"),
        [
            ("3", 3),
            ("-0.5", -0.5),
            ("1e-5", 1e-5),
            ("true", True),
            ('["a", "b"]', ["a", "b"]),
            ("{x = 1}", {"x": 1}),
            ('"3"', "3"),
            ("'a b'", "a b"),
            # What is not TOML is a text as it stands.
            ("my-folder", "my-folder"),
            ("a/b c.toml", "a/b c.toml"),
            ("True", "True"),
            ("a=b", "a=b"),
            ("", ""),
            # No setting is a date.
            ("2024-05-01", "2024-05-01"),
            ("07:32:00", "07:32:00"),
        ],
    )
    def test_values(self, raw: str, value: Any) -> None:
        found = apply_overrides({}, [f"key={raw}"])["key"]
        assert (found, type(found)) == (value, type(value))

    def test_paths_are_made_and_beside_them_all_stays(self) -> None:
        data = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
        found = apply_overrides(data, ["a.c.x=5", "new.deep.key=6", " a.b =7"])
        assert found == {"a": {"b": 7, "c": {"d": 2, "x": 5}}, "e": 3, "new": {"deep": {"key": 6}}}

    def test_later_ones_win(self) -> None:
        assert apply_overrides({}, ["a=1", "a=2"]) == {"a": 2}
        assert apply_overrides({}, ["a={b = 1, c = 2}", "a.b=3"]) == {"a": {"b": 3, "c": 2}}
        assert apply_overrides({}, ["a.b=3", "a={c = 2}"]) == {"a": {"c": 2}}

    @pytest.mark.parametrize(
        ("overrides", "told"),
        [
            (["rounds"], "'rounds' is not of the form key.path=value"),
            (["=3"], "'=3' is not of the form"),
            (["a.b=1", "a.b.c=2"], "'a.b.c' leads through a value"),
            (["list.x=1"], "'list.x' leads through a value"),
        ],
    )
    def test_what_cannot_be_laid_over(self, overrides: list[str], told: str) -> None:
        with pytest.raises(SettingsError) as caught:
            apply_overrides({"list": [1]}, overrides)
        assert caught.value.what.startswith(told)

    @given(NESTED, KEYS, KEYS, PLAIN)
    def test_a_setting_that_was_laid_over_is_there(
        self, data: dict[str, Any], section: str, key: str, value: Any
    ) -> None:
        """And nothing else has changed, the data that was given least of all."""
        before = copy.deepcopy(data)
        below = data.get(section, {})
        raw = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        if not isinstance(below, dict) and below != "none":
            with pytest.raises(SettingsError):
                apply_overrides(data, [f"{section}.{key}={raw}"])
        else:
            found = apply_overrides(data, [f"{section}.{key}={raw}"])
            beside = below if isinstance(below, dict) else {}
            assert found == {**data, section: {**beside, key: value}}
        assert data == before


class TestMerge:
    def test_key_by_key(self) -> None:
        base = {"a": {"b": 1, "c": 2}, "list": [1, 2], "x": 1}
        over = {"a": {"c": 3, "d": 4}, "list": [5], "y": 2}
        assert merge(base, over) == {
            "a": {"b": 1, "c": 3, "d": 4},
            "list": [5],
            "x": 1,
            "y": 2,
        }

    def test_another_type_takes_the_place_whole(self) -> None:
        base = {"paint": {"type": "red", "warmth": 3.0}, "legs": 4}
        over = {"paint": {"type": "blue", "depth": 2}}
        assert merge(base, over) == {"paint": {"type": "blue", "depth": 2}, "legs": 4}
        same = {"paint": {"type": "red", "gloss": 1}}
        assert merge(base, same)["paint"] == {"type": "red", "warmth": 3.0, "gloss": 1}
        untyped = {"paint": {"gloss": 1}}
        assert merge(base, untyped)["paint"] == {"type": "red", "warmth": 3.0, "gloss": 1}

    @given(NESTED, NESTED, NESTED)
    def test_laws(self, a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
        before = copy.deepcopy((a, b))
        assert merge(a, {}) == a
        assert merge({}, a) == a
        assert merge(a, a) == a
        assert merge(a, merge(b, c)) == merge(merge(a, b), c) or _plain_between(a, b, c)
        assert (a, b) == before

    @given(NESTED, NESTED)
    def test_the_result_shares_nothing_with_what_it_was_made_of(
        self, a: dict[str, Any], b: dict[str, Any]
    ) -> None:
        before = copy.deepcopy((a, b))
        _spoil(merge(a, b))
        assert (a, b) == before


def _plain_between(a: Any, b: Any, c: Any) -> bool:
    """Whether somewhere a plain value of `b` parts tables of `a` and `c`: there order matters."""
    if not all(isinstance(each, dict) for each in (a, b, c)):
        return isinstance(a, dict) and isinstance(c, dict) and not isinstance(b, dict)
    return any(_plain_between(a[k], b[k], c[k]) for k in a.keys() & b.keys() & c.keys())


def _spoil(data: dict[str, Any]) -> None:
    for value in list(data.values()):
        if isinstance(value, dict):
            _spoil(value)
    data["spoilt"] = True


def test_overrides_go_through_toml() -> None:
    """What a value means on the command line is what it means in a file."""
    for raw in ("1_000", "0x10", "[1, [2, 3]]", '"""x"""', "inf"):
        assert apply_overrides({}, [f"a={raw}"]) == tomllib.loads(f"a = {raw}")

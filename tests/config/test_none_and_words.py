"""Switching optional settings off, and faults told without a library's jargon."""

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from backflip.config import (
    ModelSettings,
    OptimizerSettings,
    Settings,
    apply_overrides,
    merge,
    read_toml,
)
from backflip.errors import SettingsError


class Leg(Settings):
    length: float = Field(default=1.5, gt=0)


class Table(Settings):
    legs: tuple[Leg, ...] = Field(default=(), max_length=2)
    drawer: Leg | None = Leg()
    wobble: float | None = Field(default=2.0, le=9)
    name: str = Field(default="oak", pattern="^[a-z]+$")
    seats: int = 4
    folds: bool = False
    labels: dict[str, int] = Field(default_factory=dict)
    woods: tuple[Literal["oak", "elm"], ...] = Field(default=("oak",), min_length=1)


class TestNone:
    def test_switches_off_what_may_be_off(self) -> None:
        table = Table.parse({"drawer": "none", "wobble": "none"})
        assert (table.drawer, table.wobble) == (None, None)

    def test_in_a_file_and_as_an_override(self, tmp_path: Path) -> None:
        path = tmp_path / "a.toml"
        path.write_text('wobble = "none"\n[drawer]\nlength = 3.0\n')
        assert Table.parse(read_toml(path)).wobble is None
        laid_over = apply_overrides(read_toml(path), ["drawer=none", "wobble=1.0"])
        assert Table.parse(laid_over) == Table(drawer=None, wobble=1.0)

    def test_takes_away_what_a_base_recipe_has(self) -> None:
        base = {"lora": {"rank": 8}, "name": "m"}
        assert ModelSettings.parse(merge(base, {"lora": "none"})).lora is None

    def test_can_be_taken_back(self) -> None:
        found = apply_overrides({"drawer": "none"}, ["drawer.length=2.5"])
        assert Table.parse(found).drawer == Leg(length=2.5)
        assert Table.parse(merge({"drawer": "none"}, {"drawer": {"length": 4.0}})).drawer == Leg(
            length=4.0
        )

    def test_is_a_text_like_any_other_elsewhere(self) -> None:
        assert Table.parse({"name": "none"}).name == "none"
        with pytest.raises(SettingsError):
            Table.parse({"seats": "none"})

    def test_the_gradient_is_left_as_it_is(self) -> None:
        assert OptimizerSettings.parse({"max_grad_norm": "none"}).max_grad_norm is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"woods": "oak"}, "woods: should be a list, as in ['oak'], not 'oak'"),
        ({"legs": {}}, "legs: should be a list, not {}"),
        (
            {"drawer": 5},
            'drawer: should be a group of settings, as in drawer.length=1.5, or "none", not 5',
        ),
        ({"legs": [3]}, "legs.0: should be a group of settings, as in {length = 1.5}, not 3"),
        ({"labels": 3}, "labels: should be a group of settings, as in {name = 1.0}, not 3"),
        ({"folds": "maybe"}, "folds: should be true or false, not 'maybe'"),
        ({"seats": "two"}, "seats: should be a whole number, not 'two'"),
        ({"seats": 1.5}, "seats: should be a whole number, not 1.5"),
        ({"labels": {"a": []}}, "labels.a: should be a whole number, not []"),
        ({"wobble": "much"}, "wobble: should be a number, or \"none\", not 'much'"),
        ({"wobble": 9.5}, 'wobble: should be at most 9.0, or "none", not 9.5'),
        ({"legs": [{"length": 0}]}, "legs.0.length: should be above 0.0, not 0"),
        ({"name": True}, "name: should be a text, not true; quotes make it one"),
        ({"name": "Oak 7"}, "name: should be a text like ^[a-z]+$, not 'Oak 7'"),
        ({"legs": [{}, {}, {}]}, "legs: should be a list of at most 2, not"),
        ({"woods": []}, "woods: should be a list of at least 1, not []"),
        # An item that is refused is missing from the list: one fault, not two.
        (
            {"woods": ["ash", "elk"]},
            "woods.0: should be one of 'oak' or 'elm', not 'ash'; "
            "woods.1: should be one of 'oak' or 'elm', not 'elk'; did you mean 'elm'?",
        ),
    ],
)
def test_faults_are_told_in_words(data: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Table.parse(data)
    assert caught.value.what.startswith(told)
    assert caught.value.what.count("should be") == told.count("should be")

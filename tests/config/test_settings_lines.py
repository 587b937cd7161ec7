"""A fault of a setting that stands in a file is told with its line."""

from pathlib import Path

import pytest
from pydantic import Field

from backflip.config import Settings, apply_overrides, lines_of, read_toml
from backflip.errors import SettingsError

FILE = '''# a comment, which = 3
name = """
seats = -1
"""
seats = -1

[drawer]
length = 0.0
shades = [
  "oak",
  3,
]

[[legs]]
length = 1.0

[[legs]]
length = -1.0
color = 3
[xyz]
'''


class Leg(Settings):
    length: float = Field(default=1.0, gt=0)
    shades: tuple[str, ...] = ()


class Table(Settings):
    name: str = "oak"
    seats: int = Field(default=4, ge=1)
    drawer: Leg | None = None
    legs: tuple[Leg, ...] = ()


def told(path: Path, *overrides: str) -> str:
    data = apply_overrides(read_toml(path), overrides)
    with pytest.raises(SettingsError) as caught:
        Table.parse(data, line_of=lines_of(path, overrides))
    return caught.value.what


def test_every_fault_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(FILE)
    found = told(tmp_path / "a.toml")
    assert "seats: should be at least 1, not -1 (line 5)" in found
    assert "drawer.length: should be above 0.0, not 0.0 (line 8)" in found
    assert "drawer.shades.1: should be a text, not 3; quotes make it one (line 9)" in found
    assert "legs.1.length: should be above 0.0, not -1.0 (line 18)" in found
    assert "unknown key 'legs.1.color'; known: length, shades (line 19)" in found
    assert "unknown key 'xyz'; known: name, seats, drawer, legs (line 20)" in found


def test_what_is_not_from_the_file_has_no_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(FILE)
    found = told(tmp_path / "a.toml", "seats=-2", "drawer={length = -3}", "lid=1")
    assert "seats: should be at least 1, not -2;" in found
    assert "drawer.length: should be above 0.0, not -3;" in found
    assert "unknown key 'lid'; known: name, seats, drawer, legs" in found
    assert found.count("(line") == 3

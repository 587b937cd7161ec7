"""Recipes as they resolve, and settings as TOML."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli_desk import done
from hypothesis import given
from hypothesis import strategies as st

from backflip import config, models
from backflip.cli import loop, toml
from backflip.cli.toml import to_toml
from backflip.loop import Recipe, load_recipe, shipped_recipes
from backflip.plain_text import clean_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
)
TABLES = st.recursive(
    st.dictionaries(TEXTS, st.one_of(SCALARS, st.lists(SCALARS)), max_size=4),
    lambda inner: st.dictionaries(
        TEXTS,
        st.one_of(SCALARS, inner, st.lists(st.one_of(SCALARS, inner, st.lists(inner)), max_size=3)),
        max_size=4,
    ),
    max_leaves=6,
)


@given(TABLES)
def test_toml_reads_back_as_what_was_written(data: dict[str, Any]) -> None:
    """And what a terminal shows of it does so, too."""
    written = to_toml(data)
    assert clean_text(written) == written
    assert tomllib.loads(written) == data


def test_toml_says_none_where_settings_read_it() -> None:
    text = to_toml({"a": None, "b": {"c": None, "d": 1}})
    assert tomllib.loads(text) == {"a": "none", "b": {"c": "none", "d": 1}}
    assert toml.NONE == config.NONE


@pytest.mark.parametrize("recipe", ["tiny.toml", "point.toml", *shipped_recipes()])
def test_show_prints_a_recipe_that_is_the_same_run(desk: Path, tmp_path: Path, recipe: str) -> None:
    overrides = ["loop.rounds=3", 'reward.mixture.weights={"overall" = 2.0}']
    overrides += ["algorithm.optimizer.max_grad_norm=none", "reward.model.lora=none"]
    if "point" not in recipe:  # an agent has no layers to adapt
        overrides.append("model.lora.rank=2")
    shown = done("config", "show", recipe, *overrides).out
    (tmp_path / "shown.toml").write_text(shown)
    resolved = load_recipe(recipe, overrides)
    assert load_recipe(tmp_path / "shown.toml") == resolved
    assert load_recipe(tmp_path / "shown.toml").run_id == resolved.run_id
    facts = done("config", "show", recipe, *overrides, "--json").json
    assert facts == resolved.model_dump(mode="json")


def test_recipes_are_listed(desk: Path) -> None:
    found = done("config", "recipes", "--json").json
    assert found == {name: str(path) for name, path in shipped_recipes().items()}
    assert "demo" in found
    out = done("config", "recipes").out
    assert all(name in out and path in out for name, path in found.items())


class TestDemo:
    """Which recipe the demo takes; the run itself is what `run` does."""

    def chosen(self, monkeypatch: pytest.MonkeyPatch, *overrides: str, fast: bool = True) -> Recipe:
        taken: list[Recipe] = []
        monkeypatch.setattr(models, "has_fast_bfloat16", lambda: fast)
        monkeypatch.setattr(loop, "_go", lambda folder, recipe, **_: taken.append(recipe))
        outcome = done("demo", *overrides)
        assert ("float32" in outcome.err) is not fast
        (recipe,) = taken
        return recipe

    def test_by_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.chosen(monkeypatch) == load_recipe("demo")
        assert self.chosen(monkeypatch, fast=False) == load_recipe("demo-float32")
        assert self.chosen(monkeypatch, "seed=3") == load_recipe("demo", ["seed=3"])

    @pytest.mark.parametrize("said", ["feedback=people", 'feedback.source="people"'])
    def test_a_person_is_asked_what_a_person_can_answer(
        self, monkeypatch: pytest.MonkeyPatch, said: str
    ) -> None:
        """One answer a question: no question goes twice to one person."""
        asked = self.chosen(monkeypatch, said, "feedback.prompts=10").feedback
        assert (asked.source, asked.prompts, asked.overlap) == ("people", 10, 1)
        assert asked.kinds == ("comparison",)
        assert asked.samples_per_prompt == 2
        assert self.chosen(monkeypatch, said).feedback.prompts == 24

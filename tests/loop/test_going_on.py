"""A run whose limits or knobs are changed goes on; any other change begins a run of its own."""

from pathlib import Path
from typing import Any

import pytest
from loop_helpers import make_run
from test_preflight import prompts, recipe_of

from backflip.config.identity import ADDED, made_of, named_by
from backflip.errors import SettingsError
from backflip.loop import Recipe, Run
from backflip.workspace import Workspace
from stored_results import stored

SECTIONS = {
    "pretrain": {"scratch": {}},
    "sft": {},
    "model": {"lora": {}},
    "feedback": {"judge": {}},
}
FULL = Recipe.parse(SECTIONS | {"extensions": ["here.py"]}).model_dump(mode="json")
KNOBS = {
    "feedback.judge.api_key_variable": "OTHER_KEY",
    "feedback.judge.parallel": 9,
    "feedback.judge.retries": 9,
    "feedback.judge.timeout": 9.0,
    "feedback.poll_seconds": 9.0,
    "loop.checkpoint_every": 9,
    "loop.warn_kl": 9.0,
    "loop.warn_length": 9.0,
    "sampling.batch_size": 9,
    "pretrain.optimizer.micro_batch_tokens": 99,
    "sft.optimizer.micro_batch_tokens": 99,
    "reward.optimizer.micro_batch_tokens": 99,
    "algorithm.optimizer.micro_batch_tokens": 99,
    "extensions": ["elsewhere.py"],
}
LIMITS = {
    "sampling.max_prompt_tokens": ["prompts.too_long"],
    "sft.sequence_length": ["sft.too_long"],
    "reward.max_tokens": ["prompts.too_long", "reward.too_long"],
}


def with_value(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Nested settings with another value at `key`."""
    name, _, rest = key.partition(".")
    inner = with_value(data.get(name, {}), rest, value) if rest else value
    return {**data, name: inner}


def leaves(settings: Any, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def test_the_knobs_are_these_and_no_others():
    recipe = Recipe.parse(FULL)
    left_out = set(leaves(recipe.model_dump(mode="json"))) - set(leaves(made_of(recipe)))
    assert left_out == {*KNOBS, *LIMITS}


@pytest.mark.parametrize("key", [*KNOBS, *LIMITS])
def test_a_knob_changes_nothing_about_what_a_run_is(key: str):
    value = KNOBS.get(key, 99)
    turned = Recipe.parse(with_value(FULL, key, value))
    assert leaves(turned.model_dump(mode="json"))[key] == value
    assert made_of(turned) == made_of(Recipe.parse(FULL))


@pytest.mark.parametrize(
    ("key", "way"), [(key, way) for key, ways in LIMITS.items() for way in ways]
)
def test_a_limit_by_which_something_is_left_out_is_part_of_the_run(key: str, way: str):
    dropping = with_value(FULL, way, "drop")
    other = Recipe.parse(with_value(dropping, key, 99))
    assert made_of(other) != made_of(Recipe.parse(dropping))


def test_a_setting_that_came_later_leaves_the_names_of_runs_alone():
    for key in ("prompts.too_long", "sft.too_long", "reward.too_long"):
        assert key not in leaves(named_by(Recipe.parse(FULL)))
        assert Recipe.parse(with_value(FULL, key, "drop")).run_id != Recipe.parse(FULL).run_id
    assert ADDED == {"added": True}


def entered(desk: Workspace, recipe: dict[str, Any]) -> Run:
    run, _ = make_run(desk, recipe)
    run.begin()
    return run


def test_a_run_that_began_before_a_setting_came_goes_on(
    desk: Workspace, tmp_path: Path, models: Path
):
    recipe = recipe_of(tmp_path, models, prompts())
    old = Recipe.parse(recipe).model_dump(mode="json")
    del old["prompts"]["too_long"], old["feedback"]["anchors"]
    desk.runs.start("run-of-old", "checked", old, "0.0.1")
    assert make_run(desk, recipe)[0].id == "run-of-old"
    assert make_run(desk, with_value(recipe, "feedback.anchors", 1))[0].id != "run-of-old"
    assert make_run(desk, with_value(recipe, "name", "other"))[0].id != "run-of-old"


def test_the_newest_settings_are_kept_and_what_changed_is_told(
    desk: Workspace, tmp_path: Path, models: Path
):
    recipe = recipe_of(tmp_path, models, prompts())
    first = entered(desk, recipe)
    turned, reporter = make_run(desk, with_value(recipe, "loop.warn_kl", 5.0))
    assert turned.recipe.run_id != first.id
    turned.begin()
    assert turned.id == first.id
    assert desk.runs.get(first.id).recipe["loop"]["warn_kl"] == 5.0
    assert any("loop.warn_kl = 5.0 (was 30.0)" in said for said in reporter.said)
    assert entered(desk, recipe).id == first.id  # and back again
    assert desk.runs.get(first.id).recipe["loop"]["warn_kl"] == 30.0


def test_a_limit_that_is_raised_goes_on_with_what_was_asked(
    desk: Workspace, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
):
    """As with a run that began before anything was checked at the start."""
    recipe = recipe_of(tmp_path, models, prompts(), reward={"max_tokens": 20})
    run, _ = make_run(desk, recipe)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "check", lambda *_, **__: None)
        with pytest.raises(SettingsError, match=r"reward\.max_tokens"):
            run.go()
    asked = {entry.id for entry in desk.journal.active()}
    done = {key: kept for key, kept in stored(desk, run.id).items() if kept is not None}
    assert "round-1/feedback" in done
    raised, _ = make_run(desk, with_value(recipe, "reward.max_tokens", 200))
    assert raised.id == run.id
    raised.go()
    assert {entry.id for entry in desk.journal.active()} == asked
    kept = stored(desk, run.id)
    assert {key: kept[key] for key in done} == done
    assert desk.runs.get(run.id).status == "finished"


def test_a_lowered_limit_is_checked_before_the_run_goes_on(
    desk: Workspace, tmp_path: Path, models: Path
):
    recipe = recipe_of(tmp_path, models, prompts())
    run, _ = make_run(desk, recipe)
    run.begin()
    run.start()
    lowered, _ = make_run(desk, with_value(recipe, "reward.max_tokens", 9))
    lowered.begin()
    with pytest.raises(SettingsError, match=r"reward\.max_tokens leaves room for 1"):
        lowered.start()
    assert run.place("start").exists() == lowered.place("start").exists()

"""The command of a stage is kept from working by what it uses, and by nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from loop_helpers import agent_recipe, make_run

from backflip.config import PromptSettings
from backflip.data import load_prompts
from backflip.errors import TrainingError
from backflip.loop.scope import StageName, scope_of
from backflip.loop.stages.preflight import _Parts, preflight
from backflip.loop.stages.training_data import learned_from
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison
from backflip.workspace import Workspace

SUBJECTS = ("river", "sea", "rain", "day", "sky", "sun", "moon", "wind")
LONG = "Hello, how are you? " * 6
STAGES: tuple[StageName, ...] = get_args(StageName)
SCORED = ("policy", "evaluate")
"""Stages that may be given reward models."""

Change = Callable[[dict[str, Any], Path, Workspace], Any]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def base(folder: Path, models: Path) -> dict[str, Any]:
    """A recipe in which nothing is wrong, whatever is done of it."""
    (folder / "text.txt").write_text("The river is calm and bright.\n" * 9)
    shown = [{"prompt": "Is it calm?", "completion": "The river is calm."}]
    asked = [{"prompt": f"How is the {subject}?"} for subject in SUBJECTS]
    return {
        "name": "staged",
        "model": {"name": str(models / "one"), "precision": "float32"},
        "prompts": {"source": write(folder / "asked.jsonl", asked), "heldout": 3},
        "pretrain": {"text": [str(folder / "text.txt")], "sequence_length": 32},
        "sft": {"data": [write(folder / "shown.jsonl", shown)]},
        "sampling": {"max_tokens": 8},
        "feedback": {"prompts": 4, "source": "people"},
        "reward": {"model": {"precision": "float32"}, "max_tokens": 200},
        "algorithm": {"type": "ppo", "steps": 1, "prompts_per_step": 2, "minibatches": 1},
        "evaluation": {"prompts": 3},
        "loop": {"rounds": 1},
    }


def put(section: str, **settings: Any) -> Change:
    def change(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
        recipe[section] = {**recipe[section], **settings}

    return change


def long_prompt(side: str, *, mended: bool = False) -> Change:
    """One prompt of a side is longer than may be; `mended`: the recipe leaves such ones out."""

    def change(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
        recipe["sampling"]["max_prompt_tokens"] = 40
        recipe["prompts"]["too_long"] = "drop" if mended else "refuse"
        short = [{"prompt": f"How is the {subject}?"} for subject in SUBJECTS]
        for number in range(20):
            long = f"{LONG}{number}"
            source = write(folder / "asked.jsonl", [*short, {"prompt": long}])
            found = load_prompts(PromptSettings(source=source, heldout=3), 0)
            if [prompt.split for prompt in found if prompt.text == long] == [side]:
                return
        raise AssertionError(side)

    return change


def broken_row(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
    with (folder / "asked.jsonl").open("a") as file:
        file.write('\n{"other": 1}')


def long_feedback(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
    recipe["feedback"]["use"] = "workspace"
    prompt = Prompt.from_text(LONG * 12)
    samples = [Sample.of(prompt, Completion(text=reply)) for reply in ("Yes.", "No.")]
    desk.samples.add(samples)
    desk.annotators.add("mia")
    ids = (samples[0].id, samples[1].id)
    desk.journal.add([Comparison(annotator="mia", samples=ids, choice="a")])


def long_pairs(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
    recipe["algorithm"] = {"type": "dpo"}
    long_feedback(recipe, folder, desk)


def template(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
    (folder / "no.jinja").write_text("{{ messages | length }}")
    recipe["model"]["chat"] = {"template": str(folder / "no.jinja")}
    recipe["reward"]["model"]["chat"] = recipe["model"]["chat"]


def text_to_mix(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
    recipe["algorithm"] |= {"ptx_coefficient": 0.1, "ptx_text": ["gone.txt"]}


def alike(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
    """Two groups of teachers have one name."""
    groups = [{"name": "one", "beta": beta} for beta in (1.0, 2.0)]
    recipe["feedback"] |= {"source": "teachers", "teachers": groups}


def alike_unasked(recipe: dict[str, Any], folder: Path, desk: Workspace) -> None:
    alike(recipe, folder, desk)
    recipe["feedback"]["source"] = "people"


TEXTUAL = frozenset(STAGES) - {"pretrain"}
PROBLEMS: dict[str, tuple[Change, frozenset[str] | set[str]]] = {
    "none": (put("loop"), set()),
    "a text that is not there": (put("pretrain", text=["gone.txt"]), frozenset(STAGES)),
    "demonstrations that are not there": (put("sft", data=["gone.jsonl"]), TEXTUAL),
    "prompts that are not there": (put("prompts", source="gone.jsonl"), TEXTUAL),
    "a row of the prompts": (broken_row, TEXTUAL),
    "a template": (template, TEXTUAL),
    "a long prompt to train on": (long_prompt("train"), {"sample", "label", "policy"}),
    "a long prompt to measure on": (long_prompt("heldout"), {"reward", "evaluate"}),
    "a long prompt that is left out": (long_prompt("train", mended=True), set()),
    "no reward model to grow from": (
        put("reward", model={"name": "nothing-of-this-name"}),
        {"reward"},
    ),
    "long feedback": (long_feedback, {"reward"}),
    "long feedback to learn pairs from": (long_pairs, {"reward", "policy"}),
    "a text to mix in": (text_to_mix, {"policy"}),
    "a judge's address": (
        put("feedback", judge={"url": "http://no,where"}),
        {"label", "evaluate"},
    ),
    "teachers alike": (alike, {"label"}),
    "teachers alike whom nobody asks": (alike_unasked, set()),
    "one held-out reply": (put("prompts", heldout=1), {"reward"}),
}
"""What is wrong, and the stages that it keeps from working, those before them done too."""
PREPARED = {"a text that is not there", "demonstrations that are not there"}
"""What keeps no stage from working but those two, where the others are given a model."""


def found_by(
    stage: StageName | None, recipe: dict[str, Any], folder: Path, desk: Workspace, **given: Any
) -> list[str]:
    run, _ = make_run(desk, recipe)
    place = folder / f"made-{len(list(folder.iterdir()))}"
    return [str(problem) for problem in preflight(run, place, stage=stage, **given).fatal]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_keeps_those_stages_from_working_that_it_concerns(
    problem: str, desk: Workspace, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("backflip.loop.stages.preflight._Parts.make", lambda *_: None)
    change, concerned = PROBLEMS[problem]
    recipe = base(tmp_path, models)
    change(recipe, tmp_path, desk)
    whole = found_by(None, recipe, tmp_path, desk)
    nobody = ("none", "a long prompt that is left out", "teachers alike whom nobody asks")
    assert (whole == []) == (problem in nobody), whole
    for stage in STAGES:
        ahead = ("pretrain",) if stage == "pretrain" else ("pretrain", "sft")
        told = found_by(stage, recipe, tmp_path, desk, ahead=ahead)
        assert (told != []) == (stage in concerned), (stage, told)
        if stage != "reward":  # of which a recipe of pairs knows nothing otherwise
            assert set(told) <= set(whole), stage
        if problem not in (*PREPARED, "none", "a template", "long feedback"):
            continue
        own = (stage,) if stage in ("pretrain", "sft") else ()
        told = found_by(stage, recipe, tmp_path, desk, ahead=own, model=models / "one")
        expected = stage in concerned and (problem not in PREPARED or stage in ("pretrain", "sft"))
        if problem == "a text that is not there" and stage == "sft":
            expected = False
        assert (told != []) == expected, (stage, told)


def test_a_recipe_of_pairs_leaves_out_what_is_too_long_for_the_reward_model_it_trains(
    desk: Workspace, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("backflip.loop.stages.preflight._Parts.make", lambda *_: None)
    recipe = base(tmp_path, models)
    long_pairs(recipe, tmp_path, desk)
    recipe["reward"] |= {"max_tokens": 60, "too_long": "drop"}
    assert found_by("reward", recipe, tmp_path, desk, ahead=(), model=models / "one") == []
    run, _ = make_run(desk, recipe)
    run.domain.read_with(models / "one")
    snapshot = desk.snapshots.take([entry.id for entry in desk.journal.active()]).id
    with pytest.raises(TrainingError, match="too long"):
        learned_from(run, snapshot, reward=True)


@pytest.mark.parametrize("stage", SCORED)
def test_reward_models_that_a_stage_is_given_are_tried(
    stage: StageName, desk: Workspace, tmp_path: Path, models: Path
):
    recipe = base(tmp_path, models)
    run, _ = make_run(desk, recipe)
    run.domain.read_with(models / "one")
    network = run.domain.scorer(models / "one", seed=0)
    network.save(tmp_path / "scores", {})
    given = {"ahead": (), "model": models / "one"}
    assert found_by(stage, recipe, tmp_path, desk, rewards=[tmp_path / "scores"], **given) == []
    (tmp_path / "scores" / "model.safetensors").write_bytes(b"cut")
    (told, *_) = found_by(stage, recipe, tmp_path, desk, rewards=[tmp_path / "scores"], **given)
    assert str(tmp_path / "scores") in told


def parts_of(
    stage: StageName | None,
    recipe: dict[str, Any],
    desk: Workspace,
    ahead: tuple[str, ...] = (),
    rewards: tuple[Path, ...] = (),
) -> set[str]:
    run, _ = make_run(desk, recipe)
    scope = scope_of(run.recipe, stage)
    parts = _Parts(run, scope, Path("home"), Path("made"), rewards)
    return {where for where, _ in parts._wanted(ahead)}


def test_each_stage_makes_the_parts_that_it_uses(desk: Workspace, tmp_path: Path, models: Path):
    online = base(tmp_path, models)
    pairs = {**online, "algorithm": {"type": "dpo"}}
    reference, acts = "model, as the reference", "sampling"
    given = (tmp_path,)
    for recipe in (online, pairs, agent_recipe()):
        assert parts_of("pretrain", recipe, desk) == parts_of("sft", recipe, desk) == set()
        assert parts_of("sample", recipe, desk) == parts_of("label", recipe, desk) == {acts}
        assert parts_of("reward", recipe, desk) == {acts, "reward.model"}
        assert parts_of("evaluate", recipe, desk) == {acts}
        assert parts_of("evaluate", recipe, desk, rewards=given) == {acts, "--reward"}
    for stage in STAGES:
        assert "model" in parts_of(stage, online, desk, ("pretrain", "sft"))
    assert parts_of("policy", pairs, desk) == {"model", reference}
    assert parts_of(None, pairs, desk) == {"model", acts, reference}
    scored = {"model", acts, reference, "--reward", "--reward, as the value model"}
    assert parts_of("policy", online, desk, rewards=given) == scored
    whole = {"model", acts, reference, "reward.model", "reward.model, as the value model"}
    assert parts_of(None, online, desk) == whole

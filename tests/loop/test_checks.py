"""Recipes that could only fail late are refused at once, by the key to change."""

from pathlib import Path
from typing import Any

import pytest
from loop_helpers import agent_recipe, make_run, text_recipe

from backflip.errors import SettingsError
from backflip.loop import Recipe
from backflip.workspace import Workspace


def refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Recipe.parse(data)


@pytest.mark.parametrize("kind", ["rating", "ranking", "correction"])
def test_a_judge_gives_comparisons_alone_and_once(kind: str):
    refused(
        {"feedback": {"source": "judge", "kinds": ["comparison", kind]}},
        rf"feedback\.kinds: a judge compares; it gives no {kind}",
    )
    refused({"feedback": {"source": "judge", "overlap": 2}}, r"feedback\.overlap: there is one")
    assert Recipe.parse({"feedback": "judge"})
    assert Recipe.parse({"feedback": {"source": "people", "kinds": [kind], "overlap": 2}})


@pytest.mark.parametrize("kinds", [["comparison"], ["rating", "ranking"]])
def test_kinds_that_compare_need_replies_to_compare(kinds: list[str]):
    feedback = {"samples_per_prompt": 1, "kinds": kinds}
    refused(
        {"feedback": feedback}, rf"feedback: {kinds[-1]} needs samples_per_prompt of at least 2"
    )
    assert Recipe.parse({"feedback": feedback | {"samples_per_prompt": 2}})


def test_a_judge_does_not_watch_clips():
    data = agent_recipe(feedback={"source": "judge", "gold": "environment"})
    refused(data, r"feedback\.source: a judge reads text")


def test_a_clip_has_no_length_limit_to_be_punished_for():
    data = agent_recipe()
    data["algorithm"]["missing_eos_penalty"] = 0.5
    refused(data, r"algorithm\.missing_eos_penalty: belongs to replies")
    for harmless in (0.0, 1.0):  # off, or left as it is
        data["algorithm"]["missing_eos_penalty"] = harmless
        assert Recipe.parse(data)


def test_no_more_teachers_are_asked_than_there_are():
    crowd = [{"name": "a", "count": 2}, {"name": "b", "count": 1}]
    feedback = {"teachers": crowd, "overlap": 3}
    assert Recipe.parse({"feedback": feedback})
    refused({"feedback": feedback | {"overlap": 4}}, r"feedback\.overlap: 4 .* there are 3")
    assert Recipe.parse({"feedback": feedback | {"overlap": 4, "source": "people"}})


@pytest.mark.parametrize("change", [{}, {"samples_per_prompt": 2}])
def test_no_more_minibatches_than_samples(change: dict[str, int]):
    number = 6 * change.get("samples_per_prompt", 1)
    settings = {"type": "ppo", "prompts_per_step": 6, **change}
    assert Recipe.parse({"algorithm": settings | {"minibatches": number}})
    refused(
        {"algorithm": settings | {"minibatches": number + 1}},
        rf"algorithm\.minibatches: {number + 1} parts of a step's {number} samples",
    )


@pytest.mark.parametrize("kind", ["rating", "good_bad", "critique", "safety_flag", "implicit"])
def test_pairs_are_not_learned_from_kinds_that_give_none(kind: str):
    feedback: dict[str, Any] = {"kinds": [kind]}
    data = {"algorithm": "dpo", "feedback": feedback}
    refused(data, rf"feedback\.kinds: dpo learns from pairs, and no {kind} gives one")
    axes = ["safe" if kind == "safety_flag" else "overall"]
    assert Recipe.parse(data | {"algorithm": "ppo", "reward": {"axes": axes}})
    assert Recipe.parse(data | {"feedback": feedback | {"use": "workspace"}})
    for other in ("comparison", "ranking", "correction", "demonstration"):
        assert Recipe.parse(data | {"feedback": {"kinds": [kind, other]}})


def test_an_axis_that_nobody_is_asked_about_has_no_reward_model():
    flags: dict[str, Any] = {"kinds": ["safety_flag"]}
    refused({"feedback": flags}, r"reward\.axes: nobody is asked about 'overall'")
    both = {"axes": ["safe", "kind"]}
    refused({"feedback": flags, "reward": both}, r"reward\.axes: nobody is asked about 'kind'")
    assert Recipe.parse({"feedback": flags, "reward": {"axes": ["safe"]}})
    assert Recipe.parse({"feedback": {"kinds": ["safety_flag", "rating"]}, "reward": both})
    assert Recipe.parse({"feedback": flags | {"use": "workspace"}})


def test_the_mix_names_its_text():
    mixed = {"type": "ppo", "ptx_coefficient": 0.5}
    refused({"algorithm": mixed}, r"algorithm\.ptx_text: names no text")
    refused(agent_recipe(algorithm=mixed), r"algorithm\.ptx_coefficient: an agent is not")
    assert Recipe.parse({"algorithm": mixed | {"ptx_text": ["a.txt"]}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": {"kl_horizon": 50.0}}, "algorithm: kl_horizon belongs to kl_target"),
        (
            {"reward": {"ensemble": 2, "uncertainty_penalty": 0.5}},
            'reward: uncertainty_penalty belongs to combine = "uncertain"',
        ),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(change: dict[str, Any], message: str):
    refused(change, message)


def test_a_setting_counts_beside_the_one_it_belongs_to():
    assert Recipe.parse({"algorithm": {"kl_horizon": 50.0, "kl_target": 1.0}})
    reward = {"ensemble": 2, "uncertainty_penalty": 0.5, "combine": "uncertain"}
    assert Recipe.parse({"reward": reward})


@pytest.mark.parametrize("model", [{"name": "mine"}, {"lora": {"rank": 2}}])
def test_an_agent_names_no_language_model(model: dict[str, Any]):
    (key,) = model
    refused(agent_recipe(model=model), rf"model\.{key}: an agent in an environment starts from")


def test_every_fault_is_told_at_once():
    data = {"feedback": {"overlap": 99, "kinds": ["rating"]}, "algorithm": "dpo"}
    refused(data, r"feedback\.overlap.*; feedback\.kinds")


def missing(data: dict[str, Any], key: str) -> dict[str, Any]:
    section, name = key.split(".")
    gone = "nowhere/gone.jsonl"
    data[section][name] = gone if key == "prompts.source" else [gone]
    if key == "algorithm.ptx_text":
        data[section]["ptx_coefficient"] = 0.1
    return data


@pytest.mark.parametrize(
    "key", ["prompts.source", "pretrain.text", "sft.data", "algorithm.ptx_text"]
)
def test_files_that_are_missing_are_told_before_the_first_stage(
    tmp_path: Path, workspace: Workspace, key: str
):
    run, _ = make_run(workspace, missing(text_recipe(tmp_path), key))
    run.begin()
    with pytest.raises(SettingsError, match=r"no such file: nowhere/gone\.jsonl") as caught:
        run.start()
    assert caught.value.where == key
    assert workspace.models.all() == []


def test_replies_that_a_new_model_could_not_read_are_refused(tmp_path: Path):
    data = text_recipe(tmp_path)
    assert data["pretrain"]["scratch"]["max_positions"] == 128
    data["sampling"] = {"max_tokens": 127}
    assert Recipe.parse(data)
    data["sampling"] = {"max_tokens": 128}
    refused(data, r"sampling\.max_tokens: 128 tokens and a prompt do not fit in the 128")

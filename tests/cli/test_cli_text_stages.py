"""Each stage of a language model's loop by its own command: pretrain to evaluate, and chat."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_desk import Outcome, backflip, done

from backflip.errors import SettingsError
from backflip.loop import Run
from backflip.records import Prompt
from backflip.sampling import TextSampler
from backflip.workspace import Workspace
from fuzzing import copied
from stored_results import damages, store, stored


def test_training_stages_name_the_model_that_they_made(text_stages: dict[str, Outcome]) -> None:
    for name, stage in {
        "pretrain": "pretrain",
        "sft": "sft",
        "ppo": "policy",
        "dpo": "policy",
    }.items():
        model = text_stages[name].json
        assert model["stage"] == stage
        folder = Path("text/artifacts") / model["path"]
        assert (folder / "model.safetensors").is_file()
        assert json.loads((folder / "backflip.json").read_text())["model"] == model["id"]


def test_stages_stand_in_line(text_stages: dict[str, Outcome]) -> None:
    """Each begins with what the recipe does before it, and nothing is done twice."""
    with Workspace.open("text") as workspace:
        known = {model.id: model for model in workspace.models.all()}
        sft = known[text_stages["sft"].json["id"]]
        assert sft.parents == (text_stages["pretrain"].json["id"],)
        (reward,) = text_stages["reward"].json["rewards"]["overall"]
        assert known[reward].parents == (sft.id,)
        assert set(known[text_stages["ppo"].json["id"]].parents) == {sft.id, reward}
        assert known[text_stages["dpo"].json["id"]].parents == (sft.id,)
        assert [m.stage for m in known.values()].count("pretrain") == 1
        samples = workspace.samples.get(row["id"] for row in text_stages["sample"].json)
        assert {sample.model for sample in samples.values()} == {sft.id}
        assert len(samples) == 20 * 2


def test_feedback_is_about_the_samples_and_is_what_was_learned_from(
    text_stages: dict[str, Outcome],
) -> None:
    told = text_stages["label"].json
    assert told["new_entries"] + told["skipped"] == 20 + 40  # a comparison a pair, two ratings
    with Workspace.open("text") as workspace:
        entries = workspace.snapshots.rows(told["snapshot"])
        shown = {row["id"] for row in text_stages["sample"].json}
        assert {name for entry in entries for name in entry.sample_ids} == shown
        (reward,) = text_stages["reward"].json["rewards"]["overall"]
        for model in (reward, text_stages["ppo"].json["id"], text_stages["dpo"].json["id"]):
            assert workspace.models.get(model).snapshot == told["snapshot"]


def test_bench_scores_the_rows_that_can_be_read(text_stages: dict[str, Outcome]) -> None:
    scores = text_stages["reward"].json["bench"]["bench.jsonl"]
    assert scores["entries"] == 5
    assert scores["rejected_rows"] == 1
    assert scores["accuracy"]["overall"]["count"] == 5


def test_evaluation_compares_on_held_out_prompts(text_stages: dict[str, Outcome]) -> None:
    result = text_stages["evaluate"].json
    assert result["model"] == text_stages["dpo"].json["id"]
    assert result["against"] == text_stages["sft"].json["id"]
    assert result["prompts"] == 6
    assert set(result["means"]) == {"gold", "length", "truncated", "reward"}
    assert np.isfinite(result["kl"]["value"])
    assert result["win_rate"]["low"] <= result["win_rate"]["value"] <= result["win_rate"]["high"]


@pytest.mark.parametrize("name", ["pretrain", "sft", "sample", "label", "ppo"])
def test_a_stage_that_is_done_is_not_done_again(text_stages: dict[str, Outcome], name: str) -> None:
    before = text_stages[name]
    command = {"ppo": "policy"}.get(name, name)
    (reward,) = text_stages["reward"].json["rewards"]["overall"]
    extra = ["--reward", reward] if name == "ppo" else []
    again = done(command, "tiny.toml", "-w", "text", "--json", *extra)
    assert again.json == before.json
    assert before.err
    assert not again.err, "nothing was sampled, asked or trained"


def test_results_for_people_hold_what_the_json_holds(text_stages: dict[str, Outcome]) -> None:
    sft = text_stages["sft"].json
    out = done("sft", "tiny.toml", "-w", "text").out
    assert sft["id"] in out
    assert f"{sft['metrics']['loss']:.4g}" in out
    out = done("sample", "tiny.toml", "-w", "text").out
    assert all(row["id"] in out and row["prompt"] in out for row in text_stages["sample"].json)
    out = done("reward", "tiny.toml", "-w", "text", "--bench", "bench.jsonl").out
    scores = text_stages["reward"].json["bench"]["bench.jsonl"]
    assert "bench.jsonl" in out
    names, values = (line.split() for line in out.split("bench.jsonl\n")[1].splitlines()[:2])
    assert names[0] == "accuracy"
    assert values[0] == f"{scores['accuracy']['overall']['value']:.4g}"
    win = text_stages["evaluate"].json["win_rate"]["value"]
    (reward,) = text_stages["reward"].json["rewards"]["overall"]
    dpo = text_stages["dpo"].json["id"]
    out = done("evaluate", dpo, "tiny.toml", "-w", "text", "--reward", reward).out
    assert f"by the gold measure: it wins {win:.1%} of" in out


def test_models_lists_all_and_where_they_lie(text_stages: dict[str, Outcome]) -> None:
    listed = done("models", "-w", "text", "--json").json
    assert {"base", "pretrain", "sft", "reward", "policy"} == {model["stage"] for model in listed}
    assert all(Path(model["folder"]).is_dir() for model in listed)
    out = done("models", "-w", "text").out
    assert all(model["id"] in out and model["folder"] in out for model in listed)


def test_lineage_leads_from_a_policy_to_the_annotators(text_stages: dict[str, Outcome]) -> None:
    policy = text_stages["ppo"].json["id"]
    found = done("lineage", policy[:14], "-w", "text", "--json").json
    (reward,) = text_stages["reward"].json["rewards"]["overall"]
    told = text_stages["label"].json
    assert found["model"] == policy
    assert {reward, text_stages["sft"].json["id"]} < {model["id"] for model in found["models"]}
    assert set(found["annotators"]) == set(told["annotators"])
    assert len(found["entries"]) == sum(found["annotators"].values()) == told["entries"]
    out = done("lineage", policy, "-w", "text").out
    assert all(f"{name} " in out for name in told["annotators"])


def test_run_goes_on_from_single_stages(text_stages: dict[str, Outcome]) -> None:
    """`run` of the same recipe takes over what the commands of stages did."""
    result = done("run", "tiny.toml", "-w", "text", "--json").json
    with Workspace.open("text") as workspace:
        stages = stored(workspace, result["run"])
        assert workspace.runs.get(result["run"]).status == "finished"
        policy = workspace.models.get(stages["round-1/policy"]["model"])
    assert stages["sft"]["model"] == text_stages["sft"].json["id"]
    assert stages["round-1/feedback"] == text_stages["label"].json
    assert policy.parents[0] == text_stages["sft"].json["id"]
    assert Path(result["report"]).read_text().startswith("<!doctype html>")
    assert result["rounds"] == [stages["round-1/evaluate"]]


@pytest.mark.parametrize("name", ["pretrain", "sft"])
def test_a_damaged_preparation_is_told_in_words(
    text_stages: dict[str, Outcome], tmp_path: Path, name: str
) -> None:
    folder = copied(Path("text"), tmp_path / "w")
    with Workspace.open(folder) as workspace:
        (run,) = [run.id for run in workspace.runs.all() if name in stored(workspace, run.id)]
        for place, damaged in damages(name):
            store(workspace, run, name, damaged)
            told = backflip("sample", "tiny.toml", "-w", folder)
            assert told.code == 1
            assert f"the result of stage {name} of run {run} is damaged" in told.err
            assert (place or "is no object") in told.err
            assert "Traceback" not in told.err


class TestChat:
    def test_one_question(self, text_stages: dict[str, Outcome]) -> None:
        model = text_stages["sft"].json["id"]
        ask = ("chat", model, "-w", "text", "--prompt", "Tell me how it is.", "--max-tokens", "5")
        answer = done(*ask, "--json").json
        assert answer["prompt"] == "Tell me how it is."
        assert answer["finish"] in ("length", "stop")
        assert done(*ask, "--json").json == answer, "the same seed gives the same reply"
        others = {done(*ask, "--json", "--seed", seed).json["reply"] for seed in "123"}
        assert others != {answer["reply"]}

    def test_a_dialogue_remembers_until_it_is_told_not_to(
        self, text_stages: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[list[tuple[str, str]]] = []
        sample = TextSampler.sample

        def watched(self: TextSampler, prompts: list[Prompt], *rest: Any, **named: Any) -> Any:
            asked.extend([(m.role, m.content) for m in prompt.messages] for prompt in prompts)
            return sample(self, prompts, *rest, **named)

        monkeypatch.setattr(TextSampler, "sample", watched)
        model = text_stages["sft"].json["id"]
        said = "How is it?\nAnd now?\n/new\nHow is it?\n\nnot read\n"
        arguments = ("chat", model, "-w", "text", "--temperature", "0", "--max-tokens", "5")
        outcome = done(*arguments, "--json", stdin=said)
        first, second, third = [json.loads(line) for line in outcome.out.splitlines()]
        opening = [("user", "How is it?")]
        assert asked == [
            opening,
            [*opening, ("assistant", first["reply"]), ("user", "And now?")],
            opening,
        ]
        assert second["prompt"] == "And now?"
        assert third == first

    def test_a_folder_is_a_model_too(self, text_stages: dict[str, Outcome]) -> None:
        (listed,) = [
            m for m in done("models", "-w", "text", "--json").json if m["name"] == "tiny/sft"
        ]
        ask = ("--prompt", "How is it?", "--max-tokens", "4")
        by_folder = done("chat", listed["folder"], "-w", "nowhere", *ask)
        assert by_folder.out == done("chat", "tiny/sft", "-w", "text", *ask).out

    def test_what_a_model_says_cannot_command_the_terminal(
        self, text_stages: dict[str, Outcome]
    ) -> None:
        model = text_stages["sft"].json["id"]
        for seed in range(5):
            out = done(
                "chat", model, "-w", "text", "--prompt", "x", "--max-tokens", "40",
                "--temperature", "5", "--seed", str(seed),
            ).out  # fmt: skip
            assert not [c for c in out if ord(c) < 32 and c != "\n"]

    def test_a_reward_model_does_not_talk(self, text_stages: dict[str, Outcome]) -> None:
        (reward,) = text_stages["reward"].json["rewards"]["overall"]
        outcome = backflip("chat", reward, "-w", "text", "--prompt", "x")
        assert outcome.code == 1
        assert "reward model" in outcome.err


def test_each_command_checks_its_own_stage_alone(
    text_stages: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def check(
        _: Run,
        model: str | None = None,
        ahead: Sequence[str] = ("pretrain", "sft"),
        snapshot: str | None = None,
        *,
        stage: str | None = None,
        rewards: Sequence[str] = (),
    ) -> None:
        asked.append((stage, model, tuple(ahead), snapshot, tuple(rewards)))
        raise SettingsError("enough")

    monkeypatch.setattr(Run, "check", check)
    sft, dpo = text_stages["sft"].json["id"], text_stages["dpo"].json["id"]
    (reward,) = text_stages["reward"].json["rewards"]["overall"]
    told = text_stages["label"].json["snapshot"]
    pairs = ["algorithm=dpo", "--snapshot", told]
    both = ("pretrain", "sft")
    # Of each stage: what its command is given, and the feedback and rewards that it then uses.
    commands: dict[str, list[tuple[list[str], str | None, tuple[str, ...]]]] = {
        "sft": [([], None, ())],
        "sample": [([], None, ())],
        "label": [([], None, ())],
        "reward": [(["--snapshot", told], told, ())],
        "policy": [(["--reward", reward], None, (reward,)), (pairs, told, ())],
        "evaluate": [([], None, ()), (["--reward", reward], None, (reward,))],
    }
    for stage, cases in commands.items():
        for given, snapshot, rewards in cases:
            first = [dpo] if stage == "evaluate" else []
            for start in (None, sft):
                named = [] if start is None else ["--against" if first else "--model", sft]
                command = [stage, *first, "tiny.toml", *given, *named, "-w", "text"]
                assert "enough" in backflip(*command).err, command
                own = both if start is None else ("sft",) if stage == "sft" else ()
                assert asked.pop() == (stage, start, own, snapshot, rewards)
    for given, model in (([], None), (["pretrain.scratch=none", "--model", sft], sft)):
        assert "enough" in backflip("pretrain", "tiny.toml", *given, "-w", "text").err
        assert asked.pop() == ("pretrain", model, ("pretrain",), None, ())
    assert "enough" in backflip("run", "tiny.toml", "-w", "text").err
    assert asked == [(None, None, both, None, ())]

"""Whole rounds with agents, and every figure of them recomputed from what the store keeps."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import register, registry
from loop_helpers import agent_recipe, make_run, remains, warned

from backflip.agents import AgentPolicy, ClipInputs, ClipReward
from backflip.environments import POINT
from backflip.errors import TrainingError
from backflip.evaluation.reward import wilson
from backflip.loop import Recipe, Run, load_recipe
from backflip.records import Sample, derive_seed
from backflip.records.feedback import Comparison
from backflip.rewards import split_by_prompt
from backflip.workspace import Workspace, lineage, touched
from stored_results import stored

PUSH = "test/Push-v0"


class Push(gym.Env):
    """A point pushed by a force within a box; it is rewarded for being near the origin."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.state = np.array([self.np_random.uniform(-1, 1), 0.0], np.float32)
        return self.state.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        velocity = 0.7 * self.state[1] + 0.3 * action[0]
        self.state = np.array([self.state[0] + velocity, velocity], np.float32)
        return self.state.copy(), -abs(float(self.state[0])), False, False, {}


if PUSH not in registry:
    register(PUSH, entry_point=Push, max_episode_steps=12)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Nothing:
    """A domain that must not be asked for anything; it may be told where the model lies."""

    def read_with(self, folder: Path) -> None:
        assert folder.is_dir()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")


def samples_of(workspace: Workspace, model: str, ids: set[str]) -> list[Sample]:
    """A model's samples of these prompts, in the order of the prompts."""
    found = {s.prompt_id: s for s in workspace.samples.of_model(model) if s.prompt_id in ids}
    return [found[prompt] for prompt in sorted(found)]


def gold(sample: Sample) -> float:
    return float(sample.clip.rewards.astype(np.float64).sum())


def logprobs(workspace: Workspace, model: str, samples: list[Sample]) -> np.ndarray:
    policy = AgentPolicy.load(workspace.models.folder(workspace.models.get(model)))
    inputs = ClipInputs.of([s.clip for s in samples])
    kept = policy.evaluate(inputs).logprobs_BT.detach().double()
    return kept.masked_fill(~inputs.mask_BT, 0).sum(1).numpy()


@pytest.mark.parametrize("environment", [POINT, PUSH], ids=["discrete", "box"])
def test_two_rounds_and_what_they_leave(environment, workspace: Workspace):
    run, reporter = make_run(workspace, agent_recipe(environment))
    results = run.go()
    assert warned(reporter) == []
    assert workspace.runs.get(run.id).status == "finished"
    stages = stored(workspace, run.id)
    checked, *keys = stages
    assert checked.startswith("check-")
    assert keys == [
        "start",
        "baseline",
        *(f"round-{n}/{k}" for n in (1, 2) for k in KINDS_OF_STAGE),
    ]
    assert [stages["round-1/evaluate"], stages["round-2/evaluate"]] == [r.kept() for r in results]
    check_feedback(workspace, run, stages)
    check_lineage(workspace, stages)
    check_evaluation(workspace, run, stages)
    check_rewards(workspace, run, stages)


KINDS_OF_STAGE = ("sample", "feedback", "reward", "policy", "evaluate")


def check_feedback(workspace: Workspace, run: Run, stages: dict[str, Any]) -> None:
    """Each round asks about pairs of what the policy did; the second learns from both rounds."""
    prompts = {p.id: p for p in run.domain.prompts()}
    journal = workspace.journal.active()
    assert all(isinstance(e, Comparison) and e.origin == "teachers" for e in journal)
    for number, policy in ((1, stages["start"]), (2, stages["round-1/policy"])):
        asked, told = stages[f"round-{number}/sample"], stages[f"round-{number}/feedback"]
        assert asked["model"] == policy["model"]
        assert len(asked["samples"]) == 28
        found = workspace.samples.get(asked["samples"])
        assert {s.model for s in found.values()} == {policy["model"]}
        assert {prompts[s.prompt_id].split for s in found.values()} == {"train"}
        new = workspace.journal.active(run=run.id, rounds=number)
        assert told["new_entries"] == len(new) == 14 - told["skipped"]
        assert {i for e in new for i in e.sample_ids} <= set(asked["samples"])
    snapshots = [stages[f"round-{n}/feedback"]["snapshot"] for n in (1, 2)]
    rows = [workspace.snapshots.rows(s) for s in snapshots]
    assert rows[1] == journal
    assert rows[0] == workspace.journal.active(rounds=1)


def check_lineage(workspace: Workspace, stages: dict[str, Any]) -> None:
    final = lineage(workspace, stages["round-2/policy"]["model"])
    journal = workspace.journal.active()
    assert {e.id for e in final.all_entries} == {e.id for e in journal}
    assert set(final.annotators) == {e.annotator for e in journal}
    assert sum(final.annotators.values()) == len(journal)
    assert {m.id for m in final.all_models} == {m.id for m in workspace.models.all()}
    first = [e.id for e in workspace.journal.active(rounds=1)][:1]
    hit = touched(workspace, first)
    assert stages["round-2/policy"]["model"] in {m.id for m in hit.policies}
    assert stages["start"]["model"] not in {m.id for m in hit.models}
    later = [e.id for e in workspace.journal.active(rounds=2)][:1]
    assert stages["round-1/policy"]["model"] not in {m.id for m in touched(workspace, later).models}


def check_evaluation(workspace: Workspace, run: Run, stages: dict[str, Any]) -> None:
    """Means, win rate and KL by hand from the clips in the store."""
    heldout = {p.id for p in run.domain.prompts() if p.split == "heldout"}
    start = stages["start"]["model"]
    before = samples_of(workspace, start, heldout)
    assert {s.id for s in before} == set(stages["baseline"]["samples"])
    for number in (1, 2):
        result = stages[f"round-{number}/evaluate"]
        after = samples_of(workspace, result["model"], heldout)
        assert len(after) == len(before) == result["prompts"] == 6
        golds = [
            [float(s.clip.rewards.astype(float).sum()) for s in side] for side in (before, after)
        ]
        assert result["means"]["gold"]["before"] == pytest.approx(np.mean(golds[0]))
        assert result["means"]["gold"]["after"] == pytest.approx(np.mean(golds[1]))
        assert result["means"]["length"]["after"] == np.mean([s.clip.num_steps for s in after])
        assert result["means"]["truncated"]["after"] == 1.0
        wins = sum((b > a) + 0.5 * (b == a) for a, b in zip(*golds, strict=True))
        expected = wilson(wins, 6, 0.95)
        assert result["win_rate"]["value"] == pytest.approx(wins / 6)
        assert result["win_rate"]["low"] == pytest.approx(expected.low)
        assert result["win_rate"]["high"] == pytest.approx(expected.high)
        assert (result["judged_by"], result["against"]) == ("gold", start)
        gap = logprobs(workspace, result["model"], after) - logprobs(workspace, start, after)
        assert result["kl"]["value"] == pytest.approx(float(gap.mean()), abs=1e-5)
        assert result["kl"]["low"] <= result["kl"]["value"] <= result["kl"]["high"]
        for example in result["examples"]:
            assert example["after"]["sample"] in {s.id for s in after}
            row = [s.id for s in after].index(example["after"]["sample"])
            assert example["after"]["gold"] == pytest.approx(golds[1][row])
            assert example["before"]["sample"] == before[row].id
        assert len(result["examples"]) == 2


def check_rewards(workspace: Workspace, run: Run, stages: dict[str, Any]) -> None:
    """The reward model's held-out accuracy by hand, and that its scores are normalised."""
    for number in (1, 2):
        result = stages[f"round-{number}/reward"]
        (model,) = result["rewards"]["overall"]
        reward = ClipReward.load(workspace.models.folder(workspace.models.get(model)))
        entries = workspace.snapshots.rows(stages[f"round-{number}/feedback"]["snapshot"])
        found = workspace.samples.get({i for e in entries for i in e.sample_ids})
        scores = dict(zip(found, reward.score(list(found.values())), strict=True))
        report = result["reports"]["overall"]
        assert report["trained_on"] + report["heldout"] == len(entries)
        right = []
        seed = derive_seed(run.recipe.seed, "heldout")
        kept, heldout = split_by_prompt(entries, found, share=0.25, seed=seed)
        assert (len(kept), len(heldout)) == (report["trained_on"], report["heldout"])
        for entry in heldout:
            if entry.choice in ("a", "b"):
                sign = 1 if entry.choice == "a" else -1
                gap = scores[entry.samples[0]] - scores[entry.samples[1]]
                right.append(float(sign * gap > 0))
        metrics = workspace.models.get(model).metrics
        assert metrics["heldout_accuracy"] == pytest.approx(np.mean(right))
        reference = workspace.samples.get(stages["baseline"]["samples"])
        normal = reward.score(list(reference.values()))
        assert np.mean(normal) == pytest.approx(0, abs=1e-6)
        assert np.std(normal, ddof=1) == pytest.approx(1, abs=1e-6)


def test_what_is_done_is_not_done_again(workspace: Workspace):
    run, _ = make_run(workspace, agent_recipe(loop={"rounds": 1, "checkpoint_every": 1}))
    results = run.go()
    before = remains(workspace, run)
    again = Run(workspace, run.recipe, Nothing())
    assert again.id == run.id
    assert again.go() == results
    assert remains(workspace, run) == before


def test_the_next_round_goes_on_from_the_policy_of_the_last(workspace: Workspace):
    run, _ = make_run(workspace, agent_recipe())
    run.go()

    def series(stage: str, name: str) -> tuple[float, ...]:
        (found,) = workspace.metrics.series(run.id, stage=stage, names=[name])
        return found.values

    # Nothing is learned yet in the first step of the first round; the second starts apart.
    assert series("round-1/policy", "kl")[0] == pytest.approx(0, abs=1e-6)
    assert abs(series("round-2/policy", "kl")[0]) > 1e-4
    assert max(map(abs, series("round-2/policy", "sampler_gap"))) < 1e-5
    stages = stored(workspace, run.id)
    second = workspace.models.get(stages["round-2/policy"]["model"])
    assert second.parents[0] == stages["round-1/policy"]["model"]
    assert second.parents[1:] == tuple(stages["round-2/reward"]["rewards"]["overall"])


def test_dpo_needs_no_reward_model(workspace: Workspace):
    rates = {"learning_rate": 1e-2}
    algorithm = {"type": "dpo", "batch_size": 7, "epochs": 20, "optimizer": rates}
    recipe = agent_recipe(algorithm=algorithm)
    run, _ = make_run(workspace, recipe)
    results = run.go()
    stages = stored(workspace, run.id)
    assert not any(key.endswith("/reward") for key in stages)
    assert {m.stage for m in workspace.models.all()} == {"base", "policy"}
    assert set(results[0].means) == {"gold", "length", "truncated"}
    final = lineage(workspace, results[-1].model)
    assert set(final.annotators) == {e.annotator for e in workspace.journal.active()}
    (loss,) = workspace.metrics.series(run.id, "round-1/policy", ["loss"])
    # Teachers err, so that some pairs cannot be learned; a dozen runs all stayed below 0.6.
    assert loss.values[0] == pytest.approx(np.log(2))
    assert np.mean(loss.values[-8:]) < 0.6


def test_both_databases_hold_the_same_run(tmp_path: Path, postgresql):
    left = []
    for name, address in (("one", None), ("two", postgresql.new_database("template0"))):
        with Workspace.create(tmp_path / name, address) as workspace:
            run, _ = make_run(workspace, agent_recipe())
            run.go()
            left.append(remains(workspace, run))
    assert left[0] == left[1]


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        ({"evaluation": {"prompts": 3}}, "fewer held-out clips"),
        ({"evaluation": {"prompts": 6, "samples_per_prompt": 3}}, "more held-out clips"),
        ({"evaluation": {"prompts": 6, "examples": 5}}, "more examples"),
        ({"evaluation": {"prompts": 6, "confidence": 0.5}}, "narrower"),
        ({"loop": {"rounds": 2}}, "more rounds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_setting_of_loop_and_evaluation_changes_it(change, grows, tmp_path: Path):
    plain = {"evaluation": {"prompts": 6, "examples": 2}, "loop": {"rounds": 1}}
    found = []
    for i, settings in enumerate((plain, {**plain, **change})):
        with Workspace.create(tmp_path / str(i)) as workspace:
            run, _ = make_run(workspace, agent_recipe(**settings))
            results = run.go()
            stages = stored(workspace, run.id)
            win = results[0].win_rate
            found.append(
                {
                    "clips": len(stages["baseline"]["samples"]),
                    "examples": len(results[0].examples),
                    "width": win.high - win.low,
                    "rounds": len(results),
                }
            )
    usual, other = found
    expected = {
        "fewer held-out clips": other["clips"] == 3,
        "more held-out clips": other["clips"] == 18,
        "more examples": (usual["examples"], other["examples"]) == (2, 5),
        "narrower": other["width"] < 0.7 * usual["width"],
        "more rounds": (usual["rounds"], other["rounds"]) == (1, 2),
    }
    assert expected[grows]
    assert usual["clips"] == 6


def test_an_axis_without_feedback_is_an_error_that_names_what_there_is(workspace: Workspace):
    data = agent_recipe(reward={"axes": ["smooth"], "heldout": 0.25})
    data["feedback"] |= {"kinds": ["safety_flag"], "use": "workspace"}
    run, _ = make_run(workspace, data)
    with pytest.raises(TrainingError, match="no feedback on axis 'smooth'") as caught:
        run.go()
    assert "feedback on: safe." in caught.value.hint


def test_feedback_of_the_whole_workspace_or_of_the_run(workspace: Workspace):
    first, _ = make_run(workspace, agent_recipe(loop={"rounds": 1}))
    first.go()
    sizes = {}
    for use in ("run", "workspace"):
        feedback = {"gold": "environment", "prompts": 14, "use": use}
        run, _ = make_run(workspace, agent_recipe(seed=1, feedback=feedback, loop={"rounds": 1}))
        run.go()
        stages = stored(workspace, run.id)
        sizes[use] = stages["round-1/feedback"]["entries"]
    total = len(workspace.journal.active())
    assert sizes["run"] < sizes["workspace"] == total


def test_models_without_a_name_are_called_after_run_and_stage(workspace: Workspace):
    run, _ = make_run(workspace, agent_recipe(loop={"rounds": 1}))
    run.go()
    names = [m.name for m in workspace.models.all()]
    assert names == ["point/start", "point/round-1/reward/overall-0", "point/round-1/policy"]


def test_the_shipped_recipe_of_an_agent_learns(tmp_path: Path):
    recipe: Recipe = load_recipe("point", ["loop.rounds=1"])
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, recipe.model_dump(mode="json"))
        (result,) = run.go()
    means = result.means["gold"]
    assert means.after > means.before + 5
    assert result.win_rate.low > 0.5


def test_teachers_are_asked_on_each_axis_that_has_a_reward_model(workspace: Workspace):
    reward = {"axes": ["smooth", "quick"], "heldout": 0.25, "batch_size": 4}
    run, _ = make_run(workspace, agent_recipe(reward=reward, loop={"rounds": 1}))
    run.go()
    asked = [entry.axis for entry in workspace.journal.active()]
    assert sorted(asked) == ["quick"] * 14 + ["smooth"] * 14
    models = [m.name for m in workspace.models.all() if m.stage == "reward"]
    assert models == ["point/round-1/reward/smooth-0", "point/round-1/reward/quick-0"]

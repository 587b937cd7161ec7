"""Runs, stages and metrics: a resumed run finds what it left, and repeats nothing."""

import math

import pytest

from backflip.errors import WorkspaceError
from backflip.records.plan import BASELINE, POLICY, SAMPLE
from backflip.records.results import RolloutResult
from backflip.workspace import Workspace


def test_a_run_is_taken_up_again(workspace: Workspace) -> None:
    recipe = {"rounds": 2, "model": {"name": "tiny"}}
    run = workspace.runs.start("run-1", "first", recipe, "0.1")
    assert (run.id, run.name, run.recipe, run.version) == ("run-1", "first", recipe, "0.1")
    assert (run.status, run.finished) == ("running", None)
    workspace.runs.finish("run-1", "failed")
    assert workspace.runs.get("run-1").status == "failed"
    assert workspace.runs.get("run-1").finished is not None
    assert workspace.runs.start("run-1", "first", recipe, "0.1") == run
    assert workspace.runs.all() == [run]


def test_a_run_is_not_taken_up_with_another_recipe(workspace: Workspace) -> None:
    run = workspace.runs.start("run-1", "first", {"rounds": 2}, "0.1")
    with pytest.raises(WorkspaceError, match="another recipe"):
        workspace.runs.start("run-1", "first", {"rounds": 3}, "0.1")
    assert workspace.runs.all() == [run]


def test_unknown_runs_are_named(workspace: Workspace) -> None:
    for act in (
        lambda: workspace.runs.get("run-9"),
        lambda: workspace.runs.finish("run-9"),
        lambda: workspace.stages.begin("run-9", "sft"),
        lambda: workspace.metrics.log("run-9", "sft", 0, {"loss": 1.0}),
    ):
        with pytest.raises(WorkspaceError, match="no run 'run-9'"):
            act()


def test_a_stage_is_done_once(workspace: Workspace) -> None:
    workspace.runs.start("run-1", "first", {}, "0.1")
    stages, key = workspace.stages, SAMPLE.key(1)
    stages.begin("run-1", key)
    stages.begin("run-1", key)
    assert stages.result("run-1", key, SAMPLE) is None
    result = RolloutResult(model="model-1", samples=("s1", "s2"))
    assert stages.finish("run-1", key, result) == result
    assert stages.finish("run-1", key, result) == result
    stages.begin("run-1", key)
    assert stages.result("run-1", key, SAMPLE) == result
    with pytest.raises(WorkspaceError, match="another result already"):
        stages.finish("run-1", key, RolloutResult(model="model-2", samples=()))
    stages.begin("run-1", POLICY.key(1))
    assert [(s.key, s.is_done) for s in stages.all("run-1")] == [
        ("round-1/sample", True),
        ("round-1/policy", False),
    ]
    assert stages.results("run-1", SAMPLE) == {key: result}
    assert stages.results("run-1", BASELINE) == {}
    assert stages.result("run-1", "never", SAMPLE) is None


def test_a_repeated_step_is_the_same_row(workspace: Workspace) -> None:
    workspace.runs.start("run-1", "first", {}, "0.1")
    workspace.runs.start("run-2", "second", {}, "0.1")
    log, series = workspace.metrics.log, workspace.metrics.series
    log("run-1", "policy", 1, {"kl": 0.5, "loss": math.nan})
    log("run-1", "policy", 0, {"kl": 0.25, "loss": math.inf})
    log("run-1", "evaluation", 0, {"kl": 9.0})
    log("run-2", "policy", 0, {"kl": 7.0})
    log("run-1", "policy", 1, {"kl": 0.75})
    log("run-1", "policy", 5, {})
    kl, loss, other = series("run-1")
    assert (kl.stage, kl.name, kl.steps, kl.values) == ("policy", "kl", (0, 1), (0.25, 0.75))
    assert loss.steps == (0, 1)
    assert loss.values[0] == math.inf
    assert math.isnan(loss.values[1])
    assert (other.stage, other.values) == ("evaluation", (9.0,))
    assert series("run-1", "policy", ["kl"]) == [kl]
    assert series("run-1", "evaluation") == [other]
    assert series("run-3") == []

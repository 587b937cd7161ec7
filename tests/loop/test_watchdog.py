"""What is flagged while a policy is trained, and that a resumed run flags the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import agent_recipe, make_run, warned

from backflip.loop import Run
from backflip.loop.stage import Stage
from backflip.loop.stages import baseline, start
from backflip.loop.stages.monitoring import PolicyMonitor, flag_measured, usual_length
from backflip.records.figures import KeptInterval
from backflip.records.plan import EVALUATE
from backflip.records.results import EvaluationResult, KeptSides
from backflip.reporter import Silent
from backflip.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def stage(workspace: Workspace) -> Stage:
    run, _ = make_run(workspace, agent_recipe(loop={"warn_kl": 5.0, "warn_length": 2.0}))
    run.begin()
    return Stage(run, "round-1/policy")


def flags(stage: Stage) -> dict[str, tuple[int, ...]]:
    found = stage.workspace.metrics.series(stage.run.id, "round-1/policy/flags")
    return {series.name: series.steps for series in found}


def tell(watchdog: PolicyMonitor, stage: Stage, step: int, **metrics: float) -> None:
    """As `train` does: what was measured is kept, then watched."""
    stage.workspace.metrics.log(stage.run.id, stage.key, step, metrics)
    watchdog(step, metrics)


def test_distance_and_length_are_flagged_above_their_limits_alone(stage: Stage):
    watchdog, reporter = PolicyMonitor(stage), stage.reporter
    tell(watchdog, stage, 1, kl=0.0, length=10.0)
    tell(watchdog, stage, 2, kl=5.0, length=20.0)
    assert flags(stage) == {}
    tell(watchdog, stage, 3, kl=5.1, length=12.0)
    tell(watchdog, stage, 4, kl=2.0, length=20.1)
    tell(watchdog, stage, 5, kl=9.0, length=30.0)
    assert flags(stage) == {"kl": (3, 5), "length": (4, 5)}
    assert len(reporter.warnings) == 2  # each is told once
    assert "round-1/policy, step 3: KL from the reference is 5.1 nats" in reporter.warnings[0]
    assert "samples grew from 10 to 20 actions" in reporter.warnings[1]


def test_a_resumed_run_holds_lengths_against_the_first_step(stage: Stage):
    tell(PolicyMonitor(stage), stage, 1, kl=0.0, length=10.0)
    again = PolicyMonitor(stage)
    tell(again, stage, 2, kl=0.0, length=19.0)
    tell(again, stage, 3, kl=0.0, length=21.0)
    assert flags(stage) == {"length": (3,)}


def test_a_stage_without_samples_is_not_flagged(stage: Stage):
    tell(PolicyMonitor(stage), stage, 1, loss=99.0)
    assert flags(stage) == {}


def flagged(workspace: Workspace, data: dict[str, Any]) -> tuple[Run, Silent]:
    run, reporter = make_run(workspace, data)
    run.go()
    return run, reporter


def test_a_policy_that_runs_away_is_flagged_while_it_is_trained(tmp_path: Path):
    algorithm = {
        "type": "ppo",
        "steps": 4,
        "prompts_per_step": 8,
        "kl_beta": 0.0,
        "optimizer": {"learning_rate": 0.05},
    }
    told = {}
    for limit in (0.5, 1e6):
        loop = {"rounds": 1, "warn_kl": limit}
        with Workspace.create(tmp_path / str(limit)) as workspace:
            run, reporter = flagged(workspace, agent_recipe(algorithm=algorithm, loop=loop))
            kl = workspace.metrics.series(run.id, "round-1/policy", ["kl"])[0]
            found = workspace.metrics.series(run.id, "round-1/policy/flags")
            above = tuple(s for s, v in zip(kl.steps, kl.values, strict=True) if v > limit)
            assert (found[0].steps if found else ()) == above
            told[limit] = len(warned(reporter))
    assert told == {0.5: 1, 1e6: 0}


def test_lengths_are_held_against_the_starting_model_not_against_the_stages_own(stage: Stage):
    """A policy that grows by less than the factor in every round is flagged in the second."""
    watchdog = PolicyMonitor(stage, usual=10.0)
    tell(watchdog, stage, 1, length=19.0)
    tell(watchdog, stage, 2, length=20.0)
    assert flags(stage) == {}
    tell(watchdog, stage, 3, length=21.0)
    assert flags(stage) == {"length": (3,)}
    assert "samples grew from 10 to 21 actions" in stage.reporter.warnings[0]


def test_what_is_usual_is_the_mean_number_of_actions_of_the_baseline(workspace: Workspace):
    run, _ = make_run(workspace, agent_recipe())
    run.begin()
    begun = run.stage("start", start)
    stage = Stage(run, "round-1/policy")
    assert usual_length(stage, begun.model) is None
    said = run.stage("baseline", baseline, begun).samples
    steps = [len(s.clip.actions) for s in workspace.samples.get(said).values()]
    assert len(steps) == 6
    assert usual_length(stage, begun.model) == sum(steps) / 6
    assert usual_length(stage, "another") is None


def measured(kl: float, after: float) -> EvaluationResult:
    return EvaluationResult(
        model="policy",
        against="base",
        prompts=4,
        judged_by=None,
        means={"length": KeptSides(before=8.0, after=after)},
        kl=KeptInterval(value=kl, low=kl, high=kl),
        examples=(),
    )


@pytest.mark.parametrize(
    ("kl", "after", "expected"),
    [(5.0, 16.0, set()), (5.1, 16.0, {"kl"}), (0.0, 16.1, {"length"}), (9, 99, {"kl", "length"})],
)
def test_what_an_evaluation_measures_is_flagged_where_the_policy_was_trained(
    stage: Stage, kl: float, after: float, expected: set[str]
):
    stage.workspace.metrics.log(stage.run.id, "round-1/policy", 4, {"loss": 1.0})
    evaluation = Stage(stage.run, "round-1/evaluate")
    flag_measured(evaluation, measured(kl, after))
    assert flags(stage) == dict.fromkeys(expected, (4,))
    assert len(stage.reporter.warnings) == len(expected)
    flag_measured(evaluation, measured(kl, after))  # done again after it was cut off
    assert len(stage.reporter.warnings) == len(expected)


def test_a_policy_trained_on_pairs_that_runs_away_is_flagged(tmp_path: Path):
    algorithm: dict[str, Any] = {"type": "dpo", "epochs": 8, "batch_size": 4, "beta": 0.01}
    algorithm["optimizer"] = {"learning_rate": 0.05}
    for limit, names in ((0.5, {"kl"}), (1e6, set())):
        loop = {"rounds": 1, "warn_kl": limit, "warn_length": 99.0}
        with Workspace.create(tmp_path / str(limit)) as workspace:
            run, reporter = flagged(workspace, agent_recipe(algorithm=algorithm, loop=loop))
            result = workspace.stages.result(run.id, "round-1/evaluate", EVALUATE)
            assert result.kl.value > 0.5
            found = workspace.metrics.series(run.id, "round-1/policy/flags")
            assert {series.name for series in found} == names
            assert len(reporter.warnings) == len(names)

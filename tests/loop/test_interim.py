"""What a run does while it waits for people: measures what their answers are worth, asks again."""

import time
from typing import Any

import pytest
import torch
from loop_helpers import weights_of
from people_helpers import answer_all, people, preference, under_way

from backflip.errors import BusyError, SettingsError
from backflip.loop.stages import interim
from backflip.quality.report import measure_quality
from backflip.records.plan import FEEDBACK, REWARD
from backflip.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interim, "MIN_HELDOUT", 1)


def answer(workspace: Workspace, number: int) -> None:
    """Answer so many questions, as they come."""
    given = 0
    while given < number:
        task = workspace.queue.next("mia")
        if task is None:
            time.sleep(0.02)
            continue
        workspace.queue.answer(task.id, "mia", preference(workspace, task))
        given += 1


def answered(workspace: Workspace, data: dict[str, Any], *names: str) -> dict[str, Any]:
    with under_way(workspace, data) as outcome:
        answer_all(workspace, names or ("mia",), outcome)
    assert "error" not in outcome
    return outcome


def one_round(**change: Any) -> dict[str, Any]:
    data = people(prompts=20, **change)
    return data | {"loop": {"rounds": 1}}


def accuracies(workspace: Workspace, run: Any) -> dict[str, list[tuple[int, float, float]]]:
    """Answers, accuracy and held-out answers, by stage."""
    found = workspace.metrics.series(run.id, names=("heldout_accuracy", "heldout_answers"))
    by = {(series.stage, series.name): series for series in found}
    return {
        stage: list(
            zip(series.steps, series.values, by[stage, "heldout_answers"].values, strict=True)
        )
        for (stage, name), series in by.items()
        if name == "heldout_accuracy"
    }


def test_a_reward_model_is_measured_while_answers_come(workspace: Workspace, tmp_path: Any):
    with under_way(workspace, one_round(retrain_every=4)) as outcome:
        run = outcome["run"]
        answer(workspace, 12)
        while "round-1/feedback/overall" not in accuracies(workspace, run):
            assert "error" not in outcome
            time.sleep(0.02)
        answer(workspace, 8)
    assert "error" not in outcome
    found = accuracies(workspace, run)
    assert set(found) == {"round-1/feedback/overall", "round-1/reward/overall"}
    steps = [number for number, _, _ in found["round-1/feedback/overall"]]
    assert steps
    assert all(4 <= number <= 20 for number in steps)
    told = workspace.stages.result(run.id, "round-1/reward", REWARD).reports["overall"]
    (last,) = found["round-1/reward/overall"]
    overall = told.accuracy.overall
    assert last == (told.trained_on + told.heldout, overall.value, overall.count)
    assert any("held-out answers" in text for text in outcome["reporter"].said)
    scores = workspace.scores.of_run(run.id)["overall"]
    compared = {name for e in workspace.journal.active() for name in e.sample_ids}
    assert set(scores) == compared
    assert sum(score.heldout for score in scores.values()) == 2 * told.heldout
    # What is trained meanwhile changes nothing of the round's own models.
    with Workspace.create(tmp_path / "without") as other:
        answered(other, one_round(retrain_every=0))
        assert sorted(map(str, weights_of(other).values())) == sorted(
            map(str, weights_of(workspace).values())
        )


def test_without_it_only_the_round_s_own_model_is_measured(workspace: Workspace):
    outcome = answered(workspace, one_round())
    assert set(accuracies(workspace, outcome["run"])) == {"round-1/reward/overall"}


def test_enough_answers_end_the_training(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    """The round does not wait for a model that is only trained to be looked at."""
    steps: list[int] = []
    real = interim.RewardTrainer.step

    def slow(training: Any, step: int) -> Any:
        steps.append(step)
        while not workspace.queue.progress(run_id, 1).finished:
            pass
        return real(training, step)

    with under_way(workspace, one_round(retrain_every=8)) as outcome:
        run_id = outcome["run"].id
        monkeypatch.setattr(interim, "RewardTrainer", _Slow(slow))
        answer(workspace, 12)
        while not steps:
            assert "error" not in outcome
            time.sleep(0.02)
        answer(workspace, 8)
    assert "error" not in outcome
    assert steps == [0]
    assert "round-1/feedback/overall" not in accuracies(workspace, outcome["run"])


class _Slow:
    """`RewardTrainer` with another `step`, for the interim models alone."""

    def __init__(self, step: Any):
        self._step = step
        self._real = interim.RewardTrainer

    def __call__(self, *given: Any) -> Any:
        training = self._real(*given)
        training.step = lambda step: self._step(training, step)  # type: ignore[method-assign]
        return training


def test_too_few_answers_are_no_fault(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interim, "MIN_HELDOUT", 1000)
    outcome = answered(workspace, one_round(retrain_every=1))
    assert set(accuracies(workspace, outcome["run"])) == {"round-1/reward/overall"}


@pytest.mark.parametrize(
    "error", [SettingsError("too long"), BusyError("locked"), torch.OutOfMemoryError("full")]
)
def test_a_fault_of_a_model_to_look_at_does_not_end_the_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(interim, "RewardTrainer", fail)
    with under_way(workspace, one_round(retrain_every=8)) as outcome:
        warnings = outcome["reporter"].warnings
        answer(workspace, 12)
        while not any("no reward model yet" in text and str(error) in text for text in warnings):
            assert "error" not in outcome
            time.sleep(0.02)
        answer(workspace, 8)
    assert "error" not in outcome
    assert set(accuracies(workspace, outcome["run"])) == {"round-1/reward/overall"}


def test_anchors_are_asked_again_in_later_rounds(workspace: Workspace):
    data = people(anchors=3, project="Main") | {"loop": {"rounds": 3}}
    outcome = answered(workspace, data, "mia", "noah")
    run = outcome["run"]
    asked = [
        {task.sample_ids for task in workspace.batches.questions(run.id, number)}
        for number in (1, 2, 3)
    ]
    assert [len(each) for each in asked] == [8, 11, 11]
    assert asked[0] & asked[1] == asked[0] & asked[2]
    assert len(asked[0] & asked[1]) == 3
    (batch, *_) = workspace.batches.all()
    drift = measure_quality(workspace, batch.project)["drift"]
    assert [(row["earlier"], row["later"], row["num_anchors"]) for row in drift] == [
        ("point, round 1", "point, round 2", 3),
        ("point, round 2", "point, round 3", 3),
    ]
    # They are answers like others: the snapshot of the round holds them.
    told = workspace.stages.result(run.id, "round-3/feedback", FEEDBACK)
    assert told.entries == 8 + 11 + 11


def test_more_anchors_than_there_were_questions(workspace: Workspace):
    data = people(anchors=100) | {"loop": {"rounds": 2}}
    outcome = answered(workspace, data)
    assert workspace.queue.progress(outcome["run"].id, 2).items == 16


def test_a_run_may_learn_from_all_of_its_project(workspace: Workspace):
    def entries(seed: int, **change: Any) -> int:
        data = people(**change) | {"loop": {"rounds": 1}, "seed": seed}
        run = answered(workspace, data)["run"]
        return workspace.stages.result(run.id, "round-1/feedback", FEEDBACK).entries

    assert entries(1, project="Ours") == 8
    assert entries(2, project="Others") == 8
    assert entries(3, project="Ours", use="project") == 16
    assert entries(4, project="Others", use="project") == 16
    assert entries(5, project="Ours", use="workspace") == 40
    assert entries(6, project="Ours", use="run") == 8

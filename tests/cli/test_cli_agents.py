"""The whole loop of agents by one command, its report, and stages of its own."""

import fcntl
import random
import re
from pathlib import Path

import pytest
from cli_desk import Outcome, backflip, done

from backflip.records.plan import stage_of
from backflip.workspace import Workspace
from fuzzing import copied
from stored_results import damages, store, stored


def test_run_tells_what_it_does_and_what_came_of_it(agent_run: Outcome) -> None:
    for told in ("Sampling", "Asking teachers", "Reward", "Policy"):
        assert re.search(rf"^{told} +\d+ \w+, [\d.]+ s", agent_run.err, flags=re.MULTILINE)
    assert "\x1b" not in agent_run.err, "no bars where nobody looks"
    for told in ("finished", "win rate", "KL ", "reward model", "Report: "):
        assert told in agent_run.out
    report = Path(agent_run.out.split("Report: ")[1].strip())
    assert "<svg" in report.read_text()


def test_run_again_does_nothing_again(agent_run: Outcome) -> None:
    with Workspace.open("agents") as workspace:
        before = workspace.models.all(), workspace.journal.count()
    again = done("run", "point.toml", "-w", "agents")
    assert again.out == agent_run.out
    assert not again.err
    with Workspace.open("agents") as workspace:
        assert (workspace.models.all(), workspace.journal.count()) == before


def test_report_is_written_again(agent_run: Outcome) -> None:
    run = re.findall(r"\((run-[0-9a-f]+)\)", agent_run.out)[0]
    result = done("report", run, "-w", "agents", "--json").json
    assert result["run"] == run
    page = Path(result["report"])
    text = page.read_text()
    page.unlink()
    done("report", result["run"], "-w", "agents")
    assert page.read_text() == text


def test_samples_are_told_as_clips(agent_run: Outcome) -> None:
    rows = done("sample", "point.toml", "-w", "agents", "--json").json
    assert len(rows) == 20 * 2
    assert {row["length"] for row in rows} == {6}
    assert all(row["reply"] is None and row["truncated"] for row in rows)
    assert "a clip of 6 steps (cut off)" in done("sample", "point.toml", "-w", "agents").out


def test_pairs_and_rewards_train_agents(agent_run: Outcome) -> None:
    reward = done("reward", "point.toml", "-w", "agents", "--json").json["rewards"]["overall"][0]
    for extra in (["--reward", reward], ["algorithm=dpo", "algorithm.batch_size=8"]):
        model = done("policy", "point.toml", "-w", "agents", "--json", *extra).json
        result = done("evaluate", model["id"], "point.toml", "-w", "agents", "--json").json
        assert result["judged_by"] == "gold"


def test_feedback_on_other_environments_is_left_out(agent_run: Outcome) -> None:
    """A workspace may hold text and several environments; a reward model learns from its own."""
    other = ("prompts.source=env:CartPole-v1", "name=pole", "-w", "agents", "--json")
    told = done("label", "point.toml", *other).json
    own = done("reward", "point.toml", "-w", "agents", "--json").json
    others = done("reward", "point.toml", *other).json
    assert others["snapshot"] == told["snapshot"] != own["snapshot"]
    with Workspace.open("agents") as workspace:
        learned = set(workspace.snapshots.rows(own["snapshot"]))
        assert not learned & set(workspace.snapshots.rows(told["snapshot"]))


@pytest.mark.parametrize(
    ("status", "fault"), [("failed", "feedback.teachers=[{skips = 1.0}]"), ("stopped", None)]
)
def test_how_a_run_ended_is_kept(desk: Path, status: str, fault: str | None) -> None:
    folder = f"ended-{status}"
    if fault is None:  # single stages leave a run that is not finished
        done("sample", "point.toml", "-w", folder)
    else:
        assert backflip("run", "point.toml", fault, "-w", folder).code == 1
    with Workspace.open(folder) as workspace:
        assert [run.status for run in workspace.runs.all()] == [status]
    assert f"{status}" in done("report", "-w", folder).out.splitlines()[0]


def test_stages_leave_a_finished_run_finished(agent_run: Outcome) -> None:
    done("sample", "point.toml", "-w", "agents")
    run = re.search(r"run-\w+", agent_run.out)
    assert run is not None
    with Workspace.open("agents") as workspace:
        assert workspace.runs.get(run[0]).status == "finished"


def test_two_processes_do_not_work_on_one_run(agent_run: Outcome) -> None:
    (run,) = [
        path for path in Path("agents/artifacts/runs").iterdir() if path.name in agent_run.out
    ]
    with (run / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcome = backflip("run", "point.toml", "-w", "agents", "--json")
    assert outcome.code == 1
    assert "another process" in outcome.json["error"]["what"]
    with Workspace.open("agents") as workspace:
        assert workspace.runs.get(run.name).status == "finished"


READS = {
    "run": ("check", "start", "baseline", "sample", "feedback", "reward", "policy", "evaluate"),
    "report": ("feedback", "reward", "policy", "evaluate"),
    "sample": ("start", "sample"),
    "label": ("start", "sample", "feedback"),
    "reward": ("start", "baseline"),
    "policy": ("start",),
    "evaluate": ("start", "baseline"),
}
"""Results that a command goes on from, or tells."""


@pytest.mark.parametrize("command", READS)
def test_a_damaged_result_is_told_in_words_by_who_reads_it(
    agent_run: Outcome, tmp_path: Path, command: str
) -> None:
    folder, draw = copied(Path("agents"), tmp_path / "w"), random.Random(0)
    given = [] if command == "report" else ["point.toml"]
    with Workspace.open(folder) as workspace:
        run = re.findall(r"\((run-[0-9a-f]+)\)", agent_run.out)[0]
        keys = reversed(stored(workspace, run))  # the first of a kind is the run's own
        kept = {kind.name: key for key in keys if (kind := stage_of(key)) is not None}
        models = {model.stage: model.id for model in workspace.models.all() if model.run == run}
        given = {"report": [run], "evaluate": [models["policy"], *given]}.get(command, given)
        given += ["--reward", models["reward"]] if command == "policy" else []
        for name in READS[command]:
            key = kept[name]
            whole = stored(workspace, run)[key]
            place, damaged = draw.choice([*damages(name)][1:])
            store(workspace, run, key, damaged)
            told = backflip(command, *given, "-w", folder)
            store(workspace, run, key, whole)
            assert told.code == 1, (place, told.err)
            for word in (f"stage {key} of run {run}", place, "backflip doctor"):
                assert word in told.err, (place, told.err)
            assert "Traceback" not in told.err

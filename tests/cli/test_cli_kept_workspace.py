"""A workspace and recipes from before the layers were drawn anew open, say the same, and go on.

The archive was made by the program as it was on 30 November 2026: a finished run of a text model
through all stages; a run of an agent that was killed three steps before the end of its second
round; an entry of every kind, one of them taken back; a project with a member, questions that
were answered, skipped and drafted, and a chat. `expected.json` in it is what that program said.
"""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_desk import done

from backflip.loop import Run, load_recipe, make_domain
from backflip.records.feedback import parse_feedback
from backflip.records.plan import STAGES
from backflip.reporter import Silent
from backflip.workspace import Workspace
from backflip.workspace.database import schema

ARCHIVE = Path(__file__).parent / "kept_workspace.tar.xz"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(unpacked, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def expected(old: Path) -> dict[str, Any]:
    return json.loads((old / "expected.json").read_text().replace("{here}", str(old)))


@pytest.fixture
def workspace(old: Path) -> Iterator[Workspace]:
    with Workspace.open(old / "work") as opened:
        yield opened


def test_tables_and_their_columns_keep_their_names(expected: dict[str, Any]) -> None:
    now = {table.name: {c.name for c in table.columns} for table in schema.metadata.sorted_tables}
    for name, columns in expected["tables"].items():
        assert set(columns) <= now[name]


def test_content_keeps_its_ids(workspace: Workspace, expected: dict[str, Any]) -> None:
    active = list(workspace.journal.active())
    assert [entry.id for entry in active] == expected["ids"]
    assert {entry.kind for entry in active} >= {"correction", "ranking", "safety_flag", "implicit"}
    for entry in active:
        assert parse_feedback(entry.model_dump(mode="json")).id == entry.id
    wanted = {id for entry in active for id in entry.sample_ids}
    for id, sample in workspace.samples.get(wanted).items():
        assert (
            type(sample)
            .of(
                sample.prompt,
                sample.content,
                **{
                    name: getattr(sample, name)
                    for name in ("model", "weights_version", "settings", "seed", "index")
                },
            )
            .id
            == id
        )
        assert sample.prompt.id in expected["prompts"]


@pytest.mark.parametrize("name", ["models", "feedback", "quality"])
def test_commands_say_what_they_said(name: str, expected: dict[str, Any]) -> None:
    commands = {
        "models": ["models", "--workspace", "work", "--json"],
        "quality": ["quality", "--workspace", "work", "--json", "--project", "main"],
        "feedback": ["feedback", "stats", "--workspace", "work", "--json"],
    }
    assert done(*commands[name]).json == json.loads(expected["cli"][name])


def test_nothing_of_it_is_damaged(old: Path) -> None:
    assert done("doctor", "work", "--json").json["findings"] == []


def results_of(workspace: Workspace, run: str) -> dict[str, Any]:
    """What is kept of every stage that is done."""
    return {
        key: result.kept()
        for kind in STAGES.values()
        for key, result in workspace.stages.results(run, kind).items()
    }


def test_a_run_that_was_killed_goes_on(workspace: Workspace, expected: dict[str, Any]) -> None:
    before = results_of(workspace, expected["agent_run"])
    assert before
    recipe = load_recipe(Path("agent.toml"))
    run = Run(workspace, recipe, make_domain(recipe, workspace), Silent())
    assert run.id == expected["agent_run"]
    run.go()
    after = results_of(workspace, run.id)
    assert {key: after[key] for key in before} == before
    assert set(after) == set(expected["agent_results"])
    for key, result in expected["agent_results"].items():
        assert set(after[key]) == set(result), key
    metrics = [[s.stage, s.name, list(s.steps)] for s in workspace.metrics.series(run.id)]
    assert sorted(metrics) == sorted(expected["agent_metrics"])
    assert workspace.runs.get(run.id).status == "finished"


def test_a_finished_run_is_reported_as_it_was(expected: dict[str, Any]) -> None:
    assert "Report:" in done("report", "--workspace", "work", expected["text_run"]).out

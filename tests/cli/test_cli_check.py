"""backflip check says what keeps a recipe from working, and does nothing else."""

from pathlib import Path

import pytest
from cli_desk import backflip, done


@pytest.fixture
def here(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the recipe of an agent."""
    (tmp_path / "point.toml").write_text((desk / "point.toml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_that_works(here: Path):
    told = done("check", "point.toml", "--json").json
    assert told["works"] is True
    assert told["problems"] == []
    assert told["checked"]["prompts"] == {"train": 20, "heldout": 4}
    # 4 at the start, then 20 twice to ask about, 2 steps of 8, and 4 again; at most 6 steps each.
    assert told["checked"]["work"] == {"replies": 64, "tokens": 384}
    assert [path.name for path in here.iterdir()] == ["point.toml"]


def test_all_that_is_wrong_with_a_recipe(here: Path):
    wrong = ("prompts.heldout=1", "prompts.limit=2", "sft.epochs=1")
    outcome = backflip("check", "point.toml", *wrong, "--json")
    assert outcome.code == 1
    assert outcome.json["works"] is False
    places = {problem["where"] for problem in outcome.json["problems"]}
    assert places == {"prompts.heldout", "prompts.source", "sft"}
    told = backflip("check", "point.toml", *wrong)
    assert told.code == 1
    assert "-> Hold out 2 prompts or more" in told.out
    assert "Warnings:\n  feedback.prompts" in told.out


def test_a_run_that_cannot_work_leaves_nothing_behind(here: Path):
    nowhere = ("prompts.source=env:backflip/Nothing-v0", "cannot be made")
    one = ("prompts.heldout=1", "prompts.heldout: of 1 held-out reply")
    for command, (override, told) in {"run": one, "sample": nowhere}.items():
        outcome = backflip(command, "point.toml", override, "-w", "new/place")
        assert outcome.code == 1
        assert told in outcome.err
        assert [path.name for path in here.iterdir()] == ["point.toml"]


def test_a_workspace_that_is_there_is_only_read(here: Path):
    done("sample", "point.toml")
    before = done("models", "--json").json
    assert "can be carried out" in done("check", "point.toml", "evaluation.prompts=2").out
    assert done("models", "--json").json == before

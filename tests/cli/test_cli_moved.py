"""A finished workspace that is moved elsewhere: every command on it works as before."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_desk import Outcome, done

from backflip.workspace import Workspace


@pytest.fixture(params=["point.toml", "tiny.toml"], ids=["agents", "text"])
def recipe(request: pytest.FixtureRequest, desk: Path) -> str:
    """Runs that make their own first model, of random weights."""
    return request.param


def test_a_moved_workspace_works_on(recipe: str, tmp_path: Path) -> None:
    here, there = tmp_path / "first-place", tmp_path / "elsewhere" / "second-place"
    ran = done("run", recipe, "-w", here)
    before = {key: done(*command, "-w", here) for key, command in commands(recipe, here).items()}
    there.parent.mkdir()
    shutil.move(here, there)
    assert traces(there, str(here)) == []
    for key, command in commands(recipe, there).items():
        after = done(*command, "-w", there)
        assert told(after, there, here) == told(before[key], here, here), key
    check_models(there)
    again = done("run", recipe, "-w", there)
    assert again.out.replace(str(there), str(here)) == ran.out
    assert not again.err, "nothing was done again"
    trained = done("policy", recipe, "algorithm=dpo", "-m", policy_of(there), "-w", there, "--json")
    measured = done("evaluate", trained.json["id"], recipe, "-w", there, "--json").json
    assert measured["model"] == trained.json["id"]


def told(outcome: Outcome, folder: Path, shown_as: Path) -> Any:
    """What a command printed, with another name for the workspace's folder."""
    text = outcome.out.replace(str(folder), str(shown_as))
    return json.loads(text) if text[0] in "[{" else text


def commands(recipe: str, folder: Path) -> dict[str, tuple[str, ...]]:
    model = policy_of(folder)
    return {
        "models": ("models", "--json"),
        "lineage": ("lineage", model, "--json"),
        "report": ("report",),
        "evaluate": ("evaluate", model, recipe, "--json"),
        "sample": ("sample", recipe, "-m", model, "--json"),
    }


def policy_of(folder: Path) -> str:
    with Workspace.open(folder) as workspace:
        return next(m.id for m in workspace.models.all() if m.stage == "policy")


def check_models(folder: Path) -> None:
    """No model is called after, or looked for, where the workspace was."""
    rows = done("models", "-w", folder, "--json").json
    for row in rows:
        assert Path(row["folder"]).is_dir()
        assert Path(row["folder"]).is_relative_to(folder)
        for kept in (row["name"], row["path"]):
            assert not kept.startswith("/")
            assert str(folder.parent) not in kept
    base = rows[0]
    assert (base["stage"], base["parents"]) == ("base", [])
    assert base["name"].endswith("/start"), "named after the run, not after where it was made"
    behind = done("lineage", policy_of(folder), "-w", folder, "--json").json["models"]
    assert base["id"] in {model["id"] for model in behind}


def traces(folder: Path, text: str) -> list[str]:
    """Files that hold the text of a path, in whatever they keep."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if text.encode() in path.read_bytes()]

"""An algorithm, an environment, a format and a page, each from one module outside the package."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from loop_helpers import agent_recipe, to_toml

from backflip.algorithms import ALGORITHMS
from backflip.config import load_extensions
from backflip.errors import SettingsError
from backflip.formats import FORMATS, detect, export_file, import_file
from backflip.loop import Run, load_recipe, make_domain
from backflip.records.plan import REWARD, SAMPLE
from backflip.reporter import Silent
from backflip.web import create_app
from backflip.workspace import Workspace

HERE = Path(__file__).parent
REINFORCE = {"type": "reinforce", "steps": 3, "prompts_per_step": 6}


def recipe_beside(folder: Path, module: str, **change: object) -> Path:
    """A recipe that names an extension which lies beside it."""
    shutil.copy(HERE / f"{module}.py", folder)
    data = agent_recipe(loop={"rounds": 1, "checkpoint_every": 2}) | change
    path = folder / "recipe.toml"
    path.write_text(to_toml({"extensions": [module], **data}))
    return path


@pytest.mark.parametrize("module", ["reinforce", "walk", "arrows", "tally"])
def test_one_module_is_all_that_knows_of_it(module: str) -> None:
    names = {"reinforce": '"reinforce"', "walk": "outside/", "arrows": '"arrows"', "tally": "tally"}
    source = HERE.parents[1] / "src"
    files = [*source.rglob("*.py"), *source.rglob("*.js"), *source.rglob("*.html")]
    assert len(files) > 300
    assert [path for path in files if names[module] in path.read_text("utf-8").lower()] == []


def test_an_algorithm_trains_a_policy(untouched: None, ws: Workspace, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    path = recipe_beside(tmp_path, "reinforce", algorithm=REINFORCE)
    recipe = load_recipe(path)
    with pytest.raises(SettingsError, match=r"unknown key 'algorithm\.strenght'"):
        load_recipe(path, ["algorithm.strenght=2"])
    with pytest.raises(SettingsError, match=r"unknown type 'reinforcd'; did you mean 'reinforce'"):
        load_recipe(path, ["algorithm.type=reinforcd"])
    run = Run(ws, recipe, make_domain(recipe, ws), Silent())
    (result,) = run.go()
    steps = ws.metrics.series(run.id, stage="round-1/policy", names=["baseline"])
    assert [len(series.steps) for series in steps] == [3]
    assert result.kl != 0
    assert ws.stages.results(run.id, REWARD)


def test_its_settings_change_what_is_learned(untouched: None, ws: Workspace, tmp_path: Path):
    torch.set_num_threads(1)
    path, learned = recipe_beside(tmp_path, "reinforce", algorithm=REINFORCE), set()
    for strength in (1.0, 3.0):
        recipe = load_recipe(path, [f"algorithm.strength={strength}"])
        run = Run(ws, recipe, make_domain(recipe, ws), Silent())
        (result,) = run.go()
        learned.add(result.kl)
    assert len(learned) == 2


def test_an_agent_acts_in_an_environment(untouched: None, ws: Workspace, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    prompts = {"source": "env:outside/Walk-v0", "heldout": 6, "limit": 30}
    recipe = load_recipe(recipe_beside(tmp_path, "walk", prompts=prompts))
    run = Run(ws, recipe, make_domain(recipe, ws), Silent())
    run.go()
    (drawn,) = ws.stages.results(run.id, SAMPLE).values()
    clips = [sample.clip for sample in ws.samples.get(drawn.samples).values()]
    assert {(clip.environment, clip.num_steps) for clip in clips} == {("outside/Walk-v0", 6)}


def test_a_file_is_read_and_written(untouched: None, ws: Workspace, tmp_path: Path) -> None:
    load_extensions([str(HERE / "arrows.py")])
    path, row = tmp_path / "rows.jsonl", {"question": "Why?", "arrow": "Because. > No."}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"arrow": "Because."}) + "\n")
    assert detect(path).name == "arrows"
    report = import_file(ws, path)
    assert report.entries == 1
    assert [(each.line, each.reason) for each in report.rejected] == [
        (2, "arrow is not two replies with ' > ' between them")
    ]
    written = export_file(ws, tmp_path / "out.jsonl", "arrows")
    assert written.rows == 1
    assert json.loads((tmp_path / "out.jsonl").read_text()) == row


def test_a_page_is_served_to_who_is_signed_in(untouched: None, ws: Workspace) -> None:
    load_extensions([str(HERE / "tally.py")])
    app, user = create_app(ws), ws.people.add("mia", admin=True)
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    assert client.get("/tally", follow_redirects=False).status_code == 303
    key, _ = ws.people.start_session(user.id, 60)
    client.cookies.set("backflip", app.state.context.signer.sign(key))
    page = client.get("/tally")
    assert (page.status_code, "0 answers count." in page.text) == (200, True)
    assert "script-src" in page.headers["content-security-policy"]


def test_what_tests_register_is_gone(untouched: None) -> None:
    assert "reinforce" not in ALGORITHMS
    assert "arrows" not in FORMATS

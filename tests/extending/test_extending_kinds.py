"""A kind of feedback that one module outside of the package brings takes part everywhere."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from loop_helpers import agent_recipe, make_run, to_toml
from terminal_desk import Session, put, replies
from web_helpers import SAMPLES, Browser, ids

from backflip.cli.entry import main
from backflip.config import ServerSettings
from backflip.errors import DamageError, SettingsError
from backflip.evaluation.holding import holdings
from backflip.formats import export_file, import_file
from backflip.loop import load_recipe
from backflip.quality import agreement_figures, read_answers
from backflip.quality.leaderboard import votes_of
from backflip.quality.report import measure_quality
from backflip.records.feedback import KINDS, FeedbackBase, base
from backflip.records.plan import REWARD
from backflip.rewards import LIKELIHOODS
from backflip.web import create_app
from backflip.workspace import Project, Task, Workspace
from backflip.workspace.labelling.attention_checks import right_answer

HERE = Path(__file__).parent
Kind = type[FeedbackBase]


def said(kind: Kind, *samples: str, choice: str = "a", annotator: str = "mia") -> Any:
    return kind.model_validate({"annotator": annotator, "samples": samples, "choice": choice})


def test_one_module_is_all_that_knows_of_it() -> None:
    """Nothing in the program has its name, so adding the kind touched no other file."""
    source = HERE.parents[1] / "src"
    files = [*source.rglob("*.py"), *source.rglob("*.js"), *source.rglob("*.html")]
    assert len(files) > 300
    assert [path for path in files if "funnier" in path.read_text(encoding="utf-8").lower()] == []


def test_a_run_asks_for_it_and_learns_from_it(
    untouched: None, ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe names the module that lies beside it; without, the kind is unknown."""
    torch.set_num_threads(1)
    data = agent_recipe(loop={"rounds": 1, "checkpoint_every": 2})
    data["feedback"] |= {"kinds": ["funnier"]}
    (tmp_path / "without.toml").write_text(to_toml(data))
    with pytest.raises(SettingsError, match=r"feedback\.kinds\.0: should be one of 'comparison'"):
        load_recipe(tmp_path / "without.toml")
    shutil.copy(HERE / "funnier.py", tmp_path / "mine.py")
    for name in ("mine", "mine.py"):
        (tmp_path / "with.toml").write_text(to_toml({"extensions": [name], **data}))
        recipe = load_recipe(tmp_path / "with.toml")
    assert recipe.extensions == (str(tmp_path / "mine.py"),)
    nll, asked = LIKELIHOODS["funnier"], list[int]()
    monkeypatch.setitem(
        LIKELIHOODS, "funnier", lambda table, es: asked.append(len(es)) or nll(table, es)
    )
    run, _ = make_run(ws, recipe.model_dump(mode="json"))
    run.go()
    entries = ws.journal.active()
    assert len(entries) >= 7
    assert {entry.kind_name() for entry in entries} == {"funnier"}
    assert set(holdings(entries)["funnier"]) == {"decides"}
    (rewarded,) = ws.stages.results(run.id, REWARD).values()
    assert asked
    assert rewarded.reports["overall"].accuracy is not None


def test_files_hold_it_and_statistics_count_it(
    funnier: Kind, ws: Workspace, tmp_path: Path
) -> None:
    ws.samples.add(SAMPLES)
    first, second = ids(0, 0, 1)
    votes = [
        said(funnier, first, second, annotator="mia"),
        said(funnier, second, first, choice="b", annotator="ben"),
        said(funnier, first, second, choice="tie", annotator="ada"),
    ]
    ws.journal.add(votes)
    path = tmp_path / "votes.jsonl"
    assert export_file(ws, path, "backflip-jsonl").rows == 3
    with Workspace.create(tmp_path / "other") as other:
        report = import_file(other, path)
        assert (report.new, report.num_rejected) == (3, 0)
        assert sorted(e.id for e in other.journal.active()) == sorted(e.id for e in votes)
    (answers,) = read_answers(ws.journal.active()).values()
    assert (answers.kind, len(answers.units), len(answers)) == ("funnier", 1, 3)
    # The two who named the pair in different orders said the same of it.
    assert sorted(answers.counts()[0].tolist()) == [0, 1, 2]
    assert agreement_figures(answers, np.random.default_rng(0)).kind == "funnier"
    named = {s.id: replace(s, model="other") if s.id == second else s for s in SAMPLES}
    assert [vote.outcome for vote in votes_of(votes, named)] == ["a", "b", "tie"]


@pytest.fixture
def project(ws: Workspace) -> Project:
    ws.samples.add(SAMPLES)
    return ws.projects.create("Jokes")


@pytest.fixture
def browser(ws: Workspace, project: Project) -> Browser:
    app = create_app(ws, ServerSettings())
    user = ws.people.add("mia", admin=True)
    ws.projects.set_role(project.id, user.id, "lead")
    made = Browser(TestClient(app, base_url="http://127.0.0.1:8000"), user)
    key, session = ws.people.start_session(user.id, 3600)
    made.client.cookies.set("backflip", app.state.context.signer.sign(key))
    made.csrf = session.csrf
    return made


def test_the_server_was_there_before_it(browser: Browser, funnier: Kind, project: Project) -> None:
    """A lead puts questions up, a person answers, and the lead reads what was said."""
    here = f"/api/projects/{project.id}"
    batch = {"name": "Jokes", "kind": "funnier", "prompts": 2, "which": "newest"}
    assert browser.post(f"{here}/batches", batch).status_code == 201
    assert ">Which of two is funnier</option>" in browser.open(f"/projects/{project.id}/questions")
    task = browser.post(f"{here}/next", {"besides": []}).json()["task"]
    assert task["form"]["asks"] == "Which reply is funnier?"
    assert [each["value"] for each in task["form"]["options"]] == ["a", "b", "tie"]
    for value, status in (("c", 422), ("b", 200)):
        answer = {"answer": {"kind": "funnier", "value": value}, "seconds": 3}
        assert browser.post(f"/api/tasks/{task['id']}/answer", answer).status_code == status
    answers = browser.open(f"/projects/{project.id}/answers?kind=funnier")
    assert ">B</h2>" in answers.replace("\n", "")
    (kept,) = browser.get(f"{here}/entries").json()["entries"]
    better = kept["entry"]["samples"]["ab".index(kept["entry"]["choice"])]
    shown = next(s for s in SAMPLES if s.id == better)
    assert shown.text == task["samples"][1]["text"]


def test_the_worth_of_annotators_is_measured_by_it(
    funnier: Kind, ws: Workspace, project: Project
) -> None:
    pair = ids(0, 0, 1)
    ws.queue.put("run-1", 0, [Task(kind="funnier", sample_ids=pair)], 2, project=project.id)
    for name in ("mia", "ben"):
        task = ws.queue.next(name, project=project.id)
        assert task is not None
        ws.queue.answer(task.id, name, said(funnier, *pair, annotator=name))
    check = Task(kind="funnier", sample_ids=pair, expected={"choice": "b"})
    assert right_answer(check).preferred_pairs() == [pair[::-1]]
    found = measure_quality(ws, project.id)
    assert [row["kind"] for row in found["agreement"]] == ["funnier"]
    assert [row["habits"][0]["axis"] for row in found["annotators"]] == ["overall"] * 2


@pytest.mark.parametrize(("own", "key"), [(True, "r"), (False, "2")])
def test_a_terminal_asks_for_it(funnier: Kind, ws: Workspace, own: bool, key: str) -> None:
    """By the form that it brings, or by one that is drawn from what its question offers."""
    from backflip.terminal.forms import FORMS

    if not own:
        del FORMS["funnier"]
    ws.runs.start("run-1", "test", {}, "0")
    pair = replies("One.", "Two.")
    put(ws, "funnier", pair)
    session = Session(ws, [key, "x"])
    assert "Which reply is funnier?" in session.seen
    (entry,) = ws.journal.active()
    assert isinstance(entry, funnier)
    assert entry.shown is not None
    assert entry.preferred_pairs()[0][0] == pair[entry.shown[1]].id


def test_without_its_module_an_entry_says_what_is_missing(funnier: Kind, ws: Workspace) -> None:
    ws.samples.add(SAMPLES)
    ws.journal.add([said(funnier, *ids(0, 0, 1))])
    del KINDS["funnier"]
    base._adapter.cache_clear()
    with pytest.raises(DamageError, match="of the kind 'funnier', which is not known") as caught:
        ws.journal.active()
    assert "BACKFLIP_EXTENSIONS" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "FileNotFoundError"),
        ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
        ("def", "SyntaxError"),
        (
            "from backflip.records.feedback import FeedbackBase, Question\n"
            "from typing import Literal\n"
            "class Other(FeedbackBase):\n"
            "    question = Question('?', '?')\n"
            "    kind: Literal['rating'] = 'rating'\n",
            "two kinds of feedback are called 'rating'",
        ),
    ],
)
def test_an_extension_that_fails_is_told_in_words(
    untouched: None, tmp_path: Path, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    (tmp_path / "a.toml").write_text('extensions = ["mine.py"]')
    with pytest.raises(SettingsError, match=told) as caught:
        load_recipe(tmp_path / "a.toml")
    assert "mine.py" in caught.value.what
    assert caught.value.where == "extensions"


def test_a_command_without_a_recipe_reads_its_name_from_the_environment(
    untouched: None, ws: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def export() -> Any:
        with pytest.raises(SystemExit) as left:
            main(
                ["feedback", "export", str(path), "--workspace", str(ws.root), "--kind", "funnier"]
            )
        return left.value.code, capsys.readouterr()

    path = ws.root.parent / "votes.jsonl"
    code, told = export()
    assert code == 1
    assert "no kind 'funnier'" in told.err
    monkeypatch.setenv("BACKFLIP_EXTENSIONS", f"{HERE / 'funnier.py'}, json")
    assert export()[0] == 0
    monkeypatch.setenv("BACKFLIP_EXTENSIONS", "nowhere.py")
    code, told = export()
    assert code == 1
    assert "the extension 'nowhere.py' cannot be imported: FileNotFoundError" in told.err

"""Files in and out by the page's own routes, answers taken back, and the models behind them."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from web_helpers import PAIR, SAMPLES, Browser, SignIn, ids

from backflip.config import ServerSettings
from backflip.formats import FORMATS, Labelled, read
from backflip.records.feedback import Comparison, Demonstration, GoodBad, Rating
from backflip.workspace import ModelRecord, Project, Task, Workspace


@pytest.fixture
def lead(workspace: Workspace, project: Project, sign_in: SignIn) -> Browser:
    """A lead of a project in which two people answered."""
    pairs = [PAIR, Task(kind="comparison", sample_ids=ids(1, 0, 1))]
    workspace.queue.put("run-1", 1, pairs, overlap=2, project=project.id)
    for name in ("mia", "bob"):
        while (task := workspace.queue.next(name, project=project.id)) is not None:
            vote = Comparison(annotator=name, samples=task.sample_ids, choice="a")
            workspace.queue.answer(task.id, name, vote)
    more = [
        GoodBad(annotator="mia", sample=SAMPLES[2].id, good=False),
        Demonstration(annotator="mia", sample=SAMPLES[3].id),
    ]
    workspace.journal.add(more, run="run-1", round=1)
    elsewhere = GoodBad(annotator="mia", sample=SAMPLES[9].id, good=True)
    workspace.journal.add([elsewhere], run="run-of-others", round=1)
    return sign_in("lea", "lead", project)


def upload(browser: Browser, path: str, name: str, content: bytes, **fields: str) -> Any:
    return browser.client.post(
        path,
        files={"file": (name, content)},
        data=fields,
        headers={"x-csrf-token": browser.csrf},
    )


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_goes_out_and_comes_back(
    workspace: Workspace, project: Project, lead: Browser, name: str, tmp_path: Path
) -> None:
    response = lead.get(f"/api/projects/{project.id}/export?format={name}")
    assert response.status_code == 200, response.text
    disposition = response.headers["content-disposition"]
    assert disposition.startswith("attachment; filename=")
    file = tmp_path / disposition.split('"')[1]
    file.write_bytes(response.content)
    rows = list(read(file, name))
    assert len(rows) == int(response.headers["x-backflip-rows"])
    told = [row.entries for row in rows if isinstance(row, Labelled)]
    assert len(told) == len(rows)
    back = upload(lead, f"/api/projects/{project.id}/import", file.name, response.content)
    if name == "rewardbench":  # it holds only what stands in a benchmark of its own
        assert (len(rows), response.headers["x-backflip-left-out"]) == (0, "6")
        return
    assert rows
    assert back.status_code == 200, back.text
    assert back.json()["rejected"] == 0
    again = upload(lead, f"/api/projects/{project.id}/import", file.name, response.content)
    assert again.json()["new"] == 0


def test_only_the_project_s_own_goes_out(
    workspace: Workspace, project: Project, lead: Browser
) -> None:
    path = f"/api/projects/{project.id}/export?kind=comparison"
    rows = lead.get(path).text.splitlines()
    assert [json.loads(row)["entry"]["kind"] for row in rows] == ["comparison"] * 4
    for query in ("format=nothing", "kind=nothing"):
        path = f"/api/projects/{project.id}/export?{query}"
        assert lead.get(path).status_code in (400, 422)


def test_bad_rows_are_told_and_good_ones_kept(
    workspace: Workspace, project: Project, lead: Browser
) -> None:
    good = {"prompt": "Hello?", "chosen": "Hello!", "rejected": "No."}
    rows = [json.dumps(good | {"score": 3}), "{", json.dumps({**good, "chosen": ""})]
    content = "\n".join(rows).encode()
    path = f"/api/projects/{project.id}/import"
    told = upload(lead, path, "../../votes.jsonl", content, axis="kind").json()
    assert (told["file"], told["entries"], told["new"], told["rejected"]) == (
        "votes.jsonl",
        1,
        1,
        2,
    )
    assert told["faults"][0].startswith("line 2: ")
    assert told["ignored"] == {"score": 1}
    (entry,) = workspace.journal.active(axis="kind")
    assert entry.origin == "import:votes.jsonl"
    assert len(lead.get(f"/api/projects/{project.id}/export").text.splitlines()) == 7
    assert upload(lead, path, "x.jsonl", b"").status_code == 400
    assert upload(lead, path, "x.jsonl", b"\xff\xfe\x00").status_code == 400


@pytest.mark.parametrize("settings", [ServerSettings(upload_megabytes=0.01)])
def test_too_large_a_file_is_refused(
    workspace: Workspace, project: Project, lead: Browser, settings: ServerSettings
) -> None:
    before = workspace.journal.count()
    path = f"/api/projects/{project.id}/import"
    assert upload(lead, path, "x.jsonl", b"{}\n" * 10_000).status_code == 413
    assert workspace.journal.count() == before


@pytest.mark.parametrize(
    "name", ["judge:Qwen/Qwen2.5-7B-Instruct", "..", "a b?c=d&e#f%2F", "é" * 500, "\\", "<b>"]
)
def test_whatever_somebody_is_called_the_answers_can_be_taken_back(
    workspace: Workspace, project: Project, lead: Browser, name: str
) -> None:
    asked = Task(kind="rating", sample_ids=ids(2, 0))
    workspace.queue.put("run-1", 2, [asked], project=project.id)
    task = workspace.queue.next(name, project=project.id)
    assert task is not None
    vote = Rating(annotator=name, sample=task.sample_ids[0], level=1)
    workspace.queue.answer(task.id, name, vote)
    page = lead.open(f"/projects/{project.id}/answers?annotator={quote(name, safe='')}")
    assert page.count("<article") == 1
    buttons = re.findall(r'data-withdraw="([^"]*)"', lead.open(f"/projects/{project.id}/data"))
    (address,) = [
        address
        for each in buttons
        if parse_qs(urlsplit(address := unescape(each)).query) == {"annotator": [name]}
    ]
    assert lead.post(address).json()["withdrawn"] == 1
    assert workspace.journal.active(annotator=name) == []


def test_what_is_taken_back_and_what_was_made_from_it(
    workspace: Workspace, project: Project, lead: Browser
) -> None:
    entries = workspace.journal.active(run="run-1", kinds="comparison")
    snapshot = workspace.snapshots.take([entry.id for entry in entries])
    for name, stage, parents in (("start", "base", ()), ("reward", "reward", ("m-start",))):
        workspace.models.register(
            ModelRecord(
                id=f"m-{name}",
                name=name,
                stage=stage,  # pyright: ignore
                path=name,
                parents=parents,
                snapshot=snapshot.id if stage == "reward" else None,
                run="run-1",
            )
        )
    root = f"/api/projects/{project.id}"
    mine = next(entry for entry in entries if entry.annotator == "mia")
    told = lead.post(f"{root}/entries/{mine.id}/withdraw", {"reason": "a slip"}).json()
    assert told == {
        "withdrawn": 1,
        "snapshots": [snapshot.id],
        "reward_models": ["reward"],
        "policies": [],
    }
    assert workspace.journal.history(mine.id)[1].reason == "a slip"
    assert lead.post(f"{root}/entries/{mine.id}/withdraw").json()["withdrawn"] == 0
    told = lead.post(f"{root}/withdraw?annotator=mia").json()
    assert told["withdrawn"] == 3
    left = workspace.journal.active()
    assert [e.annotator for e in left if e.kind == "comparison"] == ["bob", "bob"]
    assert [e.kind for e in left if e.annotator == "mia"] == ["good_bad"]  # not of this project
    other = next(e for e in left if e.kind == "good_bad")
    assert lead.post(f"{root}/entries/{other.id}/withdraw").status_code == 404
    assert lead.post(f"{root}/entries/none/withdraw").status_code == 404
    assert lead.post(f"{root}/withdraw?annotator=mia").status_code == 404
    behind = lead.get(f"{root}/models/m-reward").json()
    assert behind["entries"] == 4
    assert behind["annotators"] == {"mia": 2, "bob": 2}
    assert [each["name"] for each in behind["behind"]] == ["start"]
    assert [each["id"] for each in lead.get(f"{root}/models").json()] == ["m-start", "m-reward"]
    for path in ("models", "models/m-reward", "data"):
        html = lead.open(f"/projects/{project.id}/{path}")
        assert "mia" in html or path == "models"
    workspace.models.register(
        ModelRecord(id="m-other", name="other", stage="base", path="o", run="run-of-others")
    )
    assert lead.get(f"{root}/models/m-other").status_code == 404

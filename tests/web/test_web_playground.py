"""The playground: asked by the page, drawn by a worker, streamed, kept as feedback."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from web_helpers import Browser, SignIn

from backflip.records import Completion, Sample
from backflip.records.feedback import Comparison
from backflip.workspace import ModelRecord, Project, Workspace
from backflip.workspace.database import schema

ASK = {"messages": [{"role": "user", "content": "Hello?"}], "seed": 7, "max_tokens": 5}


@pytest.fixture
def lead(workspace: Workspace, project: Project, sign_in: SignIn) -> Browser:
    for name, stage in (("start", "base"), ("better", "policy"), ("judge", "reward")):
        workspace.models.register(
            ModelRecord(id=f"m-{name}", name=name, stage=stage, path=name)  # pyright: ignore
        )
    return sign_in("lea", "lead", project)


def draw(workspace: Workspace) -> None:
    """What the worker does, with texts of our own."""
    while found := workspace.generations.take("worker", 1):
        (each,) = found
        text = f"{each.model} <b>says</b> {each.settings['temperature']}"
        workspace.generations.write("worker", {each.id: text[:4]})
        sample = Sample.of(
            each.prompt, Completion(text=text, finish="stop"), model=each.model, seed=each.seed
        )
        workspace.generations.finish("worker", {each.id: sample})


def ask(lead: Browser, project: Project, **change: Any) -> Any:
    body = {**ASK, "models": ["m-start", "better"], **change}
    return lead.post(f"/api/projects/{project.id}/playground", body)


def test_replies_side_by_side_become_feedback(
    workspace: Workspace, project: Project, lead: Browser
) -> None:
    page = lead.open(f"/projects/{project.id}/playground")
    assert "No worker is there" in page
    assert "judge" not in page
    workspace.generations.note_worker("worker")
    assert "No worker is there" not in lead.open(f"/projects/{project.id}/playground")
    told = ask(lead, project, temperature=0.5).json()
    assert (told["seed"], told["worker"]) == (7, True)
    ids = told["generations"]
    found = [workspace.generations.get(name) for name in ids]
    assert [each.model for each in found] == ["m-start", "m-better"]
    assert all(each.settings["max_tokens"] == 5 for each in found)
    root = f"/api/projects/{project.id}"
    compare = {"a": ids[0], "b": ids[1], "choice": "b", "strength": 2}
    assert lead.post(f"{root}/playground/compare", compare).status_code == 409
    draw(workspace)
    query = "&".join(f"id={name}" for name in ids)
    with lead.client.stream("GET", f"{root}/generations/events?{query}") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data:")]
    shown = json.loads(lines[-1].removeprefix("data:"))
    assert [each["state"] for each in shown] == ["done", "done"]
    assert "&lt;b&gt;says&lt;/b&gt; 0.5" in shown[0]["html"]
    assert shown == lead.get(f"{root}/generations?{query}").json()
    assert lead.post(f"{root}/playground/compare", compare).status_code == 200
    lead.post(f"{root}/playground/compare", {**compare, "choice": "tie", "strength": 0})
    (entry,) = workspace.journal.active()
    assert isinstance(entry, Comparison)
    assert (entry.choice, entry.shown, entry.annotator) == ("tie", (0, 1), lead.user.annotator)
    samples = workspace.samples.get(entry.samples)
    assert [sample.model for sample in samples.values()] == ["m-start", "m-better"]
    lines = lead.get(f"{root}/export").text.splitlines()
    assert len(lines) == 1


def test_the_newest_word_on_two_replies_counts_once(
    workspace: Workspace, project: Project, lead: Browser
) -> None:
    hook = workspace.webhooks.add(project.id, "https://example.org/", ["answer"])
    ids = ask(lead, project).json()["generations"]
    draw(workspace)
    kept = []
    for choice in ("b", "b", "tie", "b"):
        body = {"a": ids[0], "b": ids[1], "choice": choice, "strength": 0}
        told = lead.post(f"/api/projects/{project.id}/playground/compare", body).json()
        (entry,) = workspace.journal.active()
        assert (entry.id, entry.choice) == (told["entry"], choice)  # pyright: ignore
        kept.append(entry.id)
        assert workspace.batches.shares(project.id) == {lead.user.annotator: (1, 0)}
    assert kept[0] == kept[1] != kept[3]
    (batch,) = workspace.batches.all(project.id)
    assert (batch.name, batch.purpose, batch.done) == ("Playground", "asides", 1)
    with workspace.database.read() as connection:
        query = sa.select(schema.deliveries.c.body).where(schema.deliveries.c.webhook == hook.id)
        bodies = [str(body) for body in connection.execute(query).scalars()]
    assert [sum(name in body for body in bodies) for name in dict.fromkeys(kept)] == [1, 1, 1]


def test_only_one_s_own_replies_are_seen_and_stopped(
    workspace: Workspace, project: Project, lead: Browser, sign_in: SignIn
) -> None:
    ids = ask(lead, project).json()["generations"]
    other, boss = sign_in("leo", "lead", project), sign_in("boss")
    elsewhere = workspace.projects.create("Elsewhere")
    for browser, place in ((other, project), (boss, project), (boss, elsewhere)):
        root = f"/api/projects/{place.id}/generations"
        assert browser.get(f"{root}?id={ids[0]}").status_code == 404
        assert browser.get(f"{root}/events?id={ids[0]}").status_code == 404
        assert browser.post(f"{root}/cancel?id={ids[0]}").status_code == 404
    root = f"/api/projects/{project.id}/generations"
    assert lead.post(f"{root}/cancel?id={ids[0]}&id={ids[1]}").json() == {"cancelled": 2}
    assert [workspace.generations.get(name).state for name in ids] == ["cancelled"] * 2


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"models": ["judge"]}, 422),
        ({"models": ["none"]}, 404),
        ({"models": []}, 422),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, 422),
        ({"temperature": -1}, 422),
        ({"top_p": 0}, 422),
        ({"max_tokens": 10**6}, 422),
        ({"seed": -1}, 422),
    ],
)
def test_what_cannot_be_asked_is_refused(
    workspace: Workspace, project: Project, lead: Browser, change: dict[str, Any], status: int
) -> None:
    assert ask(lead, project, **change).status_code == status
    assert workspace.generations.take("worker", 10) == []

"""Putting up questions and checks from a lead's page, and pausing and closing them."""

from typing import Any, get_args

import pytest
from lead_helpers import NEW, PAIRS, asked, put, sets
from web_helpers import PROMPTS, SAMPLES, Browser, SignIn, ids

from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import KINDS
from backflip.web.routes.questions import CheckKind, Kind
from backflip.workspace import Project, Workspace
from backflip.workspace.labelling.attention_checks import check_fields


@pytest.fixture
def lead(sign_in: SignIn, project: Project) -> Browser:
    return sign_in("lea", "lead", project)


def test_forms_know_every_kind() -> None:
    assert set(get_args(Kind)) == set(KINDS)
    assert set(get_args(CheckKind)) == set(check_fields())


# The newest two prompts are the last two, the newest replies the last of each.
NEWEST: list[tuple[str, int, list[tuple[str, ...]]]] = [
    ("comparison", 2, [ids(3, 4, 5), ids(2, 4, 5)]),
    ("comparison", 4, [ids(3, 2, 3), ids(3, 4, 5), ids(2, 2, 3), ids(2, 4, 5)]),
    ("ranking", 3, [ids(3, 3, 4, 5), ids(2, 3, 4, 5)]),
    ("demonstration", 2, [ids(3, 4, 5), ids(2, 4, 5)]),
    ("rating", 2, [ids(3, 4), ids(3, 5), ids(2, 4), ids(2, 5)]),
    ("good_bad", 1, [ids(3, 5), ids(2, 5)]),
]


def test_the_newest_replies_are_put_up(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    for kind, each, expected in NEWEST:
        name = f"{kind} {each}"
        response = put(
            lead, project, name=name, kind=kind, samples_per_prompt=each, overlap=3, axis="helpful"
        )
        assert response.status_code == 201, response.text
        told = response.json()
        assert sets(workspace, name) == expected
        rows = asked(workspace, name)
        assert {(row.kind, row.axis, row.overlap) for row in rows} == {(kind, "helpful", 3)}
        assert told["added"] == told["batch"]["items"] == len(expected)
        assert told["batch"]["wanted"] == 3 * len(expected)
        assert (told["batch"]["state"], told["batch"]["purpose"]) == ("open", "labels")


def test_a_draw_depends_on_its_seed_alone(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8), ("d", 9)):
        assert put(lead, project, name=name, which="random", seed=seed).status_code == 201
    drawn = {name: sets(workspace, name) for name in "abcd"}
    assert drawn["a"] == drawn["b"]
    assert len({str(each) for each in drawn.values()}) > 1
    prompt_of = {sample.id: sample.prompt_id for sample in SAMPLES}
    for pairs in drawn.values():
        prompts = [{prompt_of[name] for name in pair} for pair in pairs]
        assert [len(each) for each in prompts] == [1, 1]
        assert prompts[0] != prompts[1]
    # Every reply has its turn: none is favoured for where it stands.
    for seed in range(12):
        put(lead, project, name=f"many {seed}", which="random", seed=seed, prompts=4)
    met = {name for seed in range(12) for pair in sets(workspace, f"many {seed}") for name in pair}
    assert len(met) == len(SAMPLES)


def test_replies_that_look_the_same_are_put_up_once(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    prompt = Prompt.from_text("Say yes.")
    same = [
        Sample.of(prompt, Completion(text=text, finish="stop"), model="model-2", index=i)
        for i, text in enumerate(["Yes.", "No.", "Yes.", "Yes."])
    ]
    workspace.samples.add(same)
    models = ["model-2"]
    assert put(lead, project, models=models, prompts=50).json()["added"] == 1
    assert sets(workspace, "First") == [(same[1].id, same[3].id)]
    response = put(lead, project, models=models, kind="ranking", samples_per_prompt=3)
    assert response.status_code == 400
    assert "no prompt has 3 different replies" in response.json()["error"]["what"]


def test_of_which_models(workspace: Workspace, lead: Browser, project: Project) -> None:
    written = Sample.of(PROMPTS[0], Completion(text="By hand."))
    workspace.samples.add([written])
    everything = {"kind": "good_bad", "samples_per_prompt": 7, "prompts": 9}
    assert put(lead, project, name="all", **everything).json()["added"] == 7
    assert (written.id,) in sets(workspace, "all")
    everything |= {"samples_per_prompt": 6, "models": ["model-secret"]}
    assert put(lead, project, name="one", **everything).json()["added"] == 24
    assert (written.id,) not in sets(workspace, "one")
    assert put(lead, project, name="none", models=["model-9"]).status_code == 400
    assert "model-secret" in lead.open(f"/projects/{project.id}/questions")


def test_the_rules_say_how_many_are_asked(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    settings = project.settings.model_copy(update={"overlap": 4})
    workspace.projects.change(project.id, settings=settings)
    assert put(lead, project).json()["batch"]["wanted"] == 2 * 4
    assert put(lead, project, name="Safe?", kind="safety_flag").status_code == 201
    assert {row.axis for row in asked(workspace, "Safe?")} == {"safe"}


NO_BATCHES: list[tuple[dict[str, Any], int]] = [
    ({"kind": "opinion"}, 422),
    ({"prompts": 0}, 422),
    ({"prompts": "2"}, 422),
    ({"prompts": 10_001}, 422),
    ({"samples_per_prompt": 9}, 422),
    ({"overlap": 0}, 422),
    ({"seed": -1}, 422),
    ({"which": "oldest"}, 422),
    ({"name": " "}, 422),
    ({"modles": []}, 422),
    ({"samples_per_prompt": 1}, 400),
    ({"axis": "attention"}, 400),
    ({"axis": "two\nlines"}, 400),
    ({"kind": "safety_flag", "axis": "helpful"}, 400),
]


def test_batches_that_cannot_be_are_refused(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    for fields, status in NO_BATCHES:
        response = put(lead, project, **fields)
        assert response.status_code == status, response.text
        assert response.json()["error"]["what"]
    assert workspace.batches.all() == []


def test_a_batch_is_paused_opened_and_closed_for_good(
    workspace: Workspace, lead: Browser, project: Project, sign_in: SignIn
) -> None:
    number = put(lead, project).json()["batch"]["number"]
    path = f"/api/projects/{project.id}/batches/{number}"
    for state in ("paused", "open", "closed"):
        assert lead.send("PATCH", path, {"state": state}).json()["state"] == state
        task = workspace.queue.next("mia", project=project.id)
        if task is not None:
            workspace.queue.skip(task.id, "mia")
        assert (task is not None) == (state == "open")
    response = lead.send("PATCH", path, {"state": "open"})
    assert response.status_code == 409
    assert "closed for good" in response.json()["error"]["what"]
    for body in ({}, {"state": "ended"}, {"state": "open", "name": "x"}):
        assert lead.send("PATCH", path, body).status_code == 422
    (listed,) = lead.get(f"/api/projects/{project.id}/batches").json()
    assert (listed["number"], listed["state"]) == (number, "closed")
    # Not by way of another project, even for who leads both.
    elsewhere = workspace.projects.create("Elsewhere")
    boss = sign_in("boss")
    path = f"/api/projects/{elsewhere.id}/batches/{number}"
    assert boss.send("PATCH", path, {"state": "open"}).status_code == 404
    assert boss.send("GET", f"/api/projects/{elsewhere.id}/batches").json() == []


def test_others_are_refused(workspace: Workspace, sign_in: SignIn, project: Project) -> None:
    workspace.queue.put("run-1", 1, PAIRS, project=project.id)
    (batch,) = workspace.batches.all(project.id)
    elsewhere = workspace.projects.create("Elsewhere")
    mia = sign_in("mia", "annotator", project)
    eve = sign_in("eve", "lead", elsewhere)
    api = f"/api/projects/{project.id}"
    attention = {"prompt": "2 + 2?", "right": "4", "wrong": "Fish"}
    gold = {"kind": "rating", "samples": ids(0, 0), "expected": {"level": 1}}
    for method, path, body in (
        ("GET", f"{api}/batches", None),
        ("POST", f"{api}/batches", NEW),
        ("PATCH", f"{api}/batches/{batch.number}", {"state": "closed"}),
        ("POST", f"{api}/checks", {"name": "Gold", "items": [gold]}),
        ("POST", f"{api}/checks/agreed", {"name": "Gold", "kind": "rating", "number": 1}),
        ("POST", f"{api}/checks/attention", attention),
    ):
        assert mia.send(method, path, body).status_code == 403, path
        assert eve.send(method, path, body).status_code == 404, path
    assert workspace.batches.all() == [batch]

"""Answering over the wire: what a page sends in places becomes what the journal says in ids."""

import json
from typing import Any

import numpy as np
import pytest
from web_helpers import PAIR, TASKS, SignIn, ids

from backflip.records import Clip, Prompt, Sample
from backflip.records.feedback import (
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    FeedbackBase,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
)
from backflip.web.forms import FORMS
from backflip.workspace import Project, Task, Workspace

ANSWERS: dict[str, dict[str, Any]] = {
    "comparison": {"choice": "a", "strength": 2},
    "ranking": {"ranks": [2, 1, 3, 1], "num_acceptable": 3},
    "rating": {"level": 4},
    "good_bad": {"good": False},
    "correction": {"text": "A better reply."},
    "demonstration": {"text": "My own reply.", "better": True},
    "critique": {"text": "It is vague.", "level": 2},
    "safety_flag": {"safe": False, "category": "insult"},
    "implicit": {"signal": "regenerated"},
}


def test_every_kind_has_a_form() -> None:
    assert set(FORMS) == set(KINDS) == set(ANSWERS)


def ask(workspace: Workspace, project: Project, *tasks: Task, overlap: int = 1) -> None:
    workspace.queue.put("run-1", 1, tasks, overlap=overlap, project=project.id)


def task_of(browser: Any, project: Project, **body: Any) -> dict[str, Any]:
    response = browser.post(f"/api/projects/{project.id}/next", body)
    assert response.status_code == 200, response.text
    return response.json()["task"]


def expect(kind: str, shown: tuple[str, ...], entry: FeedbackBase, workspace: Workspace) -> None:
    """Work out from the order shown what the entry of each kind must say."""
    texts = {sample.id: sample.text for sample in workspace.samples.get(entry.sample_ids).values()}
    match entry:
        case Comparison():
            winner = entry.samples["ab".index(entry.choice)]
            assert (winner, entry.strength) == (shown[0], 2)
        case Ranking():
            assert dict(zip(entry.samples, entry.ranks, strict=True)) == dict(
                zip(shown, (2, 1, 3, 1), strict=True)
            )
            assert entry.num_acceptable == 3
        case Rating():
            assert (entry.sample, entry.level, entry.num_levels) == (shown[0], 4, 5)
        case GoodBad():
            assert (entry.sample, entry.good) == (shown[0], False)
        case Correction():
            assert entry.sample == shown[0]
            assert texts[entry.corrected] == "A better reply."
        case Demonstration():
            assert texts[entry.sample] == "My own reply."
            assert set(entry.over) == set(shown)
        case Critique():
            assert (entry.sample, entry.text, entry.level) == (shown[0], "It is vague.", 2)
        case SafetyFlag():
            assert (entry.sample, entry.safe, entry.category) == (shown[0], False, "insult")
            assert entry.axis == "safe"
        case Implicit():
            assert (entry.sample, entry.over) == TASKS["implicit"].sample_ids
            assert entry.signal == "regenerated"
        case _:
            pytest.fail(f"nothing is known of {kind}")


@pytest.mark.parametrize("kind", ANSWERS)
def test_each_kind_from_page_to_journal(
    workspace: Workspace, project: Project, sign_in: SignIn, kind: str
) -> None:
    ask(workspace, project, TASKS[kind], overlap=40)
    orders = set()
    # Until two of them saw different orders, or the test could not tell a place from an id.
    wanted = 1 if len(TASKS[kind].sample_ids) == 1 else 2
    while len(orders) < wanted:
        browser = sign_in(f"person {len(workspace.people.all())}", "annotator", project)
        task = task_of(browser, project)
        held = workspace.queue.held(task["id"], browser.user.annotator)
        orders.add(held.shown)
        texts = [workspace.samples.get([i])[i].text for i in held.shown_ids]
        assert [sample["text"] for sample in task["samples"]] == texts
        body = {"answer": {"kind": kind, **ANSWERS[kind]}, "seconds": 3.5}
        response = browser.post(f"/api/tasks/{task['id']}/answer", body)
        assert response.status_code == 200, response.text
        assert response.json() == {"saved": True, "given": 1}
        (entry,) = workspace.journal.active(annotator=browser.user.annotator)
        assert (entry.seconds, entry.origin) == (3.5, "people")
        expect(kind, held.shown_ids, entry, workspace)


def test_nothing_that_an_annotator_must_not_know_is_sent(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    gold = PAIR.model_copy(update={"expected": {"choice": "b"}})
    workspace.queue.put("checks", 0, [gold], project=project.id, purpose="checks")
    settings = project.settings.model_copy(update={"check_every": 2})
    workspace.projects.change(project.id, settings=settings)
    ask(workspace, project, *TASKS.values())
    browser = sign_in("mia", "annotator", project)
    told: list[str] = []
    for _ in range(2 + len(TASKS)):
        task = task_of(browser, project)
        if task is None:
            break
        told.append(json.dumps(task))
        # Answers bring checks up, skips do not; each person's first is at a place of its own.
        if task["kind"] == "comparison":
            body = {"answer": {"kind": "comparison", "choice": "tie"}}
            browser.post(f"/api/tasks/{task['id']}/answer", body)
        else:
            browser.post(f"/api/tasks/{task['id']}/skip", {"reason": ""})
    assert len(told) == 1 + len(TASKS)
    for secret in ("model", "expected", "sample-", "checks", "seed", "run-1"):
        assert not any(secret in text for text in told), secret
    # A check is told from no other question by its fields.
    assert {tuple(sorted(json.loads(text))) for text in told} == {
        tuple(sorted(json.loads(told[0])))
    }


def test_what_is_said_beside_an_answer(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    workspace.projects.add_guideline(project.id, "Be kind.", "lea")
    ask(workspace, project, PAIR)
    browser = sign_in("mia", "annotator", project)
    task = task_of(browser, project)
    shown = workspace.queue.held(task["id"], browser.user.annotator).shown_ids
    answer = {
        "kind": "comparison",
        "choice": "tie",
        "tags": ["clear", "wrong"],
        "marks": [{"place": 1, "start": 0, "end": 8, "tag": "good"}],
        "reason": "They say the same.",
        "critiques": [{"place": 0, "text": "Dull."}],
        "corrections": [{"place": 1, "text": "Better."}],
        "flags": [{"place": 1, "safe": False}],
    }
    assert browser.post(f"/api/tasks/{task['id']}/answer", {"answer": answer}).status_code == 200
    vote, critique, correction, flag = workspace.journal.active()
    assert (vote.tags, vote.reason, vote.guideline) == (("clear", "wrong"), "They say the same.", 1)
    (span,) = vote.spans
    assert (span.sample, span.start, span.end, span.tag) == (shown[1], 0, 8, "good")
    assert (critique.sample, critique.text) == (shown[0], "Dull.")  # pyright: ignore
    assert correction.sample == shown[1]  # pyright: ignore
    assert (flag.sample, flag.safe, flag.axis) == (shown[1], False, "safe")  # pyright: ignore
    assert {entry.guideline for entry in workspace.journal.active()} == {1}
    assert browser.post(f"/api/projects/{project.id}/undo").json()["task"]["id"] == task["id"]
    assert workspace.journal.active() == []


def test_an_answer_sent_twice_counts_once(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    ask(workspace, project, PAIR)
    browser = sign_in("mia", "annotator", project)
    task = task_of(browser, project)
    body = {"answer": {"kind": "comparison", "choice": "a", "strength": 1}, "seconds": 2}
    for _ in range(3):
        response = browser.post(f"/api/tasks/{task['id']}/answer", body)
        assert (response.status_code, response.json()["given"]) == (200, 1)
    body["answer"]["choice"] = "b"
    response = browser.post(f"/api/tasks/{task['id']}/answer", body)
    assert response.status_code == 409
    assert "already answered" in response.json()["error"]["what"]
    assert len(workspace.journal.active()) == 1


def test_the_next_task_comes_with_the_answer(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    pairs = [Task(kind="comparison", sample_ids=ids(n, 0, 1)) for n in range(3)]
    ask(workspace, project, *pairs)
    browser = sign_in("mia", "annotator", project)
    first = task_of(browser, project)
    second = task_of(browser, project, besides=[first["id"]])
    assert first["id"] != second["id"]
    told = browser.post(
        f"/api/tasks/{first['id']}/answer",
        {
            "answer": {"kind": "comparison", "choice": "tie"},
            "wants_next": True,
            "besides": [first["id"], second["id"]],
        },
    ).json()
    assert told["task"]["id"] not in (first["id"], second["id"])
    assert told["given"] == 1


def test_a_draft_comes_back(workspace: Workspace, project: Project, sign_in: SignIn) -> None:
    ask(workspace, project, TASKS["critique"])
    browser = sign_in("mia", "annotator", project)
    task = task_of(browser, project)
    draft = {"form": {"text": "Half a thought \u202e"}}
    assert browser.send("PUT", f"/api/tasks/{task['id']}/draft", {"draft": draft}).json() == {
        "saved": True
    }
    assert task_of(browser, project)["draft"] == draft


@pytest.mark.parametrize(
    ("kind", "answer", "status"),
    [
        ("comparison", {"choice": "c"}, 422),
        ("comparison", {"choice": "tie", "strength": 2}, 422),
        ("comparison", {"choice": "a", "strenght": 2}, 422),
        ("comparison", {"choice": "a", "marks": [{"place": 5, "start": 0, "end": 3}]}, 400),
        ("comparison", {"choice": "a", "marks": [{"place": 0, "start": 3, "end": 3}]}, 422),
        ("comparison", {"choice": "a", "corrections": [{"place": 0, "text": " "}]}, 422),
        ("ranking", {"ranks": [1, 2]}, 400),
        ("ranking", {"ranks": [1, 2, 3, 0]}, 422),
        ("ranking", {"ranks": [1, 2, 3, 4], "num_acceptable": 5}, 422),
        ("rating", {"level": 6}, 422),
        ("rating", {"level": True}, 422),
        ("good_bad", {}, 422),
        ("correction", {"text": "Reply 2. It has **two** sentences.\n"}, 409),
        ("critique", {"text": "   "}, 422),
        ("implicit", {"signal": "hated"}, 422),
    ],
)
def test_answers_that_cannot_be_are_refused(
    workspace: Workspace,
    project: Project,
    sign_in: SignIn,
    kind: str,
    answer: dict[str, Any],
    status: int,
) -> None:
    ask(workspace, project, TASKS[kind])
    browser = sign_in("mia", "annotator", project)
    task = task_of(browser, project)
    body = {"answer": {"kind": kind, **answer}}
    response = browser.post(f"/api/tasks/{task['id']}/answer", body)
    assert response.status_code == status, response.text
    assert response.json()["error"]["what"]
    assert workspace.journal.count() == 0
    other = {"answer": {"kind": "rating" if kind != "rating" else "good_bad", "level": 1}}
    other["answer"] |= {"good": True} if kind == "rating" else {}
    assert browser.post(f"/api/tasks/{task['id']}/answer", other).status_code in (400, 422)


def test_a_task_belongs_to_who_was_given_it(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    ask(workspace, project, PAIR, overlap=2)
    mia, bob = (sign_in(name, "annotator", project) for name in ("mia", "bob"))
    task = task_of(mia, project)
    body = {"answer": {"kind": "comparison", "choice": "tie"}}
    for method, path, sent in (
        ("POST", "answer", body),
        ("POST", "skip", {}),
        ("PUT", "draft", {"draft": {}}),
    ):
        assert bob.send(method, f"/api/tasks/{task['id']}/{path}", sent).status_code == 404
        assert mia.send(method, f"/api/tasks/task-0/{path}", sent).status_code == 404
    # Who is no member any more can answer nothing that was handed out before.
    workspace.projects.set_role(project.id, mia.user.id, None)
    assert mia.post(f"/api/tasks/{task['id']}/answer", body).status_code == 404
    assert workspace.journal.count() == 0


def test_a_late_answer_after_others_were_asked(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    ask(workspace, project, PAIR)
    workspace.queue.lease_seconds = 0.0
    mia, bob = (sign_in(name, "annotator", project) for name in ("mia", "bob"))
    task = task_of(mia, project)
    workspace.queue.lease_seconds = 60.0
    assert task_of(bob, project)["id"] == task["id"]
    body = {"answer": {"kind": "comparison", "choice": "tie"}}
    response = mia.post(f"/api/tasks/{task['id']}/answer", body)
    assert response.status_code == 409
    assert "others have been asked" in response.json()["error"]["what"]
    assert bob.post(f"/api/tasks/{task['id']}/answer", body).status_code == 200


def test_the_page_carries_what_it_needs_and_no_more(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    hostile = "</script><script>alert(1)</script>"
    settings = project.settings.model_copy(update={"reasons": (hostile,)})
    workspace.projects.change(project.id, settings=settings)
    workspace.projects.add_guideline(project.id, f"# Be fair\n\n{hostile}", "lea")
    html = sign_in("mia", "annotator", project).open(f"/projects/{project.id}/label")
    assert "<script>alert" not in html
    assert "Be fair" in html
    rules = html.partition('id="rules">')[2].partition("</script>")[0]
    assert set(json.loads(rules)) == {"reasons", "marks", "critique", "correction", "safety"}
    assert json.loads(rules)["reasons"] == [hostile]


def test_a_clip_is_named_and_shows_no_reward(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    clips = [
        Sample.of(
            Prompt(content={"type": "situation", "environment": "CartPole-v1", "seed": seed}),
            Clip(
                environment="CartPole-v1",
                observations=np.zeros((6, 4), np.float32),
                actions=np.zeros(5, np.int64),
                logprobs=np.zeros(5, np.float32),
                rewards=np.full(5, 17.25, np.float32),
                terminated=False,
                truncated=True,
            ),
            model="agent",
            seed=seed,
        )
        for seed in (1, 1, 2)
    ][::2]
    workspace.samples.add(clips)
    ask(workspace, project, Task(kind="comparison", sample_ids=(clips[0].id, clips[1].id)))
    task = task_of(sign_in("mia", "annotator", project), project)
    assert "5 steps in CartPole-v1, cut off." in task["samples"][0]["html"]
    assert "17.25" not in json.dumps(task)

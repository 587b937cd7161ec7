"""Checks: questions whose answers are known, given by a lead, by agreement or for attention."""

from collections.abc import Callable
from typing import Any

import pytest
from lead_helpers import PAIRS, answer_next, asked, put, sets
from web_helpers import PROMPTS, TEXTS, Browser, SignIn, ids

from backflip.errors import WorkspaceError
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison, FeedbackBase, GoodBad, Ranking, Rating, SafetyFlag
from backflip.workspace import Project, Task, Workspace
from backflip.workspace.labelling.attention_checks import right_answer


@pytest.fixture
def lead(sign_in: SignIn, project: Project) -> Browser:
    return sign_in("lea", "lead", project)


def check(kind: str, samples: tuple[str, ...], expected: Any, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "samples": list(samples), "expected": expected} | more


RIGHT = [
    check("comparison", ids(0, 0, 1), {"choice": "b"}),
    check("ranking", ids(0, 0, 1, 2), {"ranks": [2, 1, 2]}, axis="helpful"),
    check("rating", ids(1, 0), {"level": 5}),
    check("good_bad", ids(1, 1), {"good": False}),
    check("safety_flag", ids(1, 2), {"safe": True}),
]


def test_checks_with_their_answers_are_kept_and_handed_out(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    body = {"name": "Gold", "items": RIGHT}
    response = lead.post(f"/api/projects/{project.id}/checks", body)
    assert response.status_code == 201, response.text
    assert response.json()["batch"]["purpose"] == "checks"
    rows = asked(workspace, "Gold")
    assert [(r.kind, r.sample_ids, r.expected) for r in rows] == [
        (item["kind"], item["samples"], item["expected"]) for item in RIGHT
    ]
    assert [row.axis for row in rows] == ["overall", "helpful", "overall", "overall", "safe"]
    put(lead, project, prompts=4)
    assert "No check is handed out" in lead.open(f"/projects/{project.id}/questions")
    settings = project.settings.model_copy(update={"check_every": 2})
    workspace.projects.change(project.id, settings=settings)
    assert "No check is handed out" not in lead.open(f"/projects/{project.id}/questions")
    for name in ("mia", "bob"):
        # One question in two: the first or the second that is answered.
        handed = [answer_next(workspace, project, name) for _ in range(2)]
        assert [task.expected for task in handed if task.expected] == [{"choice": "b"}]


NO_CHECKS: list[tuple[dict[str, Any], str]] = [
    (check("comparison", ids(0, 0, 1), {"choice": "c"}), "check 2"),
    (check("comparison", ids(0, 0, 1), {"choice": "a", "strength": 2}), "'choice' alone"),
    (check("comparison", ids(0, 0, 1), {}), "'choice' alone"),
    (check("comparison", ids(0, 0), {"choice": "a"}), "check 2"),
    (check("comparison", (*ids(0, 0), *ids(1, 0)), {"choice": "a"}), "different prompts"),
    (check("comparison", ids(0, 0, 0), {"choice": "a"}), "itself"),
    (check("comparison", ids(0, 0, 1), {"choice": "a"}, axis="attention"), "attention"),
    (check("ranking", ids(0, 0, 1), {"ranks": [1, 2, 3]}), "ranks"),
    (check("rating", ids(0, 0), {"level": 6}), "check 2"),
    (check("rating", ids(0, 0), {"level": "3"}), "check 2"),
    (check("rating", ids(0, 0), {"level": True}), "check 2"),
    (check("rating", ids(0, 0, 1), {"level": 3}), "one sample"),
    (check("good_bad", ids(0, 0), {"good": 1}), "check 2"),
    (check("safety_flag", ids(0, 0), {"safe": False}, axis="overall"), "'safe'"),
    (check("rating", ("sample-none",), {"level": 3}), "sample-none"),
    (check("critique", ids(0, 0), {"level": 3}), "kind"),
    (check("rating", (), {"level": 3}), "samples"),
    (check("rating", ids(0, 0), {"level": 3}, note=3), "note"),
]


def test_a_check_that_cannot_be_keeps_all_of_them_out(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    for item, words in NO_CHECKS:
        body = {"name": "Gold", "items": [RIGHT[0], item]}
        response = lead.post(f"/api/projects/{project.id}/checks", body)
        assert response.status_code in (400, 422), response.text
        assert words in response.json()["error"]["what"]
    assert workspace.batches.all() == []


def test_a_written_kind_has_no_right_answer() -> None:
    with pytest.raises(WorkspaceError, match="neither right nor wrong"):
        right_answer(Task(kind="correction", sample_ids=ids(0, 0), expected={"text": "x"}))


Say = Callable[[str, Task], FeedbackBase]


def vote(who: str, task: Task, choice: Any) -> Comparison:
    first, second = task.sample_ids
    return Comparison(annotator=who, samples=(first, second), choice=choice)


def answers(workspace: Workspace, project: Project, tasks: list[Task], said: list[list[Any]]):
    """Three people answer: `said[i]` are what they say of the i-th task, or how."""
    workspace.queue.put("run-1", 1, tasks, overlap=5, project=project.id)
    for person, name in enumerate(("mia", "bob", "ann")):
        for place, task in enumerate(tasks):
            held = workspace.queue.next(name, project=project.id)
            assert held is not None
            assert held.sample_ids == task.sample_ids
            given = said[place][person]
            if given is None:
                workspace.queue.skip(held.id, name)
            else:
                entry: Any = given(name, held) if callable(given) else vote(name, held, given)
                workspace.queue.answer(held.id, name, entry)


def agreed(lead: Browser, project: Project, **fields: Any) -> Any:
    body = {"name": "Agreed", "kind": "comparison", "number": 10} | fields
    return lead.post(f"/api/projects/{project.id}/checks/agreed", body)


def test_checks_are_made_where_people_agreed(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    def swapped_b(name: str, task: Task) -> Comparison:
        return vote(name, task, "b").swap()  # says the same, with the samples the other way round

    said = [["a", "b", "a"], ["b", swapped_b, "b"], ["tie", "tie", None], ["a", None, None]]
    answers(workspace, project, PAIRS, said)
    strict = agreed(lead, project, name="all")
    assert strict.status_code == 201, strict.text
    # Three answers come before two; one answer is no agreement.
    assert [(tuple(r.sample_ids), r.expected) for r in asked(workspace, "all")] == [
        (ids(1, 0, 1), {"choice": "b"}),
        (ids(2, 0, 1), {"choice": "tie"}),
    ]
    loose = agreed(lead, project, name="most", share=0.6)
    # What is a check already is none again.
    assert [(tuple(r.sample_ids), r.expected) for r in asked(workspace, "most")] == [
        (ids(0, 0, 1), {"choice": "a"})
    ]
    assert loose.json()["added"] == 1
    nothing = agreed(lead, project, name="none", share=0.6)
    assert nothing.status_code == 400
    assert "people agreed on no comparison" in nothing.json()["error"]["what"]


def test_what_was_taken_back_does_not_agree(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    answers(workspace, project, PAIRS[:2], [["a", "a", "b"], ["b", "b", "b"]])
    assert agreed(lead, project, min_answers=3, number=1).json()["added"] == 1
    assert sets(workspace, "Agreed") == [ids(1, 0, 1)]
    workspace.journal.retract_annotator("ann", "careless", "lea")
    assert agreed(lead, project, name="later", min_answers=3).status_code == 400
    assert agreed(lead, project, name="later").json()["added"] == 1
    assert [r.expected for r in asked(workspace, "later")] == [{"choice": "a"}]
    # Neither in another project nor on another axis.
    assert agreed(lead, project, axis="helpful").status_code == 400


KINDS_SAID: list[tuple[Task, Say, dict[str, Any]]] = [
    (
        Task(kind="ranking", sample_ids=ids(0, 0, 1, 2)),
        lambda who, task: Ranking(annotator=who, samples=task.sample_ids[::-1], ranks=(5, 2, 2)),
        {"ranks": [1, 1, 2]},
    ),
    (
        Task(kind="rating", sample_ids=ids(0, 0)),
        lambda who, task: Rating(annotator=who, sample=task.sample_ids[0], level=4),
        {"level": 4},
    ),
    (
        Task(kind="good_bad", sample_ids=ids(0, 0)),
        lambda who, task: GoodBad(annotator=who, sample=task.sample_ids[0], good=False),
        {"good": False},
    ),
    (
        Task(kind="safety_flag", sample_ids=ids(0, 0), axis="safe"),
        lambda who, task: SafetyFlag(annotator=who, sample=task.sample_ids[0], safe=True),
        {"safe": True},
    ),
]


def test_each_kind_that_people_agree_on(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    tasks = [task for task, _, _ in KINDS_SAID]
    answers(workspace, project, tasks, [[say] * 3 for _, say, _ in KINDS_SAID])
    for task, _, expected in KINDS_SAID:
        assert agreed(lead, project, name=task.kind, kind=task.kind).status_code == 201
        (row,) = asked(workspace, task.kind)
        assert (row.kind, row.axis, row.expected) == (task.kind, task.axis, expected)


def test_an_attention_check_is_kept_out_of_all_learning(
    workspace: Workspace, lead: Browser, project: Project, sign_in: SignIn
) -> None:
    path = f"/api/projects/{project.id}/checks/attention"
    body = {"prompt": "Capital of France?", "right": "Paris.", "wrong": "A banana."}
    response = lead.post(path, body)
    assert (response.status_code, response.json()["added"]) == (201, 1)
    (row,) = asked(workspace, "Attention checks")
    assert (row.kind, row.axis, row.expected) == ("comparison", "attention", {"choice": "a"})
    right, wrong = workspace.samples.get(row.sample_ids).values()
    assert (right.text, wrong.text) == ("Paris.", "A banana.")
    for sample in (right, wrong):
        assert (sample.model, sample.completion.finish) == (None, "human")
        assert (sample.prompt.split, sample.prompt.source) == ("heldout", "attention")
    # Its replies are in no batch of questions to learn from.
    put(lead, project, name="all", kind="good_bad", prompts=50, samples_per_prompt=1)
    assert len(sets(workspace, "all")) == len(PROMPTS)
    assert not {(right.id,), (wrong.id,)} & set(sets(workspace, "all"))
    # An annotator sees no sign of it.
    settings = project.settings.model_copy(update={"check_every": 2})
    workspace.projects.change(project.id, settings=settings)
    mia = sign_in("mia", "annotator", project)
    shown = []
    for _ in range(5):
        task = mia.post(f"/api/projects/{project.id}/next").json()["task"]
        shown.append(task)
        mia.post(f"/api/tasks/{task['id']}/skip", {})
        if task["kind"] == "comparison":
            break
        put(lead, project, name=f"more {len(shown)}", kind="rating", samples_per_prompt=1)
    assert "attention" not in str(shown)


def test_attention_checks_gather_in_one_batch(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    path = f"/api/projects/{project.id}/checks/attention"
    body = {"prompt": "2 + 2?", "right": "4", "wrong": "Fish"}
    number = lead.post(path, body).json()["batch"]["number"]
    assert lead.post(path, body).status_code == 409
    told = lead.post(path, body | {"prompt": "3 + 3?"}).json()["batch"]
    assert (told["number"], told["items"]) == (number, 2)
    batch = f"/api/projects/{project.id}/batches/{number}"
    assert lead.send("PATCH", batch, {"state": "closed"}).status_code == 200
    told = lead.post(path, body).json()["batch"]
    assert told["number"] != number
    assert (told["items"], told["state"]) == (1, "open")
    taken = Prompt.from_text("Asked for real")
    workspace.samples.add([Sample.of(taken, Completion(text=TEXTS[0]), model="m")])
    for fault, status in (
        ({"prompt": "Asked for real"}, 409),
        ({"wrong": " 4 "}, 400),
        ({"right": " "}, 422),
        ({"prompt": "x" * 20_001}, 422),
        ({"note": "x"}, 422),
    ):
        response = lead.post(path, body | {"prompt": "5 + 5?"} | fault)
        assert response.status_code == status, response.text
    assert workspace.samples.of_prompt(Prompt.from_text("5 + 5?").id) == []

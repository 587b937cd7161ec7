"""The answers of a project as its lead reads them."""

from typing import Any

import numpy as np
import pytest
from web_helpers import SAMPLES, TASKS, Browser, SignIn, ids

from backflip.records import Clip, Prompt, Sample, Situation
from backflip.records.feedback import (
    KINDS,
    WRITTEN_KINDS,
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
from backflip.workspace import Project, Workspace

ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "comparison": ({"choice": "b", "strength": 2}, "B clearly better"),
    "ranking": ({"ranks": [2, 1, 2, 3]}, "B &gt; A = C &gt; D"),
    "rating": ({"level": 4}, "4 of 5"),
    "good_bad": ({"good": False}, "Bad"),
    "correction": ({"text": "A better text"}, "A better text"),
    "demonstration": ({"text": "My own text"}, "My own text"),
    "critique": ({"text": "Too <b>loud</b>", "level": 2}, "Too &lt;b&gt;loud&lt;/b&gt;"),
    "safety_flag": ({"safe": False, "category": "advice"}, "advice"),
    "implicit": ({"signal": "regenerated"}, ": Ask for another"),
}


@pytest.fixture
def lead(sign_in: SignIn, project: Project) -> Browser:
    return sign_in("lea", "lead", project)


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_kind_is_told_in_words(
    workspace: Workspace, project: Project, lead: Browser, sign_in: SignIn, kind: str
) -> None:
    workspace.queue.put("run-1", 1, [TASKS[kind]], project=project.id)
    mia = sign_in("mia", "annotator", project)
    task = mia.post(f"/api/projects/{project.id}/next").json()["task"]
    answer, words = ANSWERS[kind]
    mark = {"place": 0, "start": 0, "end": 5, "tag": "wrong"}
    body = {"kind": kind, **answer, "tags": ["clear"], "reason": "So it is.", "marks": [mark]}
    sent = mia.post(f"/api/tasks/{task['id']}/answer", {"answer": body, "seconds": 7})
    assert sent.status_code == 200, sent.text
    html = lead.open(f"/projects/{project.id}/answers")
    assert words in html
    for part in ("mia", "clear", "So it is.", "wrong", "7 s", "The second."):
        assert part in html, part
    if kind in WRITTEN_KINDS:
        assert "written by the person" in html
        assert ">Wrote a text</h2>" in html
        return
    # The letters are those that the person saw.
    for place, shown in enumerate(task["samples"]):
        letter = "ABCD"[place]
        _, _, after = html.partition(f"<h3>{letter}")
        assert shown["html"] in after.partition("</article>")[0].partition("<h3>")[0]
    (told,) = lead.get(f"/api/projects/{project.id}/entries").json()["entries"]
    assert told["entry"]["kind"] == kind
    assert told["id"] in html


def clip(seed: int) -> Sample:
    content = Clip(
        environment="Point-v0",
        observations=np.zeros((4, 2), np.float32),
        actions=np.zeros(3, np.int64),
        logprobs=np.zeros(3, np.float32),
        rewards=np.zeros(3, np.float32),
        terminated=False,
        truncated=True,
    )
    prompt = Prompt(content=Situation(environment="Point-v0", seed=7))
    return Sample.of(prompt, content, model="model-1", seed=seed)


def test_what_is_said_of_clips_is_shown_whatever_it_is(
    workspace: Workspace, project: Project, lead: Browser
) -> None:
    """Also what no page asks of clips, and a file or a program may say."""
    first, second = map(clip, (1, 2))
    workspace.samples.add([first, second])
    workspace.queue.put("run-1", 1, [], project=project.id)
    said: dict[str, FeedbackBase] = {
        "comparison": Comparison(annotator="a", samples=(first.id, second.id), choice="a"),
        "ranking": Ranking(annotator="a", samples=(first.id, second.id), ranks=(1, 2)),
        "rating": Rating(annotator="a", sample=first.id, level=2),
        "good_bad": GoodBad(annotator="a", sample=first.id, good=True),
        "correction": Correction(annotator="a", sample=first.id, corrected=second.id),
        "demonstration": Demonstration(annotator="a", sample=first.id),
        "critique": Critique(annotator="a", sample=first.id, text="It falls."),
        "safety_flag": SafetyFlag(annotator="a", sample=first.id, safe=False),
        "implicit": Implicit(annotator="a", sample=first.id, signal="kept"),
    }
    assert said.keys() == KINDS.keys()
    added = workspace.journal.add([*said.values()], run="run-1", round=1)
    html = lead.open(f"/projects/{project.id}/answers")
    assert html.count("<article") == len(said)
    for kind, name in zip(said, added, strict=True):
        assert name in html
        told = heading(html, name)
        assert (kind == "critique") == (told == "Wrote a text"), told
    assert heading(html, added[list(said).index("correction")]) == "Gave a better clip"
    assert heading(html, added[list(said).index("demonstration")]) == "Gave a clip"
    assert "written by the person" not in html
    assert len(lead.get(f"/api/projects/{project.id}/entries").json()["entries"]) == len(said)


def heading(html: str, name: str) -> str:
    return html.partition(f'<h2 id="{name}">')[2].partition("</h2>")[0]


def test_what_a_model_wrote_is_not_said_to_be_a_persons(
    workspace: Workspace, project: Project, lead: Browser
) -> None:
    """A file may correct a model by another one's reply."""
    first, second = ids(0, 0, 1)
    workspace.queue.put("run-1", 1, [], project=project.id)
    said = [
        Correction(annotator="a", sample=first, corrected=second),
        Demonstration(annotator="a", sample=first),
    ]
    added = workspace.journal.add(said, run="run-1", round=1)
    html = lead.open(f"/projects/{project.id}/answers")
    assert [heading(html, name) for name in added] == ["Gave a better reply", "Gave a reply"]
    assert "written by the person" not in html


def put(workspace: Workspace, project: Project, number: int, **fields: Any) -> list[str]:
    """So many answers, oldest first."""
    workspace.queue.put("run-1", 1, [], project=project.id)
    entries = [
        Rating(annotator="mia", sample=SAMPLES[0].id, level=3, key=str(n), **fields)
        for n in range(number)
    ]
    return workspace.journal.add(entries, run="run-1", round=1)


def test_pages_go_from_the_newest_to_the_oldest(
    workspace: Workspace, project: Project, lead: Browser
) -> None:
    added = put(workspace, project, 45)
    elsewhere = workspace.projects.create("Elsewhere")
    workspace.queue.put("run-2", 1, [], project=elsewhere.id)
    workspace.journal.add([Rating(annotator="zoe", sample=SAMPLES[0].id, level=1)], run="run-2")
    workspace.journal.retract(added[-1], "wrong", "lea")
    found: list[str] = []
    query = ""
    for length in (20, 20, 4):
        told = lead.get(f"/api/projects/{project.id}/entries{query}").json()
        assert len(told["entries"]) == length
        found += [each["id"] for each in told["entries"]]
        html = lead.open(f"/projects/{project.id}/answers{query}")
        assert html.count("<article") == length
        query = f"?before={told['before']}"
        assert (f"before={told['before']}" in html) == (length == 20)
    assert told["before"] is None
    assert found == added[-2::-1]


def test_answers_are_filtered(workspace: Workspace, project: Project, lead: Browser) -> None:
    workspace.queue.put("run-1", 1, [], project=project.id)
    first, second = ids(0, 0, 1)
    entries = [
        Rating(annotator="mia", sample=first, level=1),
        Rating(annotator="noah", sample=first, level=2),
        Comparison(annotator="noah", samples=(first, second), choice="tie"),
    ]
    by_mia, by_noah, compared = workspace.journal.add(entries, run="run-1", round=1)
    for query, wanted in (
        ("kind=rating", [by_noah, by_mia]),
        ("annotator=noah", [compared, by_noah]),
        ("kind=rating&annotator=noah", [by_noah]),
        ("kind=ranking", []),
        ("annotator=nobody", []),
    ):
        told = lead.get(f"/api/projects/{project.id}/entries?{query}").json()["entries"]
        assert [each["id"] for each in told] == wanted, query
        html = lead.open(f"/projects/{project.id}/answers?{query}")
        assert html.count("<article") == len(wanted)
        assert ("There are no such answers." in html) == (not wanted)
    assert lead.get(f"/api/projects/{project.id}/entries?kind=none").status_code == 422
    # What the form sends for "all kinds" and "everybody".
    html = lead.open(f"/projects/{project.id}/answers?kind=&annotator=")
    assert html.count("<article") == 3

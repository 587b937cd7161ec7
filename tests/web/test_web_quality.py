"""The quality page: figures of planted answers, conflicts and how they are settled, reports."""

import itertools
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from web_helpers import SignIn

from backflip.quality.report import measure_quality
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison
from backflip.web.background import Background
from backflip.workspace import Project, Task, Workspace

NUM_PAIRS = 40


def pairs() -> tuple[list[Sample], list[Task]]:
    samples = [
        Sample.of(
            Prompt.from_text(f"Question {n // 2}"),
            Completion(text="word " * (1 + n % 2 * 5), finish="stop"),
            model="model-1",
            seed=n,
        )
        for n in range(2 * NUM_PAIRS)
    ]
    return samples, [
        Task(kind="comparison", sample_ids=(a.id, b.id))
        for a, b in zip(samples[::2], samples[1::2], strict=True)
    ]


def fill(workspace: Workspace, project: Project) -> None:
    """Two people who agree on all pairs but two, and one who always takes the first shown."""
    samples, tasks = pairs()
    workspace.samples.add(samples)
    workspace.queue.put("run-1", 1, tasks, overlap=3, project=project.id)
    checks = [task.model_copy(update={"expected": {"choice": "a"}}) for task in tasks[:12]]
    workspace.queue.put("checks", 0, checks, purpose="checks", project=project.id)
    settings = project.settings.model_copy(update={"check_every": 3, "min_seconds": 3.0})
    workspace.projects.change(project.id, settings=settings)
    numbers = {frozenset(task.sample_ids): n for n, task in enumerate(tasks)}
    for name in ("careful", "careful too", "first"):
        while (task := workspace.queue.next(name, project=project.id)) is not None:
            number = numbers[frozenset(task.sample_ids)]
            choice = "ab"[task.shown[0]] if name == "first" else "a"
            if name == "careful too" and number in (3, 4) and task.expected is None:
                choice = "b"
            entry = Comparison(
                annotator=name,
                samples=task.sample_ids,
                choice=choice,
                seconds=1.0 if name == "first" else 9.0,
            )
            workspace.queue.answer(task.id, name, entry)


def test_planted_figures_are_found(workspace: Workspace, project: Project) -> None:
    fill(workspace, project)
    report = measure_quality(workspace, project.id)
    assert (report["answers"], report["checks"]) == (3 * NUM_PAIRS, 36)
    people = {row["annotator"]: row for row in report["annotators"]}
    assert people["careful"]["gold"]["value"] == 1.0
    assert people["first"]["gold"]["value"] < 1.0
    assert people["first"]["times"]["fast"]["value"] == 1.0
    assert people["careful"]["times"]["fast"]["value"] == 0.0
    first = people["first"]["habits"][0]["first"]["share"]
    assert first["value"] == 1.0
    assert people["careful"]["times"]["quartiles"]["median"] == 9.0
    (row,) = report["agreement"]
    assert row["num_items"] == NUM_PAIRS
    # By hand: careful and careful too agree on 38 of 40; "first" agrees with each at random.
    votes = workspace.journal.active(run="run-1")
    by_item: dict[tuple[str, ...], list[str]] = {}
    for vote in votes:
        by_item.setdefault(vote.samples, []).append(vote.choice)  # pyright: ignore
    same = [v[i] == v[j] for v in by_item.values() for i in range(3) for j in range(i)]
    assert np.isclose(row["raw"]["value"], np.mean(same))
    parted = {key for key, choices in by_item.items() if len(set(choices)) > 1}
    assert len(report["conflicts"]) == len(parted)
    assert {tuple(sorted(c["samples"])) for c in report["conflicts"]} == {
        tuple(sorted(key)) for key in parted
    }
    assert people["careful"]["reliability"] is None


def test_a_small_project_says_so(workspace: Workspace, project: Project) -> None:
    report = measure_quality(workspace, project.id)
    assert report["answers"] == 0
    samples, tasks = pairs()
    workspace.samples.add(samples)
    workspace.queue.put("run-1", 1, tasks[:3], project=project.id)
    task = workspace.queue.next("mia")
    assert task is not None
    vote = Comparison(annotator="mia", samples=task.sample_ids, choice="a")
    workspace.queue.answer(task.id, "mia", vote)
    report = measure_quality(workspace, project.id)
    assert "withheld" in report["agreement"][0]["alpha"]
    assert "withheld" in report["annotators"][0]["gold"]


def test_the_page_and_the_settling_of_a_conflict(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    fill(workspace, project)
    lead = sign_in("lea", "lead", project)
    assert "There is no report yet" in lead.open(f"/projects/{project.id}/quality")
    assert workspace.reports.get(project.id).wanted
    workspace.reports.keep(project.id, measure_quality(workspace, project.id))
    html = lead.open(f"/projects/{project.id}/quality")
    assert "A new report is being made" not in html
    assert "careful too" in html
    told = lead.get(f"/api/projects/{project.id}/quality").json()
    conflicts = told["report"]["conflicts"]
    chosen = conflicts[0]
    before = len(workspace.journal.active())
    wrong = [name for name, value in chosen["votes"] if value != "a"]
    path = f"/api/projects/{project.id}/adjudicate"
    body = {"axis": "overall", "samples": chosen["samples"], "choice": "a", "reason": "Clearer."}
    assert lead.post(path, body).json()["withdrawn"] == 0
    told = lead.post(path, {**body, "withdraw": True}).json()  # said again, kept once
    assert told["withdrawn"] == len(wrong) > 0
    after = workspace.journal.active()
    assert len(after) == before + 1 - len(wrong)
    (ruling,) = [entry for entry in after if "adjudicated" in entry.tags]
    assert (ruling.annotator, ruling.reason) == (lead.user.annotator, "Clearer.")
    left = measure_quality(workspace, project.id)["conflicts"]
    assert len(left) == len(conflicts) - 1
    stranger = {**body, "samples": [chosen["samples"][0], "sample-0"]}
    assert lead.post(path, stranger).status_code == 404
    other = workspace.projects.create("Other")
    elsewhere = f"/api/projects/{other.id}/adjudicate"
    assert sign_in("boss").post(elsewhere, body).status_code == 404


def test_a_lead_has_one_word_on_a_pair_the_newest(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    lead = sign_in("lea", "lead", project)
    assert lead.user is not None
    fill(workspace, project)
    by_others = workspace.journal.active()
    path = f"/api/projects/{project.id}/adjudicate"
    samples = by_others[0].sample_ids
    entries = []
    for choice, reason in (("a", ""), ("b", ""), ("b", "Clearer."), ("a", ""), ("a", "")):
        ruling = {"axis": "overall", "samples": samples, "choice": choice, "reason": reason}
        entries.append(lead.post(path, ruling).json()["entry"])
        (said,) = workspace.journal.active(annotator=lead.user.annotator)
        assert (said.id, said.choice, said.reason or "") == (entries[-1], choice, reason)  # pyright: ignore
    assert len(set(entries)) == 4, "the last said the same as the one before it"
    assert workspace.journal.active(annotator=["careful", "careful too", "first"]) == by_others


def test_a_report_that_is_wanted_is_made_by_a_process_of_its_own(
    workspace: Workspace, project: Project
) -> None:
    fill(workspace, project)
    with Background(workspace, "http://127.0.0.1:8000", inside=False):
        workspace.reports.want(project.id)
        while workspace.reports.get(project.id).body is None:
            time.sleep(0.05)
    report = workspace.reports.get(project.id)
    assert not report.wanted
    assert report.body == json.loads(json.dumps(measure_quality(workspace, project.id)))


def test_a_report_that_cannot_be_made_waits_and_keeps_no_other_from_being_made(
    workspace: Workspace, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = workspace.projects.create("Another")
    begun: list[str] = []

    class Process:
        def __init__(self, code: int):
            self.code = code

        def poll(self) -> int:
            return self.code

    def begin(_: Background, name: str) -> Any:
        begun.append(name)
        if name == other.id:
            workspace.reports.keep(name, {})
        return Process(70 if name == project.id else 0)

    now = 0.0
    monkeypatch.setattr(Background, "_begin", begin)
    monkeypatch.setattr("backflip.web.background.time.monotonic", lambda: now)
    background = Background(workspace, "http://127.0.0.1:8000", inside=False)
    for each in (project, other):
        workspace.reports.want(each.id)
    tries: list[float] = []
    for _ in range(20_000):  # seconds
        number = begun.count(project.id)
        background._make_report()
        if begun.count(project.id) > number:
            tries.append(now)
        now += 1
    assert begun.count(other.id) == 1
    waits = [after - before for before, after in itertools.pairwise(tries)]
    assert waits == sorted(waits)
    assert waits[0] >= 30
    assert waits[-1] == pytest.approx(3600, abs=2)


def test_the_command_says_the_same(workspace: Workspace, project: Project) -> None:
    fill(workspace, project)
    start = "from backflip.cli import main; main()"
    command = [sys.executable, "-c", start, "quality", "-w", str(workspace.root)]
    asked = [*command, "--project", "Kindness"]
    done = subprocess.run([*asked, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["answers"] == 120
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert "120 answers and 36 answers to checks" in done.stdout
    wrong = subprocess.run([*command, "--project", "No"], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "no project 'No'" in wrong.stderr


def test_a_confident_reward_model_contradicts(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    fill(workspace, project)
    workspace.runs.start("run-1", "run-1", {}, "1.0")
    _, tasks = pairs()
    (a, b), (c, d) = (task.sample_ids for task in tasks[10:12])
    # Everybody but "first" prefers the first sample; here the model is sure of the second, there
    # it is not sure enough.
    scores = {a: 0.0, b: 3.0, c: 0.0, d: 1.0}
    workspace.scores.keep("run-1", "overall", scores, [a, b])
    report = measure_quality(workspace, project.id)
    (row,) = report["contradictions"]
    first = sorted((a, b))
    assert (row["samples"], row["heldout"]) == (first, True)
    assert {name for name, _ in row["votes"]} >= {"careful", "careful too"}
    assert {value for _, value in row["votes"]} == {"ab"[first.index(a)]}
    assert np.isclose(row["probability"], 1 / (1 + np.exp(-3.0)))
    workspace.reports.keep(project.id, report)
    lead = sign_in("lea", "lead", project)
    html = lead.open(f"/projects/{project.id}/quality")
    assert "The reward model is 95% sure of the opposite." in html
    assert "It was not trained on this pair." in html
    ruling = {"axis": "overall", "samples": first, "choice": "ab"[first.index(b)], "withdraw": True}
    told = lead.post(f"/api/projects/{project.id}/adjudicate", ruling).json()
    assert told["withdrawn"] == len(row["votes"])
    assert measure_quality(workspace, project.id)["contradictions"] == []

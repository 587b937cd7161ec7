"""Batches, projects and their rules: counts that are always right, limits that hold."""

from collections import Counter

import numpy as np
import pytest
import sqlalchemy as sa
from store_helpers import completion_sample

from backflip.errors import WorkspaceError
from backflip.records import Sample
from backflip.records.feedback import Comparison, Critique, SafetyFlag
from backflip.workspace import MAIN, ProjectSettings, Task, Workspace
from backflip.workspace.database import migrations, schema
from backflip.workspace.database.engine import Database

SAMPLES = [completion_sample(n, prompt=n // 2) for n in range(40)]
PAIRS = [
    Task(kind="comparison", sample_ids=(a.id, b.id))
    for a, b in zip(SAMPLES[::2], SAMPLES[1::2], strict=True)
]


def vote(task: Task, choice: str = "a") -> Comparison:
    fields = {"annotator": task.annotator, "samples": task.sample_ids, "choice": choice}
    return Comparison.model_validate(fields)


def counted(workspace: Workspace) -> tuple[dict[int, Counter[str]], dict[tuple[int, str], int]]:
    """Answers and skips of each batch, and answers of each person in it, row by row."""
    by_batch: dict[int, Counter[str]] = {}
    by_person: Counter[tuple[int, str]] = Counter()
    places, tasks = schema.assignments, schema.tasks
    query = sa.select(places.c.state, places.c.annotator, tasks.c.batch).join(
        tasks, tasks.c.id == places.c.task_id
    )
    with workspace.database.read() as connection:
        for state, annotator, batch in connection.execute(query):
            by_batch.setdefault(batch, Counter())[state] += 1
            by_person[batch, annotator] += state == "done"
    return by_batch, {key: number for key, number in by_person.items() if number}


def test_counts_are_those_of_the_rows(workspace: Workspace) -> None:
    """After a random row of answers, skips and undos, twice the same result by two ways."""
    workspace.samples.add(SAMPLES)
    queue, generator = workspace.queue, np.random.default_rng(5)
    queue.put("run-1", 1, PAIRS[:8], overlap=2)
    queue.put("run-1", 2, PAIRS[8:12], overlap=3)
    people = ["mia", "ann", "bob"]
    for _ in range(90):
        name = people[generator.integers(3)]
        task = queue.next(name)
        action = generator.integers(4)
        if action == 0:
            queue.undo(name)
        elif task is not None and action == 1:
            queue.skip(task.id, name)
        elif task is not None:
            queue.answer(task.id, name, vote(task))
    by_batch, by_person = counted(workspace)
    batches = workspace.batches.all()
    assert [(b.items, b.wanted) for b in batches] == [(8, 16), (4, 12)]
    for batch in batches:
        rows = by_batch[batch.number]
        assert (batch.done, batch.skipped) == (rows["done"], rows["skipped"])
        assert batch.done > 0
        hours = sa.select(sa.func.sum(schema.batch_hours.c.done))
        with workspace.database.read() as connection:
            of_batch = hours.where(schema.batch_hours.c.batch == batch.number)
            assert connection.execute(of_batch).scalar_one() == batch.done
        progress = queue.progress(batch.run, batch.round)
        assert (progress.done, progress.skipped) == (batch.done, batch.skipped)
        assert progress.leased == rows["leased"]
        mine = {name: n for (number, name), n in by_person.items() if number == batch.number}
        assert progress.by_annotator == mine
    shares = workspace.batches.shares(MAIN)
    for name in people:
        assert shares[name][0] == sum(n for (_, who), n in by_person.items() if who == name)
        assert queue.standing(name).given == shares[name][0]


def test_what_is_said_beside_an_answer_goes_and_comes_with_it(
    workspace: Workspace, samples: list[Sample]
) -> None:
    queue = workspace.queue
    queue.put("run-1", 1, [Task(kind="comparison", sample_ids=(samples[0].id, samples[1].id))])
    task = queue.next("mia")
    assert task is not None
    unsafe = SafetyFlag(annotator="mia", sample=task.sample_ids[1], safe=False)
    says = Critique(annotator="mia", sample=task.sample_ids[0], text="Vague.")
    for _ in range(2):  # sent twice, counted once
        queue.answer(task.id, "mia", vote(task), [unsafe, says])
    assert [e.kind for e in workspace.journal.active()] == ["comparison", "safety_flag", "critique"]
    other = says.model_copy(update={"sample": samples[5].id})
    strange = says.model_copy(update={"annotator": "bob"})
    assert queue.undo("mia") is not None
    assert workspace.journal.active() == []
    for wrong in (other, strange):
        with pytest.raises(WorkspaceError, match="what is said beside"):
            queue.answer(task.id, "mia", vote(task), [wrong])
    assert workspace.journal.active() == []
    queue.answer(task.id, "mia", vote(task), [says])
    assert len(workspace.journal.active()) == 2


def test_a_draft_comes_back_and_ends_with_the_answer(workspace: Workspace) -> None:
    workspace.samples.add(SAMPLES)
    workspace.queue.put("run-1", 1, PAIRS[:1])
    task = workspace.queue.next("mia")
    assert task is not None
    workspace.queue.save_draft(task.id, "mia", {"text": "half a th\u0007ought \u202e"})
    again = workspace.queue.next("mia")
    assert again is not None
    assert again.draft == {"text": "half a th\u0007ought \u202e"}
    workspace.queue.answer(task.id, "mia", vote(task))
    with pytest.raises(WorkspaceError, match="already answered"):
        workspace.queue.save_draft(task.id, "mia", {})
    assert workspace.queue.undo("mia").draft is None  # pyright: ignore


def test_the_next_task_besides_those_on_the_screen(workspace: Workspace) -> None:
    workspace.samples.add(SAMPLES)
    workspace.queue.put("run-1", 1, PAIRS[:2])
    first = workspace.queue.next("mia")
    assert first is not None
    second = workspace.queue.next("mia", besides=[first.id])
    assert second is not None
    assert second.id != first.id
    assert workspace.queue.next("mia", besides=[first.id, second.id]) is None
    assert workspace.queue.next("mia").id == first.id  # pyright: ignore
    assert workspace.queue.next("bob") is None


def test_guidelines_have_versions_and_answers_name_them(workspace: Workspace) -> None:
    workspace.samples.add(SAMPLES)
    project = workspace.projects.create("Kindness")
    queue = workspace.queue
    queue.put("run-1", 1, PAIRS[:3], project=project.id)
    answered = []
    for text in (None, "Be kind.", "Be kind.", "Be kinder."):
        if text is not None:
            workspace.projects.add_guideline(project.id, text, "lea")
        task = queue.next("mia", project=project.id)
        if task is not None:
            queue.answer(task.id, "mia", vote(task))
            answered.append(task.guideline)
    assert answered == [None, 1, 1]
    assert [entry.guideline for entry in workspace.journal.active()] == [None, 1, 1]
    assert [g.version for g in workspace.projects.guidelines(project.id)] == [2, 1]


def test_projects_keep_apart(workspace: Workspace) -> None:
    workspace.samples.add(SAMPLES)
    mine, other = (workspace.projects.create(name) for name in ("Mine", "Other"))
    workspace.queue.put("run-1", 1, PAIRS[:1], project=mine.id)
    assert workspace.queue.next("mia", project=other.id) is None
    task = workspace.queue.next("mia", project=mine.id)
    assert task is not None
    assert task.project == mine.id
    workspace.queue.answer(task.id, "mia", vote(task))
    assert workspace.queue.undo("mia", project=other.id) is None
    assert workspace.queue.undo("mia", project=mine.id) is not None
    with pytest.raises(WorkspaceError, match="no project 'nowhere'"):
        workspace.queue.put("run-2", 1, PAIRS[:1], project="nowhere")
    assert [batch.run for batch in workspace.batches.all()] == ["run-1"]
    for action in (
        lambda: workspace.projects.create("Mine"),
        lambda: workspace.projects.create("Main"),
        lambda: workspace.projects.change(other.id, name="Mine"),
    ):
        with pytest.raises(WorkspaceError, match="there is a project"):
            action()


def test_paused_closed_and_archived_hand_nothing_out(workspace: Workspace) -> None:
    workspace.samples.add(SAMPLES)
    workspace.queue.put("run-1", 1, PAIRS[:2])
    (batch,) = workspace.batches.all()
    for state in ("paused", "closed"):
        workspace.batches.set_state(batch.id, state)
        assert workspace.queue.next("mia") is None
        assert workspace.queue.standing("mia").open == 0
    workspace.batches.set_state(batch.id, "open")
    workspace.projects.change(MAIN, archived=True)
    assert workspace.queue.next("mia") is None
    workspace.projects.change(MAIN, archived=False)
    assert workspace.queue.next("mia") is not None
    with pytest.raises(WorkspaceError, match="no batch"):
        workspace.batches.set_state("run-9/1", "open")


def test_budgets_end_the_handing_out(workspace: Workspace) -> None:
    workspace.samples.add(SAMPLES)
    workspace.queue.put("run-1", 1, PAIRS, overlap=2)

    def answers(name: str) -> int:
        number = 0
        while (task := workspace.queue.next(name)) is not None:
            workspace.queue.answer(task.id, name, vote(task))
            number += 1
        return number

    workspace.projects.change(MAIN, settings=ProjectSettings(budget_per_person=3))
    assert [answers(name) for name in ("mia", "bob")] == [3, 3]
    workspace.projects.change(MAIN, settings=ProjectSettings(budget=10))
    held = workspace.queue.next("ann")
    assert held is not None
    assert answers("mia") == 3  # one of the ten is held by somebody else
    workspace.queue.answer(held.id, "ann", vote(held))
    assert answers("ann") == 0
    workspace.projects.change(MAIN, settings=ProjectSettings())
    assert answers("ann") > 0


def test_checks_come_to_everybody_once_and_as_often_as_asked(workspace: Workspace) -> None:
    workspace.samples.add(SAMPLES)
    checks = [task.model_copy(update={"expected": {"choice": "a"}}) for task in PAIRS[:3]]
    workspace.queue.put("checks", 0, checks, purpose="checks")
    workspace.queue.put("run-1", 1, PAIRS[3:15], overlap=2)
    workspace.projects.change(MAIN, settings=ProjectSettings(check_every=4))
    for name in ("mia", "bob"):
        asked = []
        while (task := workspace.queue.next(name)) is not None:
            asked.append(task.expected is not None)
            workspace.queue.answer(task.id, name, vote(task))
        places = np.flatnonzero(asked)
        assert len(places) == 3
        assert set(np.diff(places)) == {4}
        assert len(asked) == 15
    batch = workspace.batches.get("checks/0")
    assert (batch.items, batch.wanted, batch.done) == (3, 0, 6)
    progress = workspace.queue.progress("run-1", 1)
    assert (progress.wanted, progress.done, progress.finished) == (24, 24, True)


def test_rounds_of_an_older_workspace_become_batches(
    tmp_path, database_address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace of the first schema with answers in it is brought up to date, counts included."""
    monkeypatch.setattr(schema, "HEAD", "0001")
    upgrade = migrations.upgrade
    monkeypatch.setattr(migrations, "upgrade", lambda c: upgrade(c, "0001"))
    monkeypatch.setattr(Database, "identify", lambda _: None)
    with Workspace.create(tmp_path / "old", database_address) as old:
        old.samples.add(SAMPLES[:4])
        old.journal.add([Comparison(annotator="mia", samples=PAIRS[0].sample_ids, choice="a")])
        entry = old.journal.active()[0].id
        with old.database.write() as connection:
            for number, pair in enumerate(PAIRS[:2]):
                ids = '["' + '","'.join(pair.sample_ids) + '"]'
                connection.execute(
                    sa.text(
                        "INSERT INTO tasks (id, run, round, kind, axis, sample_ids, overlap, "
                        "closed, created) VALUES (:id, 'run-1', 2, 'comparison', 'overall', "
                        ":ids, 2, :no, '2026-01-01T00:00:00+00:00')"
                    ),
                    {"id": f"task-{number}", "ids": ids, "no": False},
                )
            for task, state, said in (("task-0", "done", entry), ("task-1", "skipped", None)):
                connection.execute(
                    sa.text(
                        "INSERT INTO assignments (task_id, annotator, state, attempt, shown, "
                        "expires, ended, entry_id) VALUES (:task, 'mia', :state, 0, '[0,1]', 0, "
                        "1, :said)"
                    ),
                    {"task": task, "state": state, "said": said},
                )
    monkeypatch.undo()
    with Workspace.open(tmp_path / "old") as workspace:
        (batch,) = workspace.batches.all()
        assert (batch.project, batch.run, batch.round) == (MAIN, "run-1", 2)
        assert (batch.items, batch.wanted, batch.done, batch.skipped) == (2, 4, 1, 1)
        assert workspace.queue.progress("run-1", 2).by_annotator == {"mia": 1}
        task = workspace.queue.next("bob")
        assert task is not None
        assert task.id == "task-0"
        assert workspace.queue.next("mia") is None
        assert workspace.queue.undo("mia").id == "task-1"  # pyright: ignore
        assert workspace.projects.get(MAIN).settings == ProjectSettings()

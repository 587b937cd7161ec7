"""Several processes at once, and processes that die: nothing is lost, doubled or half there."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest
from kill_worker import PAIR, VOTES
from store_helpers import completion_sample
from writer_worker import BATCH

from backflip.records import Sample
from backflip.records.feedback import Comparison
from backflip.workspace import Task, Workspace
from backflip.workspace.database import schema

Start = Callable[..., "Popen[str]"]


def finish(worker: "Popen[str]") -> list[str]:
    out, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, err
    return out.splitlines()


def test_several_processes_answer_one_queue(workspace: Workspace, run_worker: Start) -> None:
    """Four people and a second window of the first; 40 items with two places each."""
    samples = [completion_sample(n, prompt=n // 2) for n in range(80)]
    workspace.samples.add(samples)
    items = [
        Task(kind="comparison", sample_ids=(a.id, b.id))
        for a, b in zip(samples[::2], samples[1::2], strict=True)
    ]
    workspace.queue.put("run-1", 0, items, overlap=2)
    people = ["p0", "p1", "p2", "p3", "p0"]
    workers = [run_worker("queue_worker", str(workspace.root), name) for name in people]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == '"ready"\n', worker.communicate()[1]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(line) for worker in workers for line in finish(worker)]

    entries = workspace.journal.active(rounds=0, run="run-1")
    by_pair = Counter(entry.sample_ids for entry in entries)
    assert by_pair == {item.sample_ids: 2 for item in items}
    assert len({(entry.annotator, entry.sample_ids) for entry in entries}) == 80
    # What was acknowledged is there, and nothing that was not.
    assert {entry_id for _, entry_id in told} == {entry.id for entry in entries}
    progress = workspace.queue.progress("run-1", 0)
    assert (progress.done, progress.leased, progress.finished) == (80, 0, True)
    assert progress.by_annotator == Counter(entry.annotator for entry in entries)


def test_a_killed_writer_leaves_whole_batches(
    workspace: Workspace, samples: list[Sample], run_worker: Start
) -> None:
    writer = run_worker("writer_worker", str(workspace.root), samples[0].id)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(6)]
    writer.kill()
    rest, _ = writer.communicate()
    acknowledged += [int(line) for line in rest.splitlines()]
    batches = Counter(int(entry.key.split("/")[0]) for entry in workspace.journal.active())
    assert set(batches.values()) == {BATCH}
    assert set(acknowledged) <= set(batches)
    # The workspace goes on as if nothing had happened.
    assert workspace.journal.retract_annotator("mia", "test", by="boss")
    assert workspace.journal.count() == 0


CHANGES: dict[str, dict[str, int]] = {
    "samples": {"prompts": 440, "samples": 440},
    "journal": {"journal": 1200},
    "snapshot": {"snapshots": 1, "snapshot_entries": 1201},
    "answer": {"journal": 1, "answers": 1, "contributions": 1, "batch_hours": 1},
    "undo": {"journal": 1, "answers": -1},
}


@pytest.mark.parametrize("action", CHANGES)
def test_killed_at_any_statement_nothing_is_half_written(
    workspace: Workspace, action: str, run_worker: Start
) -> None:
    workspace.samples.add(PAIR)
    pair = Task(kind="comparison", sample_ids=tuple(s.id for s in PAIR))
    workspace.queue.put("run-1", 0, [pair])
    if action not in ("journal", "answer"):
        workspace.journal.add(VOTES)
        task = workspace.queue.next("mia")
        assert task is not None
        vote = Comparison(annotator="mia", samples=task.sample_ids, choice="a")
        workspace.queue.answer(task.id, "mia", vote)
    worker = run_worker("kill_worker", str(workspace.root), action, "1")
    before, *deaths, end = [json.loads(line) for line in finish(worker)]
    assert len(deaths) >= 4
    assert deaths == [before] * len(deaths)
    assert end == {**before, **{k: before[k] + v for k, v in CHANGES[action].items()}}


def test_killed_while_it_is_made(
    tmp_path: Path, database_address: str | None, run_worker: Start
) -> None:
    folder = tmp_path / "workspace"
    worker = run_worker("kill_worker", str(folder), "create", "11", database_address or "")
    before, *deaths, end = [json.loads(line) for line in finish(worker)]
    assert before == {}
    assert len(deaths) >= 4
    assert deaths == [{}] * len(deaths)
    assert end["prompts"] == 0
    with Workspace.open(folder) as workspace:
        assert workspace.database.revision() == schema.HEAD

"""How long every page takes in a large workspace; prints one JSON line.

    python benchmarks/server_pages.py [--samples 100000] [--answers 500000] [--database ADDRESS]

A workspace with so many samples and answers is made, and every page and the requests of the
labelling page are asked for some times, one after the other, as its lead. Answers are written as
the queue writes them, but many at once, so that it takes minutes and not an hour.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi.testclient import TestClient

from backflip.quality.report import measure_quality
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison
from backflip.web import create_app
from backflip.workspace import ModelRecord, Project, Task, Workspace
from backflip.workspace.database import schema
from backflip.workspace.database.engine import chunks
from backflip.workspace.labelling.batches import HOUR
from backflip.workspace.material.annotators import insert_annotators

PEOPLE = 200
REPEATS = 7


def fill(workspace: Workspace, num_samples: int, num_answers: int) -> Project:
    """A project whose questions are answered as far as the answers go."""
    samples = [
        Sample.of(
            Prompt.from_text(f"Question {n // 2}: what do you think of it?"),
            Completion(text=f"Reply {n}. " + "It goes on for a while. " * 12, finish="stop"),
            model="model-1",
            seed=n,
        )
        for n in range(num_samples)
    ]
    for chunk in chunks(samples, 5000):
        workspace.samples.add(chunk)
    project = workspace.projects.create("Large")
    pairs = [
        Task(kind="comparison", sample_ids=(a.id, b.id))
        for a, b in zip(samples[::2], samples[1::2], strict=True)
    ]
    overlap = -(-num_answers // (len(pairs) - len(pairs) // 10))  # a tenth is left open
    half = len(pairs) // 2
    for round_, part in enumerate((pairs[:half], pairs[half:]), start=1):
        workspace.queue.put("run-1", round_, part, overlap=overlap, project=project.id)
    answer(workspace, overlap, num_answers)
    return project


def answer(workspace: Workspace, overlap: int, number: int) -> None:
    """Write answers as `Queue.answer` does, the counts included."""
    names = [f"person-{n:03d}" for n in range(PEOPLE)]
    tasks, places, journal = schema.tasks, schema.assignments, schema.journal
    with workspace.database.write("annotators") as connection:
        insert_annotators(connection, dict.fromkeys(names, "people"))
        columns = (tasks.c.id, tasks.c.sample_ids, tasks.c.batch, tasks.c.round)
        rows = connection.execute(sa.select(*columns).order_by(tasks.c.number)).all()
    shares: dict[tuple[int, str], int] = {}
    done: dict[int, int] = {}
    hours: dict[tuple[int, int], int] = {}
    left = number
    now = time.time()
    for part in chunks(rows, 2000):
        entries, given, closed = [], [], []
        for k, row in enumerate(part):
            if left < overlap:
                break
            for j in range(overlap):
                name = names[(hash(row.id) + 7 * j + k) % PEOPLE]
                vote = Comparison(
                    annotator=name,
                    samples=row.sample_ids,
                    choice=("a", "b", "tie")[(k + j) % 3],
                    shown=(0, 1),
                    seconds=5.0 + j,
                    key=f"{row.id}/0",
                )
                body = vote.model_dump(mode="json")
                entries.append(
                    {
                        "id": vote.id,
                        "kind": "comparison",
                        "annotator": name,
                        "axis": "overall",
                        "origin": "people",
                        "run": "run-1",
                        "round": row.round,
                        "body": body,
                        "created": columns.now(),
                    }
                )
                given.append(
                    {
                        "task_id": row.id,
                        "annotator": name,
                        "state": "done",
                        "attempt": 0,
                        "shown": (0, 1),
                        "expires": now,
                        "ended": now - left / 10,
                        "entry_id": vote.id,
                    }
                )
                shares[row.batch, name] = shares.get((row.batch, name), 0) + 1
                done[row.batch] = done.get(row.batch, 0) + 1
                hour = int((now - left / 10) // HOUR)
                hours[row.batch, hour] = hours.get((row.batch, hour), 0) + 1
            closed.append(row.id)
            left -= overlap
        if not entries:
            break
        with workspace.database.write("queue", "journal") as connection:
            connection.execute(sa.insert(journal), entries)
            connection.execute(sa.insert(places), given)
            shut = sa.update(tasks).where(tasks.c.id.in_(closed))
            connection.execute(shut.values(closed=True))
    with workspace.database.write("queue") as connection:
        connection.execute(
            sa.insert(schema.contributions),
            [
                {"batch": batch, "annotator": name, "done": n, "skipped": 0}
                for (batch, name), n in shares.items()
            ],
        )
        connection.execute(
            sa.insert(schema.batch_hours),
            [{"batch": batch, "hour": hour, "done": n} for (batch, hour), n in hours.items()],
        )
        for batch, n in done.items():
            this = sa.update(schema.batches).where(schema.batches.c.number == batch)
            connection.execute(this.values(done=n))


def timed(request: Callable[[], Any]) -> float:
    """The median of some tries in milliseconds; an error page is no page."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        response = request()
        times.append(1000 * (time.perf_counter() - start))
        if response.status_code != 200:
            raise SystemExit(f"{response.request.url}: {response.status_code} {response.text}")
    return round(statistics.median(times), 1)


def answerer(workspace: Workspace, project: Project) -> str:
    """A member whose answers some of those are."""
    user = workspace.people.add("answers")
    with workspace.database.write("people") as connection:
        this = sa.update(schema.users).where(schema.users.c.id == user.id)
        connection.execute(this.values(annotator="person-000"))
    workspace.projects.set_role(project.id, user.id, "annotator")
    return user.id


def learner(workspace: Workspace) -> str:
    """A model that has learned from every answer."""
    query = sa.select(schema.journal.c.id).order_by(schema.journal.c.number)
    with workspace.database.read() as connection:
        ids = list(connection.execute(query).scalars())
    snapshot = workspace.snapshots.take(ids).id
    workspace.runs.start("run-1", "large", {}, "1.0")
    record = ModelRecord(id="m", name="m", stage="reward", path="m", snapshot=snapshot, run="run-1")
    workspace.models.register(record)
    return record.id


def measure(workspace: Workspace, project: Project) -> dict[str, float]:
    user = workspace.people.add("lead", admin=True)
    key = workspace.people.add_token(user.id, "bench")
    client = TestClient(create_app(workspace), headers={"authorization": f"Bearer {key}"})
    root = f"/projects/{project.id}"
    person = answerer(workspace, project)
    started = time.perf_counter()
    model = learner(workspace)
    found = {"to register a model of all answers": 1000 * (time.perf_counter() - started)}
    names = "answers chat data label models people playground quality questions rules webhooks"
    pages = ["", *(f"/{name}" for name in names.split())]
    pages += [f"/people/{person}/forget", f"/models/{model}"]
    for page in pages:
        shown = (root + page).replace(project.id, "ID").replace(person, "ID")
        found[shown] = timed(lambda p=page: client.get(root + p))
    for path in ("/", "/account", "/admin/people", f"/api{root}/overview"):
        found[path.replace(project.id, "ID")] = timed(lambda p=path: client.get(p))
    found["next task"] = timed(lambda: client.post(f"/api{root}/next", json={}))

    def give() -> Any:
        task = client.post(f"/api{root}/next", json={}).json()["task"]
        body = {"answer": {"kind": "comparison", "choice": "tie"}, "wants_next": True}
        return client.post(f"/api/tasks/{task['id']}/answer", json=body)

    found["next task, then an answer with the next one"] = timed(give)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--answers", type=int, default=500_000)
    parser.add_argument("--database", help="address of an empty PostgreSQL database")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Workspace.create(Path(folder) / "workspace", options.database) as workspace,
    ):
        project = fill(workspace, options.samples, options.answers)
        start = time.perf_counter()
        report = measure_quality(workspace, project.id)
        seconds = time.perf_counter() - start
        workspace.reports.keep(project.id, report)
        result = {
            "database": "sqlite" if workspace.database.is_sqlite else "postgresql",
            "samples": options.samples,
            "answers": report["answers"],
            "report_seconds": round(seconds, 1),
            "milliseconds": measure(workspace, project),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

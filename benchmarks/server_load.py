"""Load and kill test of the labelling server; prints one JSON line.

    python benchmarks/server_load.py                              # SQLite
    python benchmarks/server_load.py --database postgresql://...  # an empty database
    python benchmarks/server_load.py --kills 5 --servers 2 --database postgresql://...

Simulated annotators answer comparisons over HTTP as the page does: the answer brings the next
task. They think for a while between answers, send some answers twice, and try again when the
server is gone. With `--kills`, a server is killed (SIGKILL) so many times on the way and started
again at once. In the end every acknowledged answer must be in the journal exactly once, and no
question may have more answers than its overlap.
"""

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from backflip.records import Completion, Prompt, Sample
from backflip.web.access import COOKIE
from backflip.web.security import Signer
from backflip.workspace import Project, Task, Workspace

WORDS = ["calm", "river", "over", "bright", "morning", "people", "slowly", "find", "kind", "words"]
OVERLAP = 2
START = "from backflip.cli import main; main()"


@dataclass
class Told:
    """What the annotators saw."""

    milliseconds: list[float] = field(default_factory=list)
    acknowledged: set[tuple[str, str]] = field(default_factory=set)
    sent_twice: int = 0
    tried_again: int = 0
    refused: Counter[int] = field(default_factory=Counter)


class Server:
    """A server process, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, port: int):
        self.folder, self.port = folder, port
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-c", START, "serve", str(self.folder)]
        log = (self.folder.parent / f"server-{self.port}.log").open("ab")
        self.process = subprocess.Popen([*command, f"port={self.port}"], stdout=log, stderr=log)

    async def ready(self) -> None:
        async with httpx.AsyncClient() as client:
            for _ in range(600):
                try:
                    if (await client.get(f"{self.address}/healthz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.1)
        raise SystemExit("the server did not come up")

    def stop(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()


def fill(workspace: Workspace, num_pairs: int, people: int) -> tuple[Project, list[dict[str, str]]]:
    """A project with questions, and people who are signed in to it."""
    draw = random.Random(1)
    samples = [
        Sample.of(
            Prompt.from_text(f"Question {n // 2}: what do you think of it?"),
            Completion(text=" ".join(draw.choices(WORDS, k=80)), finish="stop"),
            model="model-1",
            seed=n,
        )
        for n in range(2 * num_pairs)
    ]
    workspace.samples.add(samples)
    project = workspace.projects.create("Load")
    pairs = [
        Task(kind="comparison", sample_ids=(a.id, b.id))
        for a, b in zip(samples[::2], samples[1::2], strict=True)
    ]
    workspace.queue.put("run-1", 1, pairs, overlap=OVERLAP, project=project.id)
    signer = Signer(workspace.people.secret("cookies"))
    keys = []
    for number in range(people):
        user = workspace.people.add(f"annotator {number}")
        workspace.projects.set_role(project.id, user.id, "annotator")
        key, session = workspace.people.start_session(user.id, 86400)
        keys.append({"cookie": signer.sign(key), "csrf": session.csrf, "annotator": user.annotator})
    return project, keys


async def annotate(
    server: Server, project: Project, key: dict[str, str], told: Told, options: argparse.Namespace
) -> None:
    """One person, until the time is over."""
    draw = random.Random(key["annotator"])
    end = time.monotonic() + options.seconds
    await asyncio.sleep(draw.uniform(0, options.think))
    headers = {"x-csrf-token": key["csrf"], "cookie": f"{COOKIE}={key['cookie']}"}
    # Certificates are read for every client anew, which 200 of them would be busy with.
    async with httpx.AsyncClient(
        base_url=server.address,
        headers=headers,
        timeout=30,
        verify=False,  # noqa: S501  (plain http)
    ) as client:
        task = await ask(client, f"/api/projects/{project.id}/next", {}, told)
        while task is not None and time.monotonic() < end:
            await asyncio.sleep(draw.uniform(0.5, 1.5) * options.think)
            answer = {"kind": "comparison", "choice": draw.choice(["a", "b", "tie"])}
            body = {"answer": answer, "seconds": 3, "wants_next": True, "besides": [task["id"]]}
            path = f"/api/tasks/{task['id']}/answer"
            if draw.random() < 0.05:
                told.sent_twice += 1
                await ask(client, path, {**body, "wants_next": False}, told)
            saved = await ask(client, path, body, told, whole=True)
            if saved.get("saved"):
                told.acknowledged.add((task["id"], key["annotator"]))
            task = saved.get("task")
            if task is None:
                task = await ask(client, f"/api/projects/{project.id}/next", {}, told)


async def ask(client, path, body, told: Told, *, whole: bool = False):
    """Send until there is an answer, as the page's "try again" does."""
    while True:
        start = time.perf_counter()
        try:
            response = await client.post(path, json=body)
        except httpx.HTTPError:
            told.tried_again += 1
            await asyncio.sleep(0.2)
            continue
        told.milliseconds.append(1000 * (time.perf_counter() - start))
        if response.status_code != 200:
            told.refused[response.status_code] += 1
            if response.status_code >= 500:
                await asyncio.sleep(0.2)
                continue
            return {}
        data = response.json()
        return data if whole else data.get("task")


async def kill(servers: list[Server], options: argparse.Namespace) -> None:
    """Kill one server after the other, evenly over the time."""
    for number in range(options.kills):
        await asyncio.sleep(options.seconds / (options.kills + 1))
        server = servers[number % len(servers)]
        server.stop(signal.SIGKILL)
        server.start()


def check(workspace: Workspace, told: Told) -> dict[str, int]:
    """What the journal holds beside what was acknowledged."""
    entries = workspace.journal.active()
    by_task: Counter[str] = Counter()
    kept: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        task = entry.key.split("/")[0]
        by_task[task] += 1
        kept[task, entry.annotator] += 1
    (batch,) = workspace.batches.all()
    return {
        "answers": len(entries),
        "acknowledged": len(told.acknowledged),
        "lost": sum(kept[each] == 0 for each in told.acknowledged),
        "doubled": sum(number > 1 for number in kept.values()),
        "past_overlap": sum(number > OVERLAP for number in by_task.values()),
        "miscounted": abs(batch.done - len(entries)),
    }


async def run(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    told = Told()
    with Workspace.create(folder, options.database) as workspace:
        project, keys = fill(workspace, options.pairs, options.people)
        servers = [Server(folder, options.port + n) for n in range(options.servers)]
        for server in servers:
            server.start()
        try:
            for server in servers:
                await server.ready()
            people = [
                annotate(servers[n % len(servers)], project, key, told, options)
                for n, key in enumerate(keys)
            ]
            await asyncio.gather(kill(servers, options), *people)
        finally:
            for server in servers:
                server.stop(signal.SIGTERM)
        found = check(workspace, told)
        is_sqlite = workspace.database.is_sqlite
    times = np.asarray(told.milliseconds)
    return {
        "database": "sqlite" if is_sqlite else "postgresql",
        "servers": options.servers,
        "people": options.people,
        "seconds": options.seconds,
        "kills": options.kills,
        "requests": len(times),
        "requests_per_second": round(len(times) / options.seconds, 1),
        "p50_ms": round(float(np.quantile(times, 0.5)), 1),
        "p95_ms": round(float(np.quantile(times, 0.95)), 1),
        "p99_ms": round(float(np.quantile(times, 0.99)), 1),
        "sent_twice": told.sent_twice,
        "tried_again": told.tried_again,
        "refused": dict(told.refused),
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", help="address of an empty PostgreSQL database")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--think", type=float, default=4.0, help="mean seconds between answers")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--port", type=int, default=8700)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(run(Path(folder) / "workspace", options))))


if __name__ == "__main__":
    main()

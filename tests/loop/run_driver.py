"""A process that starts runs as processes of their own, some of which end at a chosen instant.

The imports take longer than a tiny run, so they are done once: each run is a fork of this process
before it has done anything. A job is a line of JSON on standard input; "pid N" is answered when its
process is there, and "end CODE" when it is gone.

A job may ask for its own death: `die = [kind, n]` kills the process at the n-th instant of a kind.
Instants stand before everything that leaves a trace, and in the middle of writing a file: flushing,
renaming, removing, each statement and commit of the database, acting, learning.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

torch.set_num_threads(1)

from sqlalchemy import event  # noqa: E402
from sqlalchemy.engine import Engine  # noqa: E402
from sqlalchemy.pool import Pool  # noqa: E402

from backflip.agents import AgentSampler  # noqa: E402
from backflip.loop import Recipe, Run, make_domain  # noqa: E402
from backflip.sampling.fast import FastDecoder  # noqa: E402
from backflip.training import Checkpoints, Optimizer  # noqa: E402
from backflip.workspace import Workspace  # noqa: E402


class Instants:
    """Counts instants by kind; ends the process at one of them, and waits at each of some kind."""

    def __init__(self, die: tuple[str, int] | None, slow: float):
        self.die = die
        self.slow = slow
        self.counts: dict[str, int] = {}

    def __call__(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.slow and kind == "write":
            time.sleep(self.slow)
        if self.die == (kind, self.counts[kind]):
            os.kill(os.getpid(), signal.SIGKILL)


def watch(instants: Instants) -> None:
    """Put an instant before everything that a run does to the world; after is before the next."""

    def before(owner: Any, name: str, kind: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            instants(kind)
            return real(*args, **kwargs)

        setattr(owner, name, call)

    def in_halves(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            instants("write")
            file.write(data[len(data) // 2 :])

    for name in ("fsync", "unlink", "rmdir"):
        before(os, name, "write")
    for name in ("rename", "replace", "mkdir"):
        before(Path, name, "write")
    Path.write_bytes = in_halves
    Path.write_text = lambda path, text, **_: in_halves(path, text.encode())
    before(Checkpoints, "save", "checkpoint")
    before(Optimizer, "step", "learn")
    before(AgentSampler, "_choose", "act")
    before(FastDecoder, "step", "act")
    event.listen(Engine, "before_cursor_execute", lambda *_: instants("database"))
    event.listen(Engine, "commit", lambda *_: instants("commit"))
    event.listen(Pool, "checkin", lambda *_: instants("commit"))


def work(job: dict[str, Any]) -> None:
    """Do one job to its end, or to its death."""
    instants = Instants(tuple(job["die"]) if job.get("die") else None, job.get("slow", 0.0))
    watch(instants)
    if "command" in job:
        from backflip.cli import main

        sys.argv = ["backflip", *job["command"]]
        main()
        return
    recipe = Recipe.parse(job["recipe"])
    with Workspace.open(job["workspace"]) as workspace:
        Run(workspace, recipe, make_domain(recipe, workspace)).go()
    if "counts" in job:
        with open(job["counts"], "w") as file:  # noqa: PTH123  # Path's own is watched
            json.dump(instants.counts, file)


def fork(job: dict[str, Any]) -> int:
    """Start a job; returns the id of its process."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        work(job)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        pid = fork(json.loads(line))
        print(f"pid {pid}", flush=True)
        _, status = os.waitpid(pid, 0)
        print(f"end {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()

"""`backflip worker` as a process: killed, told to end, and once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from worker_helpers import CHAT, Ask, check, enter, long_seed, work

from backflip.workspace import Workspace

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts `backflip worker` as a process; none outlives the test."""
    with ExitStack() as stack:

        def run(folder: Path, *arguments: str, slow: float = 0.03) -> "subprocess.Popen[str]":
            script = str(Path(__file__).with_name("worker_process.py"))
            given = ["worker", "-w", str(folder), "--precision", "float32", *arguments]
            process = subprocess.Popen(
                [sys.executable, script, str(slow), *given],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


LONG = {"max_tokens": 100}


def wait_for_text(workspace: Workspace, name: str, process: "subprocess.Popen[str]") -> None:
    """Wait until a page would see some of a reply."""
    while not (found := workspace.generations.get(name)).text:
        assert process.poll() is None, process.communicate()[1]
        assert not found.ended, found.error
        time.sleep(0.01)


def test_killed_and_started_again_the_text_is_the_same(
    workspace: Workspace, models: Path, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    ask = enter(workspace, models)
    seed = long_seed(models, LONG)
    name, other = ask(settings=LONG, seed=seed), ask(settings=LONG, seed=seed + 1, prompt=CHAT)
    process = start(workspace.root)
    wait_for_text(workspace, name, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = workspace.generations.get(name)
    assert left.state == "running"
    assert workspace.generations.get(other).state == "running"
    assert workspace.samples.of_model("model-one") == []
    # While it may be alive still, nobody takes what it held.
    assert work(workspace)[0]["done"] == 0
    now = time.time()
    workspace.generations.clock = lambda: now + 60
    assert work(workspace)[0] == {"done": 2, "failed": 0, "cancelled": 0}
    check(workspace, models, name)
    check(workspace, models, other)
    assert workspace.generations.get(name).text.startswith(left.text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_end_it_gives_back_what_it_holds(
    desk: Workspace,
    models: Path,
    ask: Ask,
    start: Callable[..., "subprocess.Popen[str]"],
    number: int,
) -> None:
    name = ask(settings=LONG, seed=long_seed(models, LONG))
    process = start(desk.root, "--json")
    wait_for_text(desk, name, process)
    assert desk.generations.worker_alive()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert "Stopped" in json.loads(out)["error"]["what"]
    left = desk.generations.get(name)
    assert (left.state, left.worker) == ("waiting", None)
    assert left.text
    assert not desk.generations.worker_alive()
    # No clock need be waited for.
    assert work(desk)[0]["done"] == 1
    check(desk, models, name)


def test_once_ends_when_nothing_waits(
    desk: Workspace, models: Path, ask: Ask, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    names = [ask(), ask("model-two", CHAT), ask(settings={"max_prompt_tokens": 5})]
    process = start(desk.root, "--once", "--json", "--models-in-memory", "2", slow=0.0)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert json.loads(out) == {"done": 2, "failed": 1, "cancelled": 0}
    assert all(name in err for name in names)
    assert "max_prompt_tokens is 5" in err
    for name in names[:2]:
        check(desk, models, name)

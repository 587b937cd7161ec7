"""Fixtures of the store's tests."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from store_helpers import completion_sample

from backflip.records import Sample
from backflip.workspace import Workspace


@pytest.fixture
def samples(workspace: Workspace) -> list[Sample]:
    """Eight completions of two prompts, in the workspace."""
    made = [completion_sample(n, prompt=n // 4) for n in range(8)]
    workspace.samples.add(made)
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Another `database_address`, for tests that move from one to another."""
    if request.param == "sqlite":
        yield None
        return
    server = request.getfixturevalue("postgresql")
    address = server.new_database("template0")
    yield address
    server.drop_database(address)


@pytest.fixture
def run_worker() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts `tests/workspace/NAME.py` as a process of its own; none outlives the test."""
    with ExitStack() as stack:

        def run(name: str, *arguments: str) -> "subprocess.Popen[str]":
            worker = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(worker)
            stack.callback(worker.kill)
            return worker

        yield run

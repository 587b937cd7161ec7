"""The lock of a run, where it cannot be had."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backflip.errors import WorkspaceError
from backflip.loop import Recipe, Run


def run_in(folder: Path) -> Run:
    runs = SimpleNamespace(all=list)
    workspace: Any = SimpleNamespace(artifacts=folder, runs=runs)
    return Run(workspace, Recipe(), cast(Any, None))


def test_another_process_is_told_apart_from_a_broken_place(tmp_path: Path) -> None:
    with (
        run_in(tmp_path).alone(),
        pytest.raises(WorkspaceError, match="another process"),
        run_in(tmp_path).alone(),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError) as told, run_in(tmp_path / "file").alone():
        pass
    assert told.value.what == "the run's lock cannot be written: Not a directory"
    assert told.value.where == str(tmp_path / "file" / "runs" / Recipe().run_id / "lock")
    assert "free space" in str(told.value.hint)


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks_is_not_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refuse(_file: object, _how: int) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(WorkspaceError, match=os.strerror(refusal)), run_in(tmp_path).alone():
        pass


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
sys.stdin.read()
"""


def hold(place: Path) -> subprocess.Popen[str]:
    """A process that takes the lock as the system has it, and keeps it until it ends."""
    command = [sys.executable, "-c", HOLDER, str(place)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_the_lock_is_the_systems_and_goes_with_a_process_that_is_killed(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    place = tmp_path / "runs" / run.id / "lock"
    with run.alone(), hold(place) as refused:
        _, told = refused.communicate(timeout=60)
        assert "BlockingIOError" in told
    with pytest.raises(KeyError), run.alone():
        raise KeyError
    with hold(place) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceError, match="another process"), run.alone():
            pass
        holder.kill()
        holder.wait(60)
        with run.alone():
            pass

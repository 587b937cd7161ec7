"""The lock of a run, where it cannot be had."""

import errno
import os
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


def test_a_file_system_without_locks_is_not_another_process(tmp_path: Path, monkeypatch) -> None:
    def refuse(_file: object, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(WorkspaceError, match="No locks available"), run_in(tmp_path).alone():
        pass

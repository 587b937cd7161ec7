"""A disk or a database that fills up is told, and cleared the run goes on as if it had not."""

import errno
import itertools
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import agent_recipe, compare, left_by, make_run, text_recipe
from sqlalchemy import event

from backflip.errors import BackflipError, WorkspaceError
from backflip.workspace import Workspace


class DiskFull:
    """The n-th flush finds no room, and neither does any after it."""

    def __init__(self, number: int):
        self.left = number
        self.real = os.fsync

    def __call__(self, descriptor: int) -> None:
        self.left -= 1
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(descriptor)


@pytest.mark.parametrize("make", [agent_recipe, text_recipe])
def test_a_disk_that_fills_up_is_told_and_cleared_the_run_goes_on(make, tmp_path, monkeypatch):
    recipe = text_recipe(tmp_path) if make is text_recipe else make()
    torch.set_num_threads(1)
    with Workspace.create(tmp_path / "straight") as workspace:
        make_run(workspace, recipe)[0].go()
    rng, told = random.Random(3), []
    with Workspace.create(tmp_path / "full") as workspace:
        for attempt in range(200):
            with monkeypatch.context() as patched:
                # Ever more room: what a run does between two things that it keeps may take much.
                patched.setattr(os, "fsync", DiskFull(rng.randint(2, 24 + attempt)))
                try:
                    make_run(workspace, recipe)[0].go()
                except BackflipError as error:
                    told.append(error)
                else:
                    break
        else:
            pytest.fail("it does not get on")
    assert len(told) >= 5
    for error in told:
        assert "disk is full" in error.what or "No space left" in error.what
        assert error.hint
        assert error.where
    compare(left_by(tmp_path / "full", recipe), left_by(tmp_path / "straight", recipe))


def test_a_full_database_is_told_and_cleared_the_run_goes_on(tmp_path: Path):
    recipe = agent_recipe(loop={"rounds": 1, "checkpoint_every": 1})
    torch.set_num_threads(1)
    with Workspace.create(tmp_path / "straight") as workspace:
        make_run(workspace, recipe)[0].go()
    told, pages = 0, 0
    with Workspace.create(tmp_path / "full") as workspace:

        def limit(connection: Any, record: Any) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages}")

        event.listen(workspace.database.engine, "connect", limit)
        with workspace.database.read() as connection:
            first = connection.exec_driver_sql("PRAGMA page_count").scalar()
        for pages in itertools.count(first + 2, 12):
            workspace.database.engine.dispose()
            try:
                make_run(workspace, recipe)[0].go()
            except WorkspaceError as error:
                assert "disk is full" in error.what
                told += 1
            else:
                break
    assert told >= 3
    compare(left_by(tmp_path / "full", recipe), left_by(tmp_path / "straight", recipe))

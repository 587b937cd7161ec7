"""Fixtures of the tests of the labeller in a terminal."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backflip.workspace import Workspace


@pytest.fixture(scope="session")
def workspace_to_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace to copy: a copy is quicker than a migration."""
    root = tmp_path_factory.mktemp("terminal") / "work"
    with Workspace.create(root) as workspace:
        workspace.runs.start("run-1", "test", {}, "0")
    return root


@pytest.fixture
def ws(workspace_to_copy: Path, tmp_path: Path) -> Iterator[Workspace]:
    shutil.copytree(workspace_to_copy, tmp_path / "work")
    with Workspace.open(tmp_path / "work") as workspace:
        yield workspace

"""A disk that refuses a file, a folder or a name is told in words, and nothing half-made stays."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from backflip.errors import WorkspaceError
from backflip.workspace import Workspace

LEAST = {
    "votes.jsonl": 2,
    "votes.json.gz": 2,
    "votes.parquet": 2,
    "report": 2,
    "backup": 2,
    "restore": 6,
    "workspace": 4,
    "scratch": 1,
}
"""Writers, and how many makings of each can be refused at the least."""


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    folder = tmp_path_factory.mktemp("refusing")
    worker = Path(__file__).with_name("refusing_disk.py")
    done = subprocess.run(
        [sys.executable, worker, folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", LEAST)
def test_what_the_system_refuses_is_told_and_leaves_all_as_it_was(
    attempts: dict[str, list[Any]], name: str
) -> None:
    """Whichever making is refused, and with which error; then the same command works."""
    assert len(attempts[name]) >= LEAST[name]
    for number, attempt in enumerate(attempts[name], 1):
        assert attempt["told"] is not None, number
        kind, what, where, hint = attempt["told"]
        assert kind in ("WorkspaceError", "FormatError"), attempt
        assert "be made" in what or "be written" in what, attempt
        assert where
        assert "free space" in hint, attempt
        kept = [left for left in attempt["left"] if not left.startswith("fresh/backflip.db")]
        assert not kept, attempt


SAID = {
    "unable to open database file": "free space",
    "disk I/O error": "free space",
    "database or disk is full": "free space",
    "attempt to write a readonly database": "free space",
    "database disk image is malformed": "backflip doctor",
    "file is not a database": "backflip doctor",
}


def test_what_sqlite_says_of_the_disk(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "work") as workspace:
        for told, hint in SAID.items():
            error = sqlite3.OperationalError(told)
            with pytest.raises(WorkspaceError, match=told) as caught, workspace.database.read():
                raise DBAPIError.instance("", {}, error, sqlite3.Error)
            assert hint in str(caught.value)

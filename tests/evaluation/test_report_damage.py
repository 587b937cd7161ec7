"""Whatever letter of what was kept is another, a report is written or the damage told in words."""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_report import run  # noqa: F401  the run that is damaged

from backflip.errors import BackflipError, DamageError
from backflip.evaluation.report import gather, summary
from backflip.records.plan import STAGES
from backflip.workspace import Workspace, lineage
from damage import change_letter
from fuzzing import seeds

TABLES = ("journal", "stages", "runs", "models", "samples", "prompts", "metrics", "snapshots")
"""What a report reads."""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """On SQLite: the rows are the same on PostgreSQL, whose guards are not so easily passed."""
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


def read(workspace: Workspace) -> str:
    """How all that reads a run ended."""
    ends = []
    for work in (
        lambda: gather(workspace, "run-1"),
        lambda: summary(workspace, "run-1"),
        lambda: lineage(workspace, "policy").annotators,
        lambda: [workspace.stages.results("run-1", kind) for kind in STAGES.values()],
    ):
        try:
            work()
            ends.append("read")
        except BackflipError as error:
            assert error.what
            ends.append("damage" if isinstance(error, DamageError) else "another error")
    return ", ".join(sorted(set(ends)))


def test_any_letter_may_be_another(run: Workspace):  # noqa: F811
    ends: Counter[str] = Counter()
    file = run.root / "backflip.db"
    with closing(sqlite3.connect(file)) as kept, closing(sqlite3.connect(":memory:")) as whole:
        kept.backup(whole)
        for seed in seeds(80):
            place = change_letter(file, TABLES, random.Random(seed))
            try:
                ends[read(run)] += 1
            except Exception as error:
                raise AssertionError(f"{place}, seed {seed}") from error
            whole.backup(kept)
    assert sum(number for end, number in ends.items() if "damage" in end) > 10
    assert ends["read"] > 10

"""Backups beside other processes, and in processes that die: whole or not there."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

from backup_helpers import dangling, everything, files_in, live, rows_in

from backflip.workspace import Workspace
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.reading import check_backup
from backflip.workspace.transfer.restore import restore_backup

Start = Callable[..., "Popen[str]"]


def finish(worker: "Popen[str]") -> list[Any]:
    out, err = worker.communicate(timeout=900)
    assert worker.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_another_process_writes_all_the_time(
    workspace: Workspace, tmp_path: Path, run_worker: Start
) -> None:
    live(workspace)
    writer = run_worker("backup_worker", "write", str(workspace.root))
    assert writer.stdout is not None
    sizes = []
    for number in range(6):
        told = [json.loads(writer.stdout.readline()) for _ in range(10)]
        file = tmp_path / f"{number}.tar"
        write_backup(workspace, file)
        rows = rows_in(file)
        assert dangling(rows) == []
        samples = {row["id"] for row in rows["samples"]}
        answers = [json.loads(row["body"]) for row in rows["journal"] if not row["retracts"]]
        assert {answer["sample"] for answer in answers if "sample" in answer} <= samples
        assert set(told) <= {row["id"] for row in rows["journal"]}, "what was kept before"
        sizes.append(len(rows["journal"]))
    assert writer.poll() is None, "it was not kept waiting"
    writer.kill()
    assert sizes == sorted(set(sizes))
    restore_backup(tmp_path / "5.tar", tmp_path / "new")
    with Workspace.open(tmp_path / "new") as restored:
        assert len(everything(restored.database)["journal"]) == sizes[-1] + 1


def test_a_backup_that_is_killed_is_not_there(
    workspace: Workspace, tmp_path: Path, run_worker: Start
) -> None:
    live(workspace)
    file = tmp_path / "all.tar"
    worker = run_worker("backup_worker", "kill-backup", str(workspace.root), str(file))
    steps, *deaths, end = finish(worker)
    assert steps > 40
    assert set(deaths) == {"nothing", "whole"}
    assert deaths == sorted(deaths), "and from its naming on it is there"
    assert deaths.count("nothing") > 6
    assert end == "whole"


def test_a_restore_that_is_killed_leaves_no_workspace(
    tmp_path: Path, database_address: str | None, run_worker: Start
) -> None:
    with Workspace.create(tmp_path / "old") as old:
        live(old)
        write_backup(old, tmp_path / "all.tar")
        expected = [everything(old.database), sorted(files_in(old.artifacts))]
    arguments = (str(tmp_path / "all.tar"), str(tmp_path / "new"), database_address or "")
    told = finish(run_worker("backup_worker", "kill-restore", *arguments))
    steps, deaths = told[0], [line for line in told[1:] if isinstance(line, str)]
    assert steps > 100
    wholes = [line for line in told if isinstance(line, list)]
    assert all(whole == json.loads(json.dumps(expected)) for whole in wholes)
    assert len(wholes) == 1 + deaths.count("whole")
    assert deaths.count("nothing") > 2
    assert deaths[-1] == "whole"
    # On PostgreSQL, the rows may be there before their folder is a workspace, but never a part.
    known = {"nothing", "whole"} | ({"rows without a workspace"} if database_address else set())
    assert set(deaths) == known
    assert check_backup(tmp_path / "all.tar")

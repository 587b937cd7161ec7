"""Backs up, restores or writes as a process of its own: `backup_worker.py ACTION ARGUMENTS`.

`write FOLDER` adds samples, answers and snapshots without end, and says when each group is kept.

`kill-backup FOLDER FILE` and `kill-restore FILE FOLDER [ADDRESS]` do it once to count its steps
(statements, commits, members of the tar, flushes, renames), and then in children that kill
themselves with SIGKILL before the k-th step, for k all over the work and at every second of
its last ones. After each death, what is there is printed as JSON.
"""

import itertools
import os
import shutil
import signal
import sys
import tarfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from backup_helpers import everything, files_in
from sqlalchemy import event
from sqlalchemy.engine import Engine
from store_helpers import completion_sample, tell

from backflip.errors import WorkspaceError
from backflip.records.feedback import GoodBad
from backflip.workspace import Workspace
from backflip.workspace.database.addresses import postgresql_url
from backflip.workspace.database.engine import Database
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.reading import check_backup
from backflip.workspace.transfer.restore import restore_backup

ALL_OVER, LAST = 3, 14


def write(folder: str) -> None:
    with Workspace.open(folder) as workspace:
        for number in itertools.count(1000):
            sample = completion_sample(number)
            vote = GoodBad(annotator=f"p{number}", sample=sample.id, good=True)
            workspace.samples.add([sample])
            workspace.journal.add([vote])
            workspace.snapshots.take([vote.id])
            tell(vote.id)


class Steps:
    """Counts the steps of this process, and kills it before one."""

    def __init__(self, fatal: int):
        self.number, self._fatal = 0, fatal
        event.listen(Engine, "before_cursor_execute", self.tick)
        event.listen(Engine, "commit", self.tick)
        for owner, name in (
            (os, "fsync"),
            (os, "link"),
            (os, "replace"),
            (os, "rename"),
            (tarfile.TarFile, "addfile"),
            (tarfile.TarFile, "next"),
        ):
            setattr(owner, name, self._ticking(getattr(owner, name)))

    def tick(self, *_: Any) -> None:
        self.number += 1
        if self.number == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def _ticking(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def tick(*arguments: Any, **keywords: Any) -> Any:
            self.tick()
            return inner(*arguments, **keywords)

        return tick


def attempt(work: Callable[[], None], fatal: int = 0) -> int | None:
    """Work in a child; how many steps it took, or None when it was killed at one."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        steps = Steps(fatal)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os.write(theirs, str(steps.number).encode())
        os._exit(0)
    os.close(theirs)
    _, status = os.waitpid(child, 0)
    told = os.read(ours, 100)
    os.close(ours)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("the child failed")
    return int(told) if told else None


def kill_all_over(work: Callable[[], None], state: Callable[[], Any]) -> None:
    """Print how many steps there are, and then the state after a death at each of them."""
    total = attempt(work)
    assert total is not None
    tell(total)
    state()
    places = {1 + total * place // ALL_OVER for place in range(ALL_OVER)}
    for fatal in sorted(places | set(range(total - LAST, total + 1, 2))):
        assert attempt(work, fatal) is None
        tell(state())
    assert attempt(work)
    tell(state())


def kill_backup(folder: str, file: str) -> None:
    def work() -> None:
        with Workspace.open(folder) as workspace:
            write_backup(workspace, file)

    def state() -> str:
        if not Path(file).exists():
            return "nothing"
        check_backup(file)
        Path(file).unlink()
        return "whole"

    kill_all_over(work, state)


def kill_restore(file: str, folder: str, address: str = "") -> None:
    root = Path(folder)

    def state() -> str:
        try:
            with Workspace.open(root) as opened:
                tell([everything(opened.database), sorted(files_in(opened.artifacts))])
            shutil.rmtree(root)
        except WorkspaceError as error:
            assert "no workspace here" in str(error)
            return empty(address)
        empty(address)
        return "whole"

    kill_all_over(lambda: restore_backup(file, folder, address or None) and None, state)


def empty(address: str) -> str:
    """Empty the database; says whether there was anything in it."""
    if not address:
        return "nothing"
    database = Database(postgresql_url(address))
    with database.engine.begin() as connection:
        found = sa.inspect(connection).get_table_names()
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    database.close()
    return "rows without a workspace" if found else "nothing"


ACTIONS: dict[str, Callable[..., None]] = {
    "write": write,
    "kill-backup": kill_backup,
    "kill-restore": kill_restore,
}

if __name__ == "__main__":
    ACTIONS[sys.argv[1]](*sys.argv[2:])

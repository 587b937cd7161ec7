"""A process in which the system refuses the n-th file, folder or name that a command makes.

It is given a folder, and prints what came of every writer as one JSON document. The refusals come
out of an audit hook, which stays for the life of a process: whatever Python makes, passes it.
"""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store_helpers import completion_sample

from backflip.data.scratch import scratch_folder
from backflip.errors import BackflipError
from backflip.evaluation.report import page
from backflip.formats import export_file
from backflip.records.feedback import GoodBad
from backflip.workspace import Workspace
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.restore import restore_backup

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
MAKING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Disk:
    """Refuses one making below `root`, and none before it is told when."""

    def __init__(self, root: Path):
        self._root = str(root)
        self._left = 0
        self._error = 0
        self.refused = False

    def refuse(self, number: int, error: int) -> None:
        self._left, self._error, self.refused = number, error, False

    def rest(self) -> None:
        self._left = 0

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._left or not self._makes(event, args):
            return
        self._left -= 1
        if not self._left:
            self.refused = True
            raise OSError(self._error, os.strerror(self._error), str(args[0]))

    def _makes(self, event: str, args: tuple[Any, ...]) -> bool:
        if event == "open":
            making = isinstance(args[2], int) and args[2] & MAKING
        elif event == "os.mkdir":  # of a folder that is there, it is asked in vain
            making = not os.path.exists(args[0])  # noqa: PTH110  a path may be of bytes
        else:
            making = event in ("os.rename", "os.link")
        return bool(making) and str(args[0]).startswith(self._root)


def names_under(folder: Path) -> list[str]:
    """Files with their sizes; of a database only that it is there: a command may read it."""
    return sorted(
        f"{path.relative_to(folder)} {0 if 'backflip.db' in path.name else path.stat().st_size}"
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    )


def tries(disk: Disk, root: Path, write: Callable[[], Any], again: Callable[[], Any]) -> list[Any]:
    """What came of refusing the first, second, ... making, until there is none to refuse."""
    found: list[Any] = []
    while True:
        before = names_under(root)
        disk.refuse(len(found) + 1, ERRORS[len(found) % len(ERRORS)])
        try:
            write()
            told: Any = None
        except BackflipError as error:
            told = [type(error).__name__, error.what, error.where, error.hint]
        except Exception as error:
            told = ["traceback", repr(error), None, None]
        disk.rest()
        if not disk.refused:
            assert told is None, told
            again()
            return found
        found.append({"told": told, "left": sorted(set(names_under(root)) ^ set(before))})


def main(root: Path) -> None:
    disk = Disk(root)
    workspace = Workspace.create(root / "work")
    sample = completion_sample(1)
    workspace.samples.add([sample])
    workspace.journal.add([GoodBad(annotator="mia", sample=sample.id, good=True)])
    (workspace.artifacts / "reports").mkdir()
    (workspace.artifacts / "reports" / "run-1.html").write_text("a page")
    write_backup(workspace, root / "kept.tar")
    page.gather = lambda workspace, run_id: None
    page.render = lambda facts: "<p>"
    names = ("votes.jsonl", "votes.json.gz", "votes.parquet")

    def export(name: str) -> Callable[[], Any]:
        ending = "parquet" if name.endswith("parquet") else "jsonl"
        return lambda: export_file(workspace, root / name, f"backflip-{ending}")

    def scratch() -> None:
        with scratch_folder(root / "scratch"):
            pass

    def fresh() -> None:
        shutil.rmtree(root / "fresh", ignore_errors=True)  # what the try before left
        Workspace.create(root / "fresh").close()

    writes: dict[str, Callable[[], Any]] = {
        **{name: export(name) for name in names},
        "report": lambda: page.write_report(workspace, "run-1"),
        "backup": lambda: write_backup(workspace, root / "b.tar.gz", force=True),
        "restore": lambda: restore_backup(root / "kept.tar", root / "far" / "new"),
        "workspace": fresh,
        "scratch": scratch,
    }
    checks: dict[str, Callable[[], Any]] = {
        "restore": lambda: Workspace.open(root / "far" / "new").close(),
        "workspace": lambda: Workspace.open(root / "fresh").close(),
    }
    sys.addaudithook(disk)
    done = {n: tries(disk, root, w, checks.get(n, lambda: None)) for n, w in writes.items()}
    workspace.close()
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

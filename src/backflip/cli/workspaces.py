"""Opening the workspace that a command works in, and a run in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from backflip.cli.output import TerminalReporter
from backflip.errors import BackflipError, WorkspaceError, reaching

if TYPE_CHECKING:
    from backflip.loop import Recipe, Run
    from backflip.workspace import Workspace

MARKER = "workspace.json"
# All that a new workspace consists of; -wal and -shm are SQLite's.
_PARTS = (MARKER, "backflip.db", "backflip.db-wal", "backflip.db-shm", "artifacts")
_SHOWN = 3


@reaching(WorkspaceError)
def is_workspace(folder: Path) -> bool:
    """Whether there is a workspace in `folder`; a `WorkspaceError` where nobody may look."""
    return (folder / MARKER).is_file()


@contextmanager
def open_workspace(
    folder: Path, *, create: bool = False, database: str | None = None
) -> "Iterator[Workspace]":
    """Open the workspace in `folder`, or make it there.

    One that was made now goes again where an error ends the command before anything was kept in
    it: a mistyped command leaves nothing behind.

    Raises:
        WorkspaceError: as `Workspace.open`; or `database` is not where the workspace keeps its
            rows.
    """
    from backflip.workspace import Workspace

    marker = folder / MARKER
    if is_workspace(folder) or not create:
        _check_there(folder, database)
        with Workspace.open(folder) as opened:
            yield opened
        return
    bare = not folder.is_dir() or not any(folder.iterdir())
    standing = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), None)
    unused = False
    try:
        with Workspace.create(folder, database) as made:
            try:
                yield made
            except BackflipError:
                unused = _is_unused(made)
                raise
    finally:
        if bare and (unused or not marker.is_file()):
            _remove(folder, standing)


@contextmanager
def standing_or_new(folder: Path) -> "Iterator[Workspace]":
    """The workspace in `folder`, or an empty one for a while where there is none."""
    from backflip.data.scratch import scratch_folder
    from backflip.workspace import Workspace

    if is_workspace(folder):
        with Workspace.open(folder) as opened:
            yield opened
        return
    with scratch_folder() as made, Workspace.create(made / "workspace") as empty:
        yield empty


def _check_there(folder: Path, database: str | None) -> None:
    marker = folder / MARKER
    if not is_workspace(folder):
        others = sorted(str(path.parent) for path in folder.parent.glob(f"*/{MARKER}"))[:_SHOWN]
        beside = f"; there is {' and '.join(others)}" if others else ""
        raise WorkspaceError(
            "no workspace here",
            where=str(folder.resolve()),
            hint=f"Name one with -w FOLDER{beside}. backflip run RECIPE, backflip demo and "
            "backflip feedback import FILE make one.",
        )
    from backflip.workspace.workspace import read_marker

    if database is not None and read_marker(marker).database != database:
        raise WorkspaceError(
            "the workspace is there already and keeps its rows elsewhere",
            where=str(folder),
            hint="Leave --database out, or name another folder.",
        )


def _is_unused(workspace: "Workspace") -> bool:
    """Whether nothing is kept in it, and no other process is at work on a run."""
    with suppress(BackflipError):
        told = workspace.journal.stats()
        under_way = any(run.status == "running" for run in workspace.runs.all())
        return not (told.active or told.retracted or under_way or workspace.models.all())
    return False


def _remove(folder: Path, standing: Path | None) -> None:
    """Take a workspace away, and the folders above it that were made for it."""
    for name in _PARTS:
        part = folder / name
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    with suppress(OSError):  # somebody put a file there meanwhile: it stays
        for each in (folder.absolute(), *folder.absolute().parents):
            if standing is None or each == standing.absolute():
                break
            each.rmdir()


@contextmanager
def run_in(folder: Path, recipe: "Recipe", *, database: str | None = None) -> "Iterator[Run]":
    """A run of `recipe` in the workspace, told on standard error.

    How it ended is kept with it: a run that was finished before stays so when more is done in it.
    """
    from backflip.loop import Run, make_domain

    with open_workspace(folder, create=True, database=database) as workspace:
        run = Run(workspace, recipe, make_domain(recipe, workspace), TerminalReporter())
        before = _status(run)
        try:
            yield run
        except KeyboardInterrupt:
            _note_end(run, "stopped")
            raise
        except BaseException:
            _note_end(run, "failed")
            raise
        _note_end(run, "finished" if before == "finished" else "stopped")


def _status(run: "Run") -> str | None:
    known = {each.id: each.status for each in run.workspace.runs.all()}
    return known.get(run.id)


def _note_end(run: "Run", status: str) -> None:
    """Say how a run ended, unless it said so itself or another process is at work on it."""
    with suppress(WorkspaceError), run.alone():
        if _status(run) == "running":
            run.workspace.runs.finish(run.id, status)

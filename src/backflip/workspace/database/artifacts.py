"""The files of a workspace that last: what a backup holds of them."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from backflip.errors import WorkspaceError

_DRAFTS = (".lock", ".draft", ".tmp", ".unfinished")


def lasting_files(
    folder: Path, models: set[tuple[str, ...]], left_out: list[str]
) -> Iterator[PurePath]:
    """Files below the artifacts, relative to them, without what serves work under way.

    Links are followed: a folder of models may lie on a larger disk.

    Args:
        folder: the artifacts.
        models: the first two parts of the paths of models that a row speaks of.
        left_out: gets what is left out, but for locks and drafts.

    Raises:
        WorkspaceError: a folder cannot be read.
    """

    def is_wanted(path: PurePath) -> bool:
        if path.name.startswith(".") or path.name == "lock" or path.name.endswith(_DRAFTS):
            return False
        # A checkpoint may be of a stage that no row tells of yet, or trained on answers that are
        # not in the backup; a run that is restored begins its stage again. So may a model, which
        # a run that is restored would take for the one that it is about to train.
        checkpoint = path.parts[0] == "runs" and path.name.startswith("step-")
        unknown = path.parts[0] == "models" and len(path.parts) == 2 and path.parts not in models
        if checkpoint or unknown:
            left_out.append(path.as_posix())
        return not (checkpoint or unknown)

    for place, folders, names in os.walk(folder, onerror=_cannot_list, followlinks=True):
        here, real = Path(place).relative_to(folder), Path(place).resolve()
        folders[:] = [
            name
            for name in sorted(folders)
            if is_wanted(here / name)
            and not real.is_relative_to(Path(place, name).resolve())  # a link to where it lies
        ]
        yield from (here / name for name in sorted(names) if is_wanted(here / name))


def _cannot_list(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # taken away since its parent was listed
        raise unreadable(error, str(error.filename)) from error


def unreadable(error: OSError, path: str) -> WorkspaceError:
    """What to say of a file or folder that the system would not read."""
    return WorkspaceError(f"cannot be read: {error.strerror or error}", where=path)

"""Files that stages have made: held to their manifests, and cleared of what was left over."""

import shutil
from collections.abc import Callable
from pathlib import Path

from backflip.errors import DamageError
from backflip.files.manifest import require_whole

ANEW = (
    "Restore it from a backup, or begin a new run, with another seed or in another workspace: that "
    "repeats the stage which made it."
)
"""What to do about a file of a finished stage that is lost."""


def require_kept(folder: Path, of: str) -> None:
    """Hold what a stage has made to its manifest.

    Args:
        folder: where it lies.
        of: what it is, for a reader.

    Raises:
        DamageError: a file is not what was written; it is named, and what to do.
    """
    try:
        require_whole(folder)
    except DamageError as error:
        raise DamageError(f"{error.what}: it is of {of}", where=error.where, hint=ANEW) from None


def is_kept(folder: Path) -> bool:
    """Whether a model was kept before the stage was cut off, and is still as it was written."""
    try:
        return require_whole(folder) is not None
    except DamageError:
        return False


def discard(folder: Path) -> None:
    """Remove checkpoints and unfinished folders of a stage whose result is kept."""
    for pattern in ("step-*", "*/step-*", ".*"):
        for leftover in folder.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)


def discard_damaged(folder: Path, warn: Callable[[str], None]) -> None:
    """Remove models that an unfinished stage made in `folder` and that are damaged since."""
    for made in sorted(folder.glob("*/")):
        try:
            require_whole(made)
        except DamageError as error:
            warn(f"a model is damaged, so it is made again: {error.where}: {error.what}")
            shutil.rmtree(made, ignore_errors=True)

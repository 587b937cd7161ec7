"""Folders that are there for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from backflip.errors import FREE_SPACE, WorkspaceError, why_not_written


@contextmanager
def scratch_folder(within: Path | None = None, prefix: str = "backflip-") -> Iterator[Path]:
    """A folder that is gone with the end of the block.

    Args:
        within: where it is made, which is made too; None for the system's own place.
        prefix: how its name begins.

    Raises:
        WorkspaceError: there is no room for it.
    """
    try:
        if within is not None:
            within.mkdir(parents=True, exist_ok=True)
        made = TemporaryDirectory(dir=within, prefix=prefix)
    except OSError as error:
        where = str(within) if within is not None else "the system's folder for temporary files"
        raise WorkspaceError(why_not_written(error), where=where, hint=FREE_SPACE) from error
    with made as name:
        yield Path(name)

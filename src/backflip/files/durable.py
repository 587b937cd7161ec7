"""Files that are there whole or not at all, also after a power cut."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(
    path: Path, *, mode: int = 0o666, replace: bool = True, flush_name: bool = True
) -> Iterator[IO[bytes]]:
    """Write a file beside `path` that takes its name when the block ends well.

    A failure, or the death of the process, leaves what stood there as it was.

    Args:
        path: where to; its folder is there.
        mode: rights of the file, less those that the process gives to nobody.
        replace: whether what stands there gives way.
        flush_name: whether to wait until the disk has the new name, too.

    Raises:
        FileExistsError: something stands there, and `replace` is False.
        OSError: the system refuses.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            flush_file(stream)
        if replace:
            draft.replace(path)
        else:
            _link(draft, path)
        if flush_name:
            flush_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _link(draft: Path, path: Path) -> None:
    """Give the draft its name, unless a file came there meanwhile."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a disk that knows no links
        if path.exists():
            raise FileExistsError(str(path)) from None
        draft.replace(path)


def flush_file(stream: IO[bytes]) -> None:
    """Wait until the disk has what was written."""
    stream.flush()
    os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Wait until the disk has a folder, and all files and names in it and below."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            flush_folder(path)
    flush_folder(folder)

"""Opening files for reading; what stands in the way is told in words."""

import gzip
import io
import zlib
from pathlib import Path
from stat import S_ISDIR
from typing import IO, Any, Literal

from backflip.errors import FormatError

PACKED = (".gz", ".zst")
"""Endings of packed files, behind the ending that says what is in them."""
READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading on may raise where a file is damaged."""


def look_up(path: Path) -> Literal["file", "folder"] | None:
    """What lies at a path; None for nothing.

    Raises:
        FormatError: the folders above it may not be looked into.
    """
    try:
        return "folder" if S_ISDIR(path.stat().st_mode) else "file"
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in it
        return None
    except OSError as error:
        raise _cannot_open(path, error) from None


def no_such_file(path: Path) -> FormatError:
    """The error for a path at which nothing lies."""
    beside = "" if path.is_absolute() else f"; it is taken from the folder {Path.cwd()}"
    return FormatError("no such file", where=str(path), hint=f"Check the path{beside}.")


def _cannot_open(path: Path, error: OSError) -> FormatError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return no_such_file(path)
    if isinstance(error, IsADirectoryError):
        return FormatError(
            "a folder, where a file is wanted", where=str(path), hint="Name a file in it."
        )
    if isinstance(error, PermissionError):
        return FormatError(
            "may not be read: permission is denied",
            where=str(path),
            hint="Give your user the right to read it.",
        )
    return FormatError(f"the file cannot be opened: {error.strerror or error}", where=str(path))


def open_binary(path: Path, *, lines: bool = False) -> IO[bytes] | io.BufferedIOBase:
    """Open a file for reading, unpacked on the way where its name ends as one of `PACKED`.

    Args:
        path: of the file.
        lines: end each line with a line feed, also where it ends with a carriage return, with
            or without a line feed behind it, as on Windows and on old Macs.

    Raises:
        FormatError: no such file, a folder, or a file that may not be read.
    """
    try:
        stream = _unpacking(path)
    except ValueError:  # a NUL in it
        raise no_such_file(path) from None
    except OSError as error:
        raise _cannot_open(path, error) from None
    return io.BufferedReader(_EvenLines(stream)) if lines else stream


def _unpacking(path: Path) -> IO[bytes] | io.BufferedIOBase:
    match path.suffix.lower():
        case ".gz":
            return gzip.open(path, "rb")
        case ".zst":
            import pyarrow as pa

            # It refuses a window beyond 128 MiB: a small file cannot take all memory.
            packed: Any = pa.CompressedInputStream(path.open("rb"), "zstd")
            return io.BufferedReader(packed)
        case _:
            return path.open("rb")


class _EvenLines(io.RawIOBase):
    """A stream of text whose lines all end with a line feed."""

    def __init__(self, stream: IO[bytes] | io.BufferedIOBase):
        self._stream = stream
        self._after_return = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        text = b""
        while not text:
            chunk = self._stream.read(len(buffer))
            if not chunk:
                return 0
            # A "\r" at the end of the chunk before stands for the line's end already.
            text = chunk.removeprefix(b"\n") if self._after_return else chunk
            self._after_return = chunk.endswith(b"\r")
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer[: len(text)] = text
        return len(text)

    def close(self) -> None:
        self._stream.close()
        super().close()

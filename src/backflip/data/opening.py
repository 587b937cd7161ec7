"""Opening files for reading; what stands in the way is told in words."""

import gzip
from pathlib import Path
from stat import S_ISDIR
from typing import IO, Literal

from backflip.errors import FormatError


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


def open_binary(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Open a file for reading, gunzipped on the way where its name ends in `.gz`.

    Raises:
        FormatError: no such file, a folder, or a file that may not be read.
    """
    try:
        return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")
    except ValueError:  # a NUL in it
        raise no_such_file(path) from None
    except OSError as error:
        raise _cannot_open(path, error) from None

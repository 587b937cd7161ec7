"""Errors that a user can mend.

Each says what is wrong, where, and what to do; the command line prints these three and no
traceback. Anything else that is raised is a fault of Backflip's own, whose traceback is logged.
"""

import errno
import os
import re
from collections.abc import Generator
from contextlib import contextmanager


class BackflipError(Exception):
    """Something the user can mend: `what` is wrong, `where`, and a `hint` at what to do."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None):
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n{self.hint}" if self.hint else ""
        return f"{place}{self.what}{advice}"


class SettingsError(BackflipError):
    """A recipe or an override that cannot be used."""


class FormatError(BackflipError):
    """A row or file of data that cannot be read."""


class WorkspaceError(BackflipError):
    """A workspace or database that cannot be opened, read or written."""


class NotFoundError(WorkspaceError):
    """A thing that was asked for by its name or id and is not there."""


class ConflictError(WorkspaceError):
    """A change that what others did in the meantime, or oneself before, rules out."""


class BusyError(WorkspaceError):
    """A database that others keep locked, or that cannot be reached now: later it may work."""


class DamageError(WorkspaceError):
    """A file or row that is not what was written, or cannot be read: nothing of it is used."""


class ModelError(BackflipError):
    """A model or tokenizer that cannot be found, loaded or saved."""


class TrainingError(BackflipError):
    """Training that cannot go on: a loss that is not finite, a full disk, too little data."""


class JudgeError(BackflipError):
    """A judge that does not answer, or whose answer cannot be read."""


_BEFORE_HOST = re.compile(r"//.*@")
_OPTION = re.compile(r"([?&]\w*(?:password|key|token)=)[^&\s'\"]*", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Words with addresses in them, without what may be a password there.

    A password may hold any sign but a line's end, an @ too: what stands in a line between its
    first `//` and its last @ goes.
    """
    return _OPTION.sub(r"\1***", _BEFORE_HOST.sub("//***@", text))


FREE_SPACE = "Check the free space of the disk and the rights on the folder."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def why_not_written(error: OSError) -> str:
    """What to say of a file that the system would not write."""
    told = os.strerror(error.errno) if error.errno else str(error)
    full = ", the disk is full" if error.errno in _NO_ROOM else ""
    return f"cannot be written{full}: {told}"


def why_not_read(error: OSError) -> str:
    """What to say of a file that the system would not read."""
    return f"cannot be read: {os.strerror(error.errno) if error.errno else error}"


RIGHTS = "Check its name, the disk, and the rights on it and on the folders above it."
_UNREACHABLE = (
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EIO, errno.ESTALE, errno.ENOTCONN),  # a disk, or the way to it, that is gone
)
_PATH_LENGTH = 300


def unreachable(
    error: OSError,
    kind: type[BackflipError] = BackflipError,
    what: str = "cannot be read or written",
) -> BackflipError | None:
    """What to say where the system lets nobody see whether a file is there; None for other errors.

    Args:
        error: of the system.
        kind: of what is returned.
        what: cannot be done with the file.
    """
    if error.filename is None or error.errno not in _UNREACHABLE:
        return None
    named: int | str | bytes = error.filename
    where = str(named) if isinstance(named, int) else os.fsdecode(named)
    where = where if len(where) <= _PATH_LENGTH else f"{where[:_PATH_LENGTH]}..."
    return kind(f"{what}: {os.strerror(error.errno)}", where=where, hint=RIGHTS)


@contextmanager
def reaching(kind: type[BackflipError]) -> Generator[None]:
    """Tell of files that the system lets nobody look for, around a block or a function.

    Whether a file is there is asked in many places, and below a folder that may not be entered
    the answer is an error.

    Raises:
        BackflipError: of this `kind`, with the path and why.
    """
    try:
        yield
    except OSError as error:
        if told := unreachable(error, kind, "cannot be read"):
            raise told from error
        raise

"""What a backup may ask of the machine that reads it: a few bytes can claim to be very many."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from backflip.errors import FREE_SPACE, WorkspaceError
from backflip.records import Record
from backflip.workspace.transfer.tar_reading import Stream

OWN = "If the backup is your own, restore it with --trust."
_NAME_BYTES = 1024
_PART_BYTES = 255
_DEPTH = 32


class Bounds(Record):
    """Beyond these a backup is not read on.

    Attributes:
        total: bytes of all members together.
        ratio: bytes of them to one byte of the file, beyond the first `spare`.
        spare: bytes that may be packed as well as they can.
        members: how many.
        names: bytes of their names together.
        line: bytes of a row; so much is in memory at once.
        free: bytes of the disk that stay free.
    """

    total: int = 1 << 40
    ratio: int = 200
    spare: int = 64 << 20
    members: int = 100_000
    names: int = 16 << 20
    line: int = 64 << 20
    free: int = 64 << 20

    def trusting(self) -> "Bounds":
        """These for a backup of one's own: as large as the disk has room."""
        return self.model_copy(update={"total": 1 << 62, "ratio": 1 << 62})


BOUNDS = Bounds()


def fitting_name(parts: Sequence[str]) -> bool:
    """Whether a name is one that every file system takes."""
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    short = max(sizes) <= _PART_BYTES and sum(sizes) + len(sizes) <= _NAME_BYTES
    return short and len(parts) <= _DEPTH


def read_json(data: bytes, signs: int) -> Any:
    """JSON as backups are written, in ASCII, of a bounded number of values.

    A value takes tens of times as many bytes in memory as in a file: `{},` is a dictionary.

    Args:
        data: the text.
        signs: at most so many of `[`, `{`, `,` and `:` that stand in no string.

    Raises:
        ValueError, RecursionError: it is no JSON, is in another encoding, or has more of them.
    """
    if not data.isascii() or b"\0" in data:  # `json` would guess at UTF-16 and UTF-32
        raise ValueError("it is no ASCII text")
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    few = bare.count(b'"') <= 2 * (signs + 1)
    between = b"".join(bare.split(b'"')[::2]) if few else b""
    if not few or sum(map(between.count, (b"[", b"{", b",", b":"))) > signs:
        raise ValueError("it holds too many values")
    return json.loads(data)


class Metered:
    """A packed file as it is unpacked, up to what is allowed.

    Args:
        stream: gives what is in the file.
        raw: the file.
        where: its name.
        bounds: what is allowed.
    """

    def __init__(self, stream: Stream, raw: IO[bytes], where: str, bounds: Bounds):
        self._stream = stream
        self._raw = raw
        self._where = where
        self._bounds = bounds
        self._given = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._given += len(data)
        allowed = self._bounds.spare + self._bounds.ratio * self._raw.tell()
        if self._given > min(allowed, self._bounds.total):
            raise WorkspaceError(
                f"unpacks to more than {min(allowed, self._bounds.total) / 1e6:.0f} MB, which a "
                "backup of its size does not",
                where=self._where,
                hint=OWN,
            )
        return data


def require_room(folder: Path, size: int, bounds: Bounds) -> None:
    """Refuse to write `size` bytes below `folder` where too little of the disk would stay free."""
    free = shutil.disk_usage(folder).free
    if free - size < bounds.free:
        raise WorkspaceError(
            f"cannot be written: it takes {size / 1e6:.0f} MB, {free / 1e6:.0f} MB are free, and "
            f"{bounds.free / 1e6:.0f} MB must stay so",
            where=str(folder),
            hint=FREE_SPACE,
        )

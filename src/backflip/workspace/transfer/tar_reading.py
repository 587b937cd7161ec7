"""Tar files that may come from anybody, read in one pass and in little memory.

`tarfile` believes what a file says of itself: it reads a name as long as a header claims, follows
headers that follow headers, and keeps every member that it saw. This reads what `backup` writes
(POSIX.1-2001, "pax"): plain files, and longer names in a header before them.
"""

from dataclasses import dataclass
from tarfile import NUL, ReadError
from typing import Protocol

BLOCK = 512
MAX_EXTENDED = 64 << 10
"""Bytes of what may stand before a member's own header: its name is in it."""
PLAIN = (b"0", NUL)
_EXTENDED = b"x"
_STEP = 1 << 20


class Stream(Protocol):
    """What gives as many bytes as it is asked for, but for its end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Entry:
    """A member; `kind` is the letter of its type, `PLAIN` for a file and nothing else."""

    name: str
    kind: bytes
    size: int


class TarReader:
    """The members of a tar, each to be read before the next is asked for."""

    def __init__(self, stream: Stream):
        self._stream = stream
        self._left = 0  # of the member that is read
        self._padding = 0

    def next(self) -> Entry | None:
        """The next member; None behind the last.

        Raises:
            ReadError: it is cut off here, or no tar.
        """
        while self.read(_STEP):
            pass
        self._exactly(self._padding)
        told: dict[str, str] | None = None
        while True:
            block = self._stream.read(BLOCK)
            if not block.strip(NUL):  # the end, or what marks it
                if told is not None or len(block) not in (0, BLOCK):
                    raise ReadError("cut off in a header")
                self._padding = 0
                return None
            kind, name, size = _header(block)
            if kind != _EXTENDED:
                break
            if told is not None or size > MAX_EXTENDED:
                raise ReadError("a header that is longer than a name")
            told = _records(self._exactly(size))
            self._exactly(-size % BLOCK)
        told = told or {}
        entry = Entry(
            told.get("path", name), kind, _number(told["size"]) if "size" in told else size
        )
        self._left, self._padding = entry.size, -entry.size % BLOCK
        return entry

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of the member; none at its end.

        Raises:
            ReadError: the file ends before the member does.
        """
        wanted = min(size, self._left)
        data = self._exactly(wanted)
        self._left -= wanted
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size) if size else b""
        if len(data) < size:
            raise ReadError("cut off")
        return data


def _header(block: bytes) -> tuple[bytes, str, int]:
    """Type, name and size; a `ReadError` where its checksum is another."""
    if len(block) < BLOCK:
        raise ReadError("cut off in a header")
    spaces = block[:148] + b" " * 8 + block[156:]
    if sum(spaces) != _octal(block[148:156]):
        raise ReadError("a header that does not add up")
    prefix = block[345:500] if block[257:263] == b"ustar\0" else b""
    name = b"/".join(part.split(NUL, 1)[0] for part in (prefix, block[:100]) if part.strip(NUL))
    return block[156:157], name.decode("utf-8", "surrogateescape"), _octal(block[124:136])


def _octal(field: bytes) -> int:
    try:
        text = field.split(NUL, 1)[0].strip().decode("ascii")
        return _number(text, base=8) if text else 0
    except UnicodeDecodeError:
        raise ReadError("a number that is none") from None


def _number(text: str, base: int = 10) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ReadError("a number that is none")
    try:
        return int(text, base)
    except ValueError:
        raise ReadError("a number that is none") from None


def _records(data: bytes) -> dict[str, str]:
    """The lines "LENGTH KEY=VALUE" of an extended header."""
    found: dict[str, str] = {}
    while data:
        length, _, rest = data.partition(b" ")
        size = _number(length.decode("ascii", "replace"))
        key, sign, value = data[len(length) + 1 : size - 1].partition(b"=")
        if not rest or not sign or data[size - 1 : size] != b"\n":
            raise ReadError("a header that is none")
        name = key.decode("utf-8", "surrogateescape")
        if name.startswith("GNU.sparse"):
            raise ReadError("a file with holes")
        found[name] = value.decode("utf-8", "surrogateescape")
        data = data[size:]
    return found

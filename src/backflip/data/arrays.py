"""The elements of one long JSON array, cut out of a file without reading it whole."""

import re
from collections.abc import Iterator
from pathlib import Path

from backflip.data.opening import READ_ERRORS, open_binary
from backflip.data.rows import MAX_ROW_BYTES, TOO_LONG, Rejected

_CHUNK = 1 << 16


def opens_array(path: Path) -> bool:
    """Whether the first thing in a file is the bracket of an array, in UTF-8.

    Raises:
        FormatError: as `open_binary`.
    """
    try:
        with open_binary(path) as stream:
            while chunk := stream.read(_CHUNK):
                if text := chunk.removeprefix(b"\xef\xbb\xbf").lstrip():
                    return text.startswith(b"[") and not text.startswith(b"[\0")
    except READ_ERRORS:
        pass  # the reader of lines reports it
    return False


def read_array(path: Path) -> Iterator[tuple[int, bytes] | Rejected]:
    """Cut the elements out of one JSON array by its brackets and commas, a chunk at a time.

    Returns:
        Each element's number, from 1, and its bytes.
    """
    cutter = ArrayCutter(path.name)
    try:
        with open_binary(path) as stream:
            while chunk := stream.read(_CHUNK):
                yield from cutter.feed(chunk)
    except READ_ERRORS as error:
        yield Rejected(path.name, cutter.number, f"the file cannot be read further: {error}")
        return
    if not cutter.closed:
        yield Rejected(path.name, cutter.number, "the array is not closed: the file is cut off")
    elif cutter.rest.strip():
        last = max(cutter.number - 1, 1)
        yield Rejected(path.name, last, "text follows after the end of the array")


class ArrayCutter:
    """Follows strings and brackets; what lies between commas at depth 1 is an element.

    Elements come out numbered from 1. An element that is too long is passed over without being
    kept; its place is reported.
    """

    _MARKS = re.compile(rb'["\\{}\[\],]')
    _IN_STRING = re.compile(rb'["\\]')

    def __init__(self, file: str):
        self.file = file
        self.number = 1
        self.closed = False
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._element = bytearray()
        self._too_long = False

    @property
    def rest(self) -> bytes:
        """What follows the last comma or bracket so far."""
        return bytes(self._element)

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes] | Rejected]:
        start = position = 0
        if self._escaped:
            self._escaped, position = False, 1
        while position < len(chunk) and not self.closed:
            marks = self._IN_STRING if self._in_string else self._MARKS
            match = marks.search(chunk, position)
            if match is None:
                break
            mark, position = match[0], match.end()
            if mark == b"\\":
                self._escaped = position == len(chunk)
                position += 1
            elif mark == b'"':
                self._in_string = not self._in_string
            elif self._ends_element(mark):
                self._keep(chunk[start : match.start()])
                yield from self._finish()
                start = position
            elif self._depth == 1 and mark == b"[":  # the array's own bracket
                self._element.clear()
                start = position
        self._keep(chunk[start:])

    def _ends_element(self, mark: bytes) -> bool:
        if mark == b",":
            return self._depth == 1
        if mark in b"{[":
            self._depth += 1
            return False
        self._depth -= 1
        return self._depth == 0

    def _keep(self, piece: bytes) -> None:
        self._too_long |= len(self._element) + len(piece) > MAX_ROW_BYTES
        if not self._too_long:
            self._element += piece

    def _finish(self) -> Iterator[tuple[int, bytes] | Rejected]:
        if self._too_long:
            yield Rejected(self.file, self.number, TOO_LONG)
        elif self._element.strip():
            yield self.number, bytes(self._element)
        self.number += 1
        self._element.clear()
        self._too_long = False
        self.closed = self._depth == 0

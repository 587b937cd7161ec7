"""Rows of files, one at a time and never trusted.

JSON Lines, JSON arrays, both also gzipped, Parquet, and data sets of the `datasets` package are
read the same way: as a stream of `Row`s, with a `Rejected` in the place of each row that cannot be
read. Memory holds one row (Parquet: one small batch), whatever the size of the file.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from backflip.data.opening import look_up, no_such_file, open_binary
from backflip.errors import FormatError

MAX_ROW_BYTES = 1_000_000
TOO_LONG = f"the row is longer than {MAX_ROW_BYTES:,} bytes"
TEXT_SUFFIXES = (".txt", ".md")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
_CHUNK = 1 << 16
_HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.\[\]%:-]+))?")


@dataclass(frozen=True)
class Row:
    """One row: `line` is its line in a text file, else its number in the file, from 1."""

    file: str
    line: int
    data: dict[str, Any]


@dataclass(frozen=True)
class Rejected:
    """A row that was not taken, where it stands and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


OnRejected = Callable[[Rejected], None]


def stop_at_rejected(rejected: Rejected) -> NoReturn:
    """What readers do with a bad row unless told otherwise: a `FormatError` naming it."""
    raise FormatError(
        rejected.reason,
        where=f"{rejected.file}:{rejected.line}",
        hint="Mend it, or take it out: a file with a bad row is not used, so that none is lost "
        "unseen.",
    )


def read_rows(source: str | Path) -> Iterator[Row | Rejected]:
    """Read the rows of a file, of a data set folder, or of a data set on the hub.

    Args:
        source: a `.jsonl`, `.ndjson`, `.json` or `.parquet` file (text ones also with `.gz`), a
            folder written by `datasets`' `save_to_disk`, or a hub id `owner/name` or
            `owner/name:split` (split "train" unless named; needs `datasets` and a network).

    Returns:
        The rows in their order. A row is rejected when it is not a JSON object, is longer than a
        megabyte, or holds text that is not UTF-8 or cannot be stored (lone surrogates, NUL).

    Raises:
        FormatError: there is no such file, or nothing in it can be read.
    """
    path = Path(source)
    found = look_up(path)
    if found == "folder":
        return _read_dataset_folder(path)
    if found is None:
        if may_be_on_hub(source) and (match := _HUB_ID.fullmatch(str(source))):
            return _read_hub(match["name"], match["split"] or "train")
        raise no_such_file(path)
    kind = kind_of(path)
    if kind is None:
        raise FormatError(
            "unknown kind of file", where=str(path), hint=f"known: {', '.join(SUFFIXES)} (.gz)"
        )
    if kind == ".parquet":
        return _read_parquet(path)
    return _read_json(path, lines=kind != ".json")


def may_be_on_hub(source: str | Path) -> bool:
    """Whether a name at which no file lies is read as one of a data set on the hub."""
    return kind_of(Path(source)) is None and _HUB_ID.fullmatch(str(source)) is not None


def kind_of(path: Path) -> str | None:
    """The suffix that says how a file is read, a closing `.gz` aside; None for unknown ones."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes = suffixes[:-1]
        if suffixes and suffixes[-1] == ".parquet":
            return None
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


def is_text(path: Path) -> bool:
    """Whether a file is read as plain text, by its name."""
    return path.name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES)


def read_lines(path: Path) -> Iterator[tuple[int, bytes] | Rejected]:
    """Numbered lines without their ends; over-long ones are rejected, and never held in memory.

    Raises:
        FormatError: as `open_binary`; damage further on is a `Rejected` in its place.
    """
    line = 0
    try:
        with open_binary(path) as stream:
            while raw := stream.readline(MAX_ROW_BYTES + 2):
                line += 1
                if len(raw.rstrip(b"\r\n")) > MAX_ROW_BYTES:
                    while raw and not raw.endswith(b"\n"):
                        raw = stream.readline(_CHUNK)
                    yield Rejected(path.name, line, TOO_LONG)
                    continue
                yield line, raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
    except (OSError, EOFError, zlib.error) as error:
        yield Rejected(path.name, line + 1, f"the file cannot be read further: {error}")


def _read_json(path: Path, *, lines: bool) -> Iterator[Row | Rejected]:
    if not lines and _opens_array(path):
        cut = _read_array(path)
    else:  # many files called .json hold JSON Lines
        cut = read_lines(path)
    for piece in cut:
        if isinstance(piece, Rejected):
            yield piece
        elif piece[1].strip():
            yield _parse(path.name, *piece)


def _parse(file: str, line: int, raw: bytes) -> Row | Rejected:
    try:
        data = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return Rejected(file, line, f"not valid UTF-8 at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return Rejected(file, line, f"not valid JSON: {error}")
    return check_row(file, line, data)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def check_row(file: str, line: int, data: Any) -> Row | Rejected:
    """The row, if it is an object and its texts can be stored and are not too long together."""
    if not isinstance(data, dict):
        return Rejected(file, line, f"not an object with named fields but {_name(data)}")
    size = 0
    pending: list[Any] = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            try:
                size += len(value.encode("utf-8"))
            except UnicodeEncodeError:
                return Rejected(file, line, "holds half a surrogate pair, which is no character")
            if "\0" in value:
                return Rejected(file, line, "holds a NUL character, which cannot be stored")
        elif isinstance(value, dict):
            pending.extend(value.keys())
            pending.extend(value.values())
        elif isinstance(value, (list, tuple)):
            pending.extend(value)
        if size > MAX_ROW_BYTES:
            return Rejected(file, line, TOO_LONG)
    return Row(file, line, data)


def _name(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _opens_array(path: Path) -> bool:
    try:
        with open_binary(path) as stream:
            while chunk := stream.read(_CHUNK):
                if text := chunk.removeprefix(b"\xef\xbb\xbf").lstrip():
                    return text.startswith(b"[")
    except (OSError, EOFError, zlib.error):
        pass  # the reader of lines reports it
    return False


def _read_array(path: Path) -> Iterator[tuple[int, bytes] | Rejected]:
    """Cut the elements out of one JSON array by its brackets and commas, a chunk at a time."""
    cutter = _ArrayCutter(path.name)
    try:
        with open_binary(path) as stream:
            while chunk := stream.read(_CHUNK):
                yield from cutter.feed(chunk)
    except (OSError, EOFError, zlib.error) as error:
        yield Rejected(path.name, cutter.number, f"the file cannot be read further: {error}")
        return
    if not cutter.closed:
        yield Rejected(path.name, cutter.number, "the array is not closed: the file is cut off")
    elif cutter.rest.strip():
        yield Rejected(path.name, cutter.number, "text follows after the end of the array")


class _ArrayCutter:
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


def _read_parquet(path: Path) -> Iterator[Row | Rejected]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    open_binary(path).close()  # for its errors: pyarrow calls a missing right damage
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"not a Parquet file: {error}", where=str(path)) from None
    return _parquet_rows(path.name, file)


def _parquet_rows(name: str, file: Any) -> Iterator[Row | Rejected]:
    import pyarrow as pa

    line = 0
    try:
        with file:
            for batch in file.iter_batches(batch_size=64):
                for i in range(batch.num_rows):
                    line += 1
                    try:
                        (data,) = batch.slice(i, 1).to_pylist()
                    except (UnicodeDecodeError, pa.ArrowException) as error:
                        yield Rejected(name, line, f"holds a value that cannot be read: {error}")
                        continue
                    # Parquet has a cell for every column; an absent field and null are one.
                    given = {k: v for k, v in data.items() if v is not None}
                    yield check_row(name, line, given)
    except (pa.ArrowException, OSError) as error:
        yield Rejected(name, line + 1, f"the file cannot be read further: {error}")


def _datasets(what: str, where: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise FormatError(
            f"{what} needs the package datasets", where=where, hint="pip install 'backflip[hub]'"
        ) from None
    return datasets


def _read_dataset_folder(path: Path) -> Iterator[Row | Rejected]:
    marks = (path / "dataset_info.json", path / "dataset_dict.json")
    if not any(look_up(mark) == "file" for mark in marks):
        raise FormatError(
            "a folder, but not one that `datasets` saved",
            where=str(path),
            hint="Name a file in it.",
        )
    datasets = _datasets("a folder: reading it", str(path))
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"the data set cannot be opened: {error}", where=str(path)) from None
    if not isinstance(loaded, dict):
        return _dataset_rows(path.name, loaded)
    return (
        row for split, part in loaded.items() for row in _dataset_rows(f"{path.name}/{split}", part)
    )


def _read_hub(name: str, split: str) -> Iterator[Row | Rejected]:
    datasets = _datasets("no such file, and asking the hub for it", f"{name}:{split}")
    try:
        stream = datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:  # the hub client raises a class of its own for each way to fail
        raise FormatError(
            f"no such file, and the hub does not give it: {error}", where=f"{name}:{split}"
        ) from None
    return _dataset_rows(f"{name}:{split}", stream)


def _dataset_rows(name: str, rows: Any) -> Iterator[Row | Rejected]:
    for number, data in enumerate(rows, 1):
        given = {k: v for k, v in data.items() if v is not None}
        yield check_row(name, number, given)

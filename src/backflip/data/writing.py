"""Rows to files, the way back from `data.files`: a file is there whole or not at all."""

import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from backflip.data.files import UNKNOWN_KIND, kind_of
from backflip.data.rows import MAX_ROW_BYTES, MAX_WIDE_BYTES, TOO_LONG, Rejected, check_row
from backflip.errors import FREE_SPACE, FormatError, why_not_written
from backflip.files.durable import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

RowDict = dict[str, Any]


def write_rows(
    path: Path,
    rows: Iterable[RowDict],
    schema: "Callable[[], pa.Schema]",
    *,
    on_refused: Callable[[str], None],
    wide: bool = False,
) -> int:
    """Write rows to a `.jsonl`, `.ndjson`, `.json` (text ones also `.gz` or `.zst`) or `.parquet`
    file.

    The rows go to a file beside it that takes its place when all are written, so that a reader
    never sees half a file and a failure leaves the old one. The same rows give the same bytes.

    Args:
        path: where to; what stands there is replaced.
        rows: written as they come, a few at a time in memory.
        schema: gives the columns of a Parquet file; called only for one.
        on_refused: called with the reason for each row that is left out because no reader would
            take it: too long, or holding what cannot be stored.
        wide: rows of a Parquet file are read again as `MAX_WIDE_BYTES` allows.

    Returns:
        The number of rows.

    Raises:
        FormatError: an unknown kind of file, or the disk refuses.
    """
    kind = kind_of(path)
    if kind is None:
        raise FormatError("unknown kind of file", where=str(path), hint=UNKNOWN_KIND)
    try:
        with whole_file(path, flush_name=False) as stream:
            most = MAX_WIDE_BYTES if wide and kind == ".parquet" else MAX_ROW_BYTES
            rows = _readable(rows, kind == ".parquet", most, on_refused)
            if kind == ".parquet":
                return _write_parquet(stream, rows, schema())
            with _packing(stream, path.suffix.lower()) as packed:
                return _write_json(packed, rows, kind == ".json", on_refused)
    except OSError as error:
        raise FormatError(why_not_written(error), where=str(path), hint=FREE_SPACE) from None


def _readable(
    rows: Iterable[RowDict], columns: bool, most: int, on_refused: Callable[[str], None]
) -> Iterator[RowDict]:
    for number, row in enumerate(rows, 1):
        checked = check_row("", number, row, columns=columns, max_bytes=most)
        if isinstance(checked, Rejected):
            on_refused(checked.reason)
        else:
            yield row


@contextmanager
def _packing(stream: IO[bytes], ending: str) -> Iterator[Any]:
    match ending:
        case ".gz":
            # No name and no time in the header: the bytes depend on the rows alone.
            with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
                yield packed
        case ".zst":
            import pyarrow as pa

            with pa.CompressedOutputStream(_LeftOpen(stream), "zstd") as packed:
                yield packed
        case _:
            yield stream


class _LeftOpen(io.RawIOBase):
    """A stream that does not close the one below it, which is still to be flushed to the disk."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._stream.write(data)


def _write_json(
    stream: Any,
    rows: Iterable[RowDict],
    array: bool,
    on_refused: Callable[[str], None],
) -> int:
    count = 0
    for row in rows:
        try:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except ValueError as error:
            on_refused(f"cannot be written as JSON: {error}")
            continue
        if len(line) > MAX_ROW_BYTES:
            on_refused(TOO_LONG)
            continue
        separator = (b"[\n" if count == 0 else b",\n") if array else b""
        stream.write(separator + line + (b"" if array else b"\n"))
        count += 1
    if array:
        stream.write(b"\n]\n" if count else b"[]\n")
    return count


def _write_parquet(stream: IO[bytes], rows: Iterable[RowDict], schema: "pa.Schema") -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for chunk in _chunks(rows, 256):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
            count += len(chunk)
    return count


def _chunks(rows: Iterable[RowDict], size: int) -> Iterator[list[RowDict]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk

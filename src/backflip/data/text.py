"""Texts to pre-train on and demonstrations to fine-tune on, from files."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backflip.data.dialogues import demonstrations_from_row
from backflip.data.fields import Fields, text_field
from backflip.data.files import (
    SUFFIXES,
    TEXT_SUFFIXES,
    called,
    is_text,
    kind_of,
    names_apart,
    read_rows,
    read_text_lines,
)
from backflip.data.opening import PACKED, look_up, no_such_file
from backflip.data.rows import MAX_ROW_BYTES, OnRejected, Rejected, stop_at_rejected
from backflip.errors import FormatError
from backflip.records import Sample


@dataclass(frozen=True)
class Text:
    """A document to pre-train on, and where it stands.

    Attributes:
        text: of it.
        file: what its file is called.
        lines: of a row its line in the file, as `Row` has it; of plain text that of each of its
            lines.
    """

    text: str
    file: str
    lines: tuple[int, ...]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.lines[0]}"

    def parts(self) -> Iterator["Text"]:
        """Its lines, each with its own place; of a row the row."""
        if len(self.lines) == 1:
            yield self
            return
        for number, line in zip(self.lines, self.text.split("\n"), strict=False):
            yield Text(line, self.file, (number,))


def read_texts(
    paths: Iterable[str | Path],
    *,
    on_rejected: OnRejected = stop_at_rejected,
    ignored: Counter[str] | None = None,
) -> Iterator[str]:
    """The documents of `read_placed_texts`, without their places."""
    for found in read_placed_texts(paths, on_rejected=on_rejected, ignored=ignored):
        yield found.text


def read_placed_texts(
    paths: Iterable[str | Path],
    *,
    on_rejected: OnRejected = stop_at_rejected,
    ignored: Counter[str] | None = None,
) -> Iterator[Text]:
    """Read documents to pre-train on, one after the other.

    A `.txt` or `.md` file (also packed) is one document; one longer than a megabyte comes in
    pieces of about that size, cut between paragraphs where there is one and between lines where
    there is none. A row of a JSON Lines, JSON or Parquet file is one document, its field "text"
    or "content". A folder stands for every such file under it, in the order of their names.

    Args:
        paths: files and folders.
        on_rejected: called with each row that cannot be read; by default the first one ends the
            reading with a `FormatError`.
        ignored: counts, by its name, in how many rows each column was not used.

    Raises:
        FormatError: no such file, an unknown kind of file, or a folder without any.
    """
    names = names_apart(files := list(_spread(paths)))
    for path in files:
        if is_text(path):
            lines = called(read_text_lines(path), path, names[path])
            yield from _read_plain(lines, names[path], on_rejected)
            continue
        for row in called(read_rows(path), path, names[path]):
            if isinstance(row, Rejected):
                on_rejected(row)
                continue
            fields = Fields(row.data)
            try:
                text = text_field(fields, "text" if "text" in fields else "content")
            except ValueError as error:
                on_rejected(Rejected(row.file, row.line, str(error)))
                continue
            if ignored is not None:
                ignored.update(sorted(fields.unread))
            yield Text(text, row.file, (row.line,))


def read_demonstrations(
    paths: Iterable[str | Path],
    *,
    on_rejected: OnRejected = stop_at_rejected,
    ignored: Counter[str] | None = None,
) -> Iterator[Sample]:
    """Read demonstrations: replies that people wrote, each a sample with its prompt.

    The shapes of rows are those of `data.dialogues.demonstrations_from_row`; the prompt's source
    is the place that it was read from, FILE:LINE; of several files of one name, FILE begins with
    the folders that tell them apart.

    Args:
        paths: files, folders written by `datasets`, or hub ids, as in `data.files.read_rows`.
        on_rejected: as in `read_texts`.
        ignored: likewise.
    """
    sources = list(paths)
    names = names_apart(map(Path, sources))
    for source in sources:
        path = Path(source)
        for row in called(read_rows(source), path, names[path]):
            if isinstance(row, Rejected):
                on_rejected(row)
                continue
            fields = Fields(row.data)
            try:
                samples = demonstrations_from_row(fields, source=row.place)
            except ValueError as error:
                on_rejected(Rejected(row.file, row.line, str(error)))
                continue
            if ignored is not None:
                ignored.update(sorted(fields.unread))
            yield from samples


def _spread(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Files as they are, folders as the readable files under them."""
    for given in map(Path, paths):
        found = look_up(given)
        if found is None:
            raise no_such_file(given)
        if found == "file":
            yield given
            continue
        inside = sorted(p for p in given.rglob("*") if p.is_file() and (is_text(p) or kind_of(p)))
        if not inside:
            raise FormatError(
                "a folder without any text, JSONL or Parquet file",
                where=str(given),
                hint=f"Endings that are read: {', '.join((*TEXT_SUFFIXES, *SUFFIXES))}; all but "
                f"Parquet also packed, {', '.join(PACKED)}",
            )
        yield from inside


def _read_plain(
    lines: Iterable[tuple[int, str] | Rejected], file: str, on_rejected: OnRejected
) -> Iterator[Text]:
    """A text file as one document, or as pieces where it is very long."""
    numbers: list[int] = []
    piece: list[str] = []
    size = 0

    def cut() -> Text:
        nonlocal size
        found = Text("".join(piece), file, tuple(numbers))
        numbers.clear()
        piece.clear()
        size = 0
        return found

    for item in lines:
        if isinstance(item, Rejected):
            on_rejected(item)
            continue
        number, line = item
        length = len(line.encode("utf-8"))
        if size + length > MAX_ROW_BYTES:
            yield cut()
        numbers.append(number)
        piece.append(line)
        size += length
        # Half full, the end of a paragraph is a good place to cut; full, the end of any line is.
        if size > MAX_ROW_BYTES // 2 and not line.strip():
            yield cut()
    text = "".join(piece).rstrip("\n")
    if text.strip():
        yield Text(text, file, tuple(numbers))

"""Rows of files, one at a time and never trusted.

JSON Lines, JSON arrays, both also packed, Parquet, and data sets of the `datasets` package are
read the same way: as a stream of `Row`s, with a `Rejected` in the place of each row that cannot be
read. Memory holds one row (Parquet: one small batch), whatever the size of the file.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from backflip.data.arrays import opens_array, read_array
from backflip.data.opening import PACKED, READ_ERRORS, look_up, no_such_file, open_binary
from backflip.data.rows import MAX_ROW_BYTES, TOO_LONG, Rejected, Row, decode, parse_row
from backflip.data.tables import read_dataset_folder, read_hub, read_parquet
from backflip.errors import FormatError
from backflip.hub import looks_like_path
from backflip.records.door import check_text

T = TypeVar("T")
TEXT_SUFFIXES = (".txt", ".md")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
UNKNOWN_KIND = f"known: {', '.join(SUFFIXES)}; all but Parquet also packed, {', '.join(PACKED)}"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CHUNK = 1 << 16
_HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.\[\]%:-]+))?")


def read_rows(
    source: str | Path, *, max_wide_bytes: int = MAX_ROW_BYTES
) -> Iterator[Row | Rejected]:
    """Read the rows of a file, of a data set folder, or of a data set on the hub.

    Args:
        source: a `.jsonl`, `.ndjson`, `.json` or `.parquet` file (text ones also with `.gz` or
            `.zst`), a folder written by `datasets`' `save_to_disk`, or a hub id `owner/name` or
            `owner/name:split` (split "train" unless named; needs `datasets` and a network).
        max_wide_bytes: of the texts of a row of a Parquet file, which is in memory at once anyway.

    Returns:
        The rows in their order. A row is rejected when it is not a JSON object, is longer than a
        megabyte, or holds what cannot be stored: text that is not UTF-8, lone surrogates, NUL,
        integers of more than 64 bits, more than 64 levels.

    Raises:
        FormatError: there is no such file, or nothing in it can be read.
    """
    path = Path(source)
    found = look_up(path)
    if found == "folder":
        return read_dataset_folder(path)
    if found is None:
        if may_be_on_hub(source) and (match := _HUB_ID.fullmatch(str(source))):
            return read_hub(match["name"], match["split"] or "train")
        raise no_such_file(path)
    kind = kind_of(path)
    if kind is None:
        raise FormatError("unknown kind of file", where=str(path), hint=UNKNOWN_KIND)
    if kind == ".parquet":
        return read_parquet(path, max_bytes=max_wide_bytes)
    return _read_json(path, lines=kind != ".json")


def may_be_on_hub(source: str | Path) -> bool:
    """Whether a name at which no file lies is read as one of a data set on the hub."""
    name = str(source)
    named = kind_of(Path(name)) is None and _HUB_ID.fullmatch(name) is not None
    return named and not looks_like_path(name)


def kind_of(path: Path) -> str | None:
    """The suffix that says how a file is read, a packed one's aside; None for unknown ones."""
    inner = _unpacked(path.name)
    suffix = Path(inner).suffix.lower()
    if inner != path.name and suffix == ".parquet":
        return None
    return suffix if suffix in SUFFIXES else None


def is_text(path: Path) -> bool:
    """Whether a file is read as plain text, by its name."""
    return _unpacked(path.name).lower().endswith(TEXT_SUFFIXES)


def without_ending(name: str) -> str:
    """A file's name without the ending that says how it is read; dots before that stay."""
    inner = _unpacked(name)
    known = inner.lower().endswith((*SUFFIXES, *TEXT_SUFFIXES))
    return (inner[: inner.rindex(".")] if known else inner) or name


def names_apart(paths: Iterable[Path]) -> dict[Path, str]:
    """What each file is called in the places of its rows: its name, behind as many of the folders
    above it as tell it from others of that name.
    """
    alike: defaultdict[str, set[Path]] = defaultdict(set)
    for path in paths:
        alike[path.name].add(path)
    names: dict[Path, str] = {}
    for group in alike.values():
        depth = 1
        while len({path.parts[-depth:] for path in group}) < len(group):
            depth += 1
        names |= {path: Path(*path.parts[-depth:]).as_posix() for path in group}
    return names


def called(found: Iterable[T], path: Path, name: str) -> Iterator[T]:
    """What was found in a file, with places in which the file is called `name`."""
    for item in found:
        if isinstance(item, Row | Rejected) and item.file.startswith(path.name):
            # Of a folder that `datasets` saved, the split's name follows.
            yield replace(item, file=name + item.file.removeprefix(path.name))
        else:
            yield item


def _unpacked(name: str) -> str:
    return name[: name.rindex(".")] if name.lower().endswith(PACKED) else name


def read_lines(path: Path) -> Iterator[tuple[int, bytes] | Rejected]:
    """Numbered lines; over-long ones are rejected, and never held in memory.

    A line ends as `open_binary` says, and comes with a line feed at its end.

    Raises:
        FormatError: as `open_binary`; damage further on is a `Rejected` in its place.
    """
    line, begun = 0, False
    try:
        with open_binary(path, lines=True) as stream:
            while raw := stream.readline(MAX_ROW_BYTES + 1):
                line += 1
                if not begun and _looks_utf16(raw):
                    yield Rejected(path.name, line, "the file is UTF-16: save it as UTF-8")
                    return
                begun = begun or bool(raw.strip())
                if len(raw.rstrip(b"\n")) > MAX_ROW_BYTES:
                    while raw and not raw.endswith(b"\n"):
                        raw = stream.readline(_CHUNK)
                    yield Rejected(path.name, line, TOO_LONG)
                    continue
                yield line, raw.removeprefix(_BOM) if line == 1 else raw
    except READ_ERRORS as error:
        yield Rejected(path.name, line + 1, f"the file cannot be read further: {error}")


def _looks_utf16(raw: bytes) -> bool:
    """Whether a file that begins with these bytes is UTF-16: by its mark, or by its zeros.

    Without a mark, each character of plain English has one byte that is zero, always on the same
    side.
    """
    sides = raw[::2].count(0), raw[1::2].count(0)
    return raw.startswith(_UTF16) or (min(sides) == 0 and 4 * max(sides) > len(raw))


def read_text_lines(path: Path) -> Iterator[tuple[int, str] | Rejected]:
    """The lines of plain text, as `read_lines` gives them; one that cannot be stored is rejected,
    as such a text in a row is.
    """
    for item in read_lines(path):
        if isinstance(item, Rejected):
            yield item
            continue
        number, raw = item
        try:
            text = decode(raw)
            check_text(text)
        except ValueError as error:
            yield Rejected(path.name, number, str(error))
            continue
        yield number, text


def _read_json(path: Path, *, lines: bool) -> Iterator[Row | Rejected]:
    # Many files called .json hold JSON Lines.
    cut = read_array(path) if not lines and opens_array(path) else read_lines(path)
    for piece in cut:
        if isinstance(piece, Rejected):
            yield piece
        elif piece[1].strip():
            yield parse_row(path.name, *piece)

"""Reading and writing by a format's name."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from backflip.data.fields import Fields, Unreadable
from backflip.data.files import kind_of, read_rows, without_ending
from backflip.data.rows import MAX_ROW_BYTES, MAX_WIDE_BYTES, Rejected, Row
from backflip.data.writing import write_rows
from backflip.errors import FormatError
from backflip.formats import argilla, foreign, label_studio, native, rewardbench
from backflip.formats.base import Format, Labelled, Origin, RenderOptions
from backflip.records.feedback import FeedbackBase
from backflip.records.feedback_checks import check_labelled

# In the order in which a row is tried: RewardBench's rows are preferences of TRL's as well.
FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        native.JSONL,
        native.PARQUET,
        foreign.HH,
        rewardbench.REWARDBENCH,
        foreign.PREFERENCE,
        foreign.UNPAIRED,
        foreign.DEMONSTRATION,
        argilla.ARGILLA,
        label_studio.LABEL_STUDIO,
    )
}
_ROWS_LOOKED_AT = 50


def register(format_: Format) -> Format:
    """Make a format known by its name; rows are tried by it before the others."""
    others = {name: each for name, each in FORMATS.items() if name != format_.name}
    FORMATS.clear()
    FORMATS.update({format_.name: format_, **others})
    return format_


@dataclass(frozen=True)
class Written:
    """What went into a file: the number of rows, and how many entries were left out and why."""

    file: str
    format: str
    rows: int
    left_out: dict[str, int]


def find_format(name: str) -> Format:
    """A format by name; a `FormatError` that names the known ones."""
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise FormatError(f"unknown format {name!r}", hint=f"known formats: auto, {known}")
    return FORMATS[name]


def detect(source: str | Path) -> Format:
    """The format of a file, told by the fields of its first readable rows.

    Raises:
        FormatError: no such file, no readable row, or rows that are like those of no format.
    """
    fields: list[str] = []
    fault: Rejected | None = None
    guess: Format | None = None
    for row in islice(read_rows(source, max_wide_bytes=MAX_WIDE_BYTES), _ROWS_LOOKED_AT):
        if isinstance(row, Rejected):
            fault = fault or row
            continue
        found = next((each for each in FORMATS.values() if each.suits(row.data)), None)
        if found and not any(isinstance(value, Unreadable) for value in row.data.values()):
            return found
        guess = guess or found
        fields = fields or list(map(str, row.data))
    if guess is not None:  # each row has something in it that cannot be read
        return guess
    if fields:
        what = f"rows with the fields {', '.join(fields)} are of no known format"
    elif fault:
        what = f"no row can be read; the first fault: line {fault.line}, {fault.reason}"
    else:
        what = "there are no rows in it"
    raise FormatError(what, where=str(source), hint=f"known formats: {', '.join(FORMATS)}")


def read(
    source: str | Path,
    format: str = "auto",  # noqa: A002
    *,
    annotator: str | None = None,
    axis: str = "overall",
    ignored: Counter[str] | None = None,
) -> Iterator[Labelled | Rejected]:
    """Read the rows of a file as samples and feedback, one row at a time.

    Reading the same file again gives the same ids. Rows of other programs' formats that say the
    same of the same replies are answers of their own: the second gets the key "2", and so on.

    Args:
        source: a file, a data set's folder or a hub id, as in `data.files.read_rows`.
        format: a name in `FORMATS`; "auto" tells it by the first rows.
        annotator: who is said to have answered, in formats that do not tell; by default the
            file's name without its ending.
        axis: what is said to have been judged, likewise.
        ignored: counts, by its name, in how many of the good rows each column was not used.

    Returns:
        A `Labelled` for each good row and a `Rejected` for each bad one, in their order.

    Raises:
        FormatError: an unknown format, no such file, or a file in which nothing can be read.
    """
    chosen = detect(source) if format == "auto" else find_format(format)
    counts = Counter[str]() if ignored is None else ignored
    wide = MAX_WIDE_BYTES if chosen.exact else MAX_ROW_BYTES
    rows = read_rows(source, max_wide_bytes=wide)
    return _read(chosen, rows, annotator, axis, counts)


def _read(
    format_: Format,
    rows: Iterator[Row | Rejected],
    annotator: str | None,
    axis: str,
    ignored: Counter[str],
) -> Iterator[Labelled | Rejected]:
    seen: Counter[int] = Counter()
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        name = annotator or without_ending(row.file)
        fields = Fields(row.data)
        try:
            labelled = format_.parse(fields, Origin(row.file, name, axis, row.place))
            check_labelled(labelled.samples, labelled.entries)
        except ValueError as error:
            yield Rejected(row.file, row.line, str(error))
            continue
        ignored.update(sorted(fields.unread))
        if not format_.exact:
            entries = tuple(_told_apart(entry, seen) for entry in labelled.entries)
            labelled = replace(labelled, entries=entries)
        yield labelled


def _told_apart(entry: FeedbackBase, seen: Counter[int]) -> FeedbackBase:
    """The entry, with a key that counts how often the file said the same before."""
    if entry.key:
        return entry
    digest = int(entry.id.rpartition("-")[2], 16)  # a number takes less room than a text
    seen[digest] += 1
    return entry if seen[digest] == 1 else entry.model_copy(update={"key": str(seen[digest])})


def write(
    path: str | Path,
    format: str,  # noqa: A002
    labelled: Iterable[Labelled],
    *,
    plain: bool = False,
) -> Written:
    """Write feedback to a file, which is there whole or not at all.

    An entry that the format cannot hold (a tie among preferences, a clip among texts) is left out
    and counted by its reason.

    Args:
        path: its ending says which kind of file: `.jsonl`, `.json` (both also packed,
            `.gz` or `.zst`), `.parquet`.
        format: a name in `FORMATS`.
        labelled: entries with every sample they speak of.
        plain: TRL's standard rows (texts) and not its conversational ones (turns); those hold
            only prompts of one turn.

    Raises:
        FormatError: an unknown format, a kind of file it is not kept in, or a full disk.
    """
    format_, path = find_format(format), Path(path)
    if kind_of(path) not in format_.files:
        raise FormatError(
            f"{format_.name} is not kept in such a file",
            where=str(path),
            hint=f"endings: {', '.join(format_.files)}",
        )
    options = RenderOptions(plain=plain, columns=kind_of(path) == ".parquet")
    left_out: Counter[str] = Counter()

    def leave_out(reason: str) -> None:
        left_out[reason] += 1

    def rows() -> Iterator[dict[str, object]]:
        for item in labelled:
            samples = {sample.id: sample for sample in item.samples}
            for entry in item.entries:
                try:
                    yield format_.render(entry, samples, options)
                except ValueError as error:
                    leave_out(str(error))

    count = write_rows(
        path,
        rows(),
        lambda: format_.schema(options),
        on_refused=leave_out,
        wide=format_.exact,
    )
    return Written(path.name, format_.name, count, dict(left_out))

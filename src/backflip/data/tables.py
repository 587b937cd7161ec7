"""Rows of columns: Parquet files, and data sets of the `datasets` package.

A column has a cell in every row, and so has each field of a struct: what a row does not have is
null there. A null is therefore dropped, however deep it stands.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from backflip import hub
from backflip.data.fields import Unreadable
from backflip.data.opening import look_up, open_binary
from backflip.data.rows import MAX_ROW_BYTES, Rejected, Row, column_row
from backflip.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

_SPARE, _RATIO = 64 << 20, 200


def read_parquet(path: Path, *, max_bytes: int = MAX_ROW_BYTES) -> Iterator[Row | Rejected]:
    """The rows of a Parquet file, by their number.

    Args:
        path: of the file.
        max_bytes: of the texts of a row together.

    Raises:
        FormatError: it cannot be opened, is no Parquet file, or has two columns, or two fields of
            a column, of one name: nobody can tell which of them counts. Or it claims to unpack to
            very much more than it is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    open_binary(path).close()  # for its errors: pyarrow calls a missing right damage
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"not a Parquet file: {error}", where=str(path)) from None
    if twice := _named_twice(file.schema_arrow):
        file.close()
        raise FormatError(
            f"{twice} is there twice",
            where=str(path),
            hint="Rename one of the two: nobody can tell which of them counts.",
        )
    _require_fair(path, file)
    return _parquet_rows(path.name, file, max_bytes)


def _named_twice(fields: "Iterable[pa.Field]", within: str = "the file") -> str | None:
    """The first name that stands for two things side by side, in columns or in fields of one."""
    names: set[str] = set()
    for field in fields:
        if field.name in names:
            return f"{field.name!r} in {within}"
        names.add(field.name)
        inner = (field.type.field(place) for place in range(field.type.num_fields))
        if twice := _named_twice(inner, f"column {field.name!r}"):
            return twice
    return None


def _require_fair(path: Path, file: Any) -> None:
    """Refuse a file that claims to unpack to very much more than it is: pages come whole."""
    groups = range(file.metadata.num_row_groups)
    claimed = sum(file.metadata.row_group(place).total_byte_size for place in groups)
    if claimed > _SPARE + _RATIO * path.stat().st_size:
        file.close()
        raise FormatError(
            f"unpacks to {claimed / 1e6:.0f} MB, over {_RATIO} times its size",
            where=str(path),
            hint="If the file is your own, write its rows as JSON Lines.",
        )


def _parquet_rows(name: str, file: Any, max_bytes: int) -> Iterator[Row | Rejected]:
    import pyarrow as pa

    line, unreadable = 0, dict[str, Unreadable]()
    with file:
        while True:
            try:
                for data in _data_of(file, unreadable, skip=line):
                    line += 1
                    yield column_row(name, line, data | unreadable, max_bytes=max_bytes)
            except (pa.ArrowException, OSError) as error:
                if not unreadable and (unreadable := _unreadable_columns(file)):
                    continue
                yield Rejected(name, line + 1, f"the file cannot be read further: {error}")
            return


def _data_of(file: Any, without: Collection[str], *, skip: int) -> Iterator[dict[str, Any]]:
    """The rows of a file, less some columns and the first `skip` rows."""
    columns = [column for column in file.schema_arrow.names if column not in without]
    for batch in file.iter_batches(batch_size=64, columns=columns):
        for i in range(min(skip, batch.num_rows), batch.num_rows):
            yield _values(batch.slice(i, 1), _only_row)
        skip = max(skip - batch.num_rows, 0)


def _unreadable_columns(file: Any) -> dict[str, Unreadable]:
    """Columns that cannot be read to their end, beside others that can; empty where all cannot."""
    import pyarrow as pa

    found: dict[str, Unreadable] = {}
    for column in file.schema_arrow.names:
        try:
            for _ in file.iter_batches(columns=[column]):
                pass
        except (pa.ArrowException, OSError) as error:
            found[column] = Unreadable(f"column {column!r} cannot be read: {error}")
    return found if len(found) < len(file.schema_arrow.names) else {}


def _only_row(row: Any) -> dict[str, Any]:
    return row.to_pylist()[0]


def _values(row: Any, read: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """A row's values by their columns, with an `Unreadable` for one that Python has no like of.

    Such are a date of another epoch, a time of an unknown zone, bytes that are no text.

    Args:
        row: an arrow table or batch of one row.
        read: gives the values of such a row, whatever columns of it are left.
    """
    try:
        return _given(read(row))
    except Exception:  # some column's: each is tried alone below
        found: dict[str, Any] = {}
    for field in row.schema:
        try:
            found[field.name] = _given(read(row.select([field.name]))[field.name])
        except Exception as error:  # its decoder may raise a class of its own
            zone = getattr(field.type, "tz", None)
            why = error if zone is None or _is_zone(zone) else f"there is no time zone {zone!r}"
            told = f"column {field.name!r} holds a value that cannot be read: {why}"
            found[field.name] = Unreadable(told)
    return found


def _is_zone(name: str) -> bool:
    """Whether arrow knows a time zone: by its name, or as an offset like +02:00."""
    if re.fullmatch(r"[+-]\d\d:\d\d", name):
        return True
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


def _datasets(what: str, where: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise FormatError(
            f"{what} needs the package datasets", where=where, hint="pip install 'backflip[hub]'"
        ) from None
    return datasets


def read_dataset_folder(path: Path) -> Iterator[Row | Rejected]:
    """The rows of a folder that `datasets` saved, by their number within their split.

    Raises:
        FormatError: it is another folder, or cannot be opened.
    """
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


def read_hub(name: str, split: str) -> Iterator[Row | Rejected]:
    """The rows of a data set's split on the hub, by their number.

    Raises:
        FormatError: the hub does not give it.
    """
    datasets = _datasets("no such file, and asking the hub for it", f"{name}:{split}")
    if why := hub.unreachable(f"datasets/{name}"):
        raise FormatError(
            f"no such file, and the hub cannot be asked for it: {why}",
            where=f"{name}:{split}",
            hint=hub.UNREACHED_HINT,
        )
    try:
        stream = datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:  # the hub client raises a class of its own for each way to fail
        raise FormatError(
            f"no such file, and the hub does not give it: {error}", where=f"{name}:{split}"
        ) from None
    return _dataset_rows(f"{name}:{split}", stream)


def _dataset_rows(name: str, rows: Any) -> Iterator[Row | Rejected]:
    from datasets.formatting import get_formatter

    read = get_formatter("python", features=rows.features).format_row
    number = 0
    try:
        # As arrow, and decoded here: what one column cannot be decoded to must not end the rows.
        for number, table in enumerate(rows.with_format("arrow").iter(batch_size=1), 1):
            yield column_row(name, number, _values(table, read))
    except (ArithmeticError, LookupError, ValueError) as error:
        yield Rejected(name, number + 1, f"the data set cannot be read further: {error}")


def _given(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _given(inner) for name, inner in value.items() if inner is not None}
    return [_given(inner) for inner in value] if isinstance(value, list) else value

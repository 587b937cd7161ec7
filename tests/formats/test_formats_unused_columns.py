"""A column that nobody asks for changes nothing of what is read, whatever stands in its cells."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_shapes import SHAPES, said, shapes

from backflip.config import PromptSettings
from backflip.data import load_prompts, read_demonstrations, read_texts
from backflip.formats import Labelled, Rejected, detect, read

ROWS = 8
FIXED = [
    *(pa.bool_(), pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.decimal128(38, 3), pa.decimal256(70, 9), pa.binary(5), pa.date32(), pa.date64()),
    *(pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.duration(unit) for unit in ("ms", "us", "ns")),
    *(pa.timestamp(unit) for unit in ("ms", "us", "ns")),
    *(pa.timestamp("us", tz=zone) for zone in ("UTC", "Europe/Paris", "+02:00", "Nowhere/City")),
]


def any_bytes(kind: pa.DataType, rng: random.Random) -> pa.Array:
    """Values of a type whatever their bits are; few are what Python has a like of."""
    size = ROWS * max(kind.bit_width, 8) // 8
    return pa.Array.from_buffers(kind, ROWS, [None, pa.py_buffer(rng.randbytes(size))])


def texts(value: bytes, kind: pa.DataType) -> pa.Array:
    raw = pa.array([value] * ROWS, pa.binary())
    return pa.Array.from_buffers(kind, ROWS, raw.buffers())


def odd_columns(seed: int) -> dict[str, pa.Array]:
    rng = random.Random(seed)
    found = {str(kind): any_bytes(kind, rng) for kind in FIXED}
    found |= {"no UTF-8": texts(b"caf\xe9", pa.string()), "NUL": texts(b"a\0b", pa.string())}
    days, text = any_bytes(pa.date32(), rng), found["no UTF-8"]
    deep: Any = 1
    for _ in range(45):  # Parquet counts each twice, to 100
        deep = [deep]
    ends = pa.array([*range(ROWS), ROWS], pa.int32())
    return found | {
        "deep": pa.array([deep] * ROWS),
        "nothing": pa.nulls(ROWS),
        "binary": pa.array([b"\xff"] * ROWS),
        "list": pa.ListArray.from_arrays(ends, days),
        "struct": pa.StructArray.from_arrays([days, text], ["day", "text"]),
        "map": pa.MapArray.from_arrays(ends, days, text),
        "indexed": pa.DictionaryArray.from_arrays(pa.array([0, 1] * (ROWS // 2)), days[:2]),
        "indexed texts": pa.DictionaryArray.from_arrays(
            pa.array([0] * ROWS, pa.int8()), texts(b"\xff", pa.string())[:1]
        ),
        "some": pa.array([None, *days.cast(pa.int32()).to_pylist()[1:]], pa.int32()).cast(
            pa.date32()
        ),
    }


def table_of(row: dict[str, Any], odd: dict[str, pa.Array]) -> pa.Table:
    return pa.table({name: pa.array([value] * ROWS) for name, value in row.items()} | odd)


def in_parquet(table: pa.Table, folder: Path) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(table, path)
    return path


def in_datasets(table: pa.Table, folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    for number, field in reversed([*enumerate(table.schema)]):
        try:
            datasets.Features.from_arrow_schema(pa.schema([field]))
            datasets.Dataset(table.select([field.name])).save_to_disk(str(folder / "one"))
        except (ValueError, KeyError, TypeError, pa.ArrowException):  # it keeps no such columns
            table = table.remove_column(number)
    datasets.Dataset(table).save_to_disk(str(folder / "rows"))
    return folder / "rows"


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_in_an_unused_column_changes_nothing(tmp_path: Path, name: str) -> None:
    format_name, row = shapes(tmp_path)[name]
    wanted = [said(item) for item in read(in_parquet(table_of(row, {}), tmp_path), format_name)]
    for seed in range(2):
        odd = odd_columns(seed)
        path = in_parquet(table_of(row, odd), tmp_path)
        assert detect(path).name == format_name
        ignored = Counter[str]()
        items = list(read(path, format_name, ignored=ignored))
        assert [said(item) for item in items] == wanted
        assert all(isinstance(item, Labelled) for item in items)
        assert set(odd) - {"nothing"} == set(ignored)


@pytest.mark.parametrize("put", [in_parquet, in_datasets])
def test_texts_prompts_and_demonstrations_are_read_alike(tmp_path: Path, put: Any) -> None:
    row = {"text": "It rains.", "prompt": "", "completion": "Wet."}
    asked = pa.array([f"How is it in {n}?" for n in range(ROWS)])
    path = put(table_of(row, odd_columns(0)).set_column(1, "prompt", asked), tmp_path)
    samples = list(read_demonstrations([path]))
    assert [(s.prompt.text, s.text) for s in samples] == [(a, "Wet.") for a in asked.to_pylist()]
    prompts = load_prompts(PromptSettings(source=str(path), heldout=1), 0)
    assert [prompt.text for prompt in prompts] == asked.to_pylist()
    if path.is_file():
        assert list(read_texts([path])) == ["It rains."] * ROWS


@pytest.mark.parametrize("put", [in_parquet, in_datasets])
def test_one_that_is_asked_for_refuses_its_row_by_name(tmp_path: Path, put: Any) -> None:
    row = {"prompt": "How is it?", "chosen": "Wet.", "rejected": "Dry."}
    days = pa.array([0, 2**31 - 1] * (ROWS // 2), pa.int32()).cast(pa.date32())
    for number, column in enumerate(row):
        folder = tmp_path / str(number)
        folder.mkdir()
        table = table_of(row | {column: None}, {})
        where = table.schema.get_field_index(column)
        path = put(table.set_column(where, column, days), folder)
        items = list(read(path, "trl-preference"))
        assert all(isinstance(item, Rejected) for item in items)
        assert f"column '{column}' holds a value that cannot be read" in items[1].reason

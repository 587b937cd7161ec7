"""Rows of files: every container gives the same rows; bad ones are named, good ones kept."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip import hub
from backflip.data.arrays import ArrayCutter
from backflip.data.files import read_rows
from backflip.data.rows import MAX_ROW_BYTES, Rejected, Row
from backflip.data.text import read_texts
from backflip.data.writing import write_rows
from backflip.errors import FormatError

ROWS = [{"text": "a", "n": 1}, {"text": 'two "quoted" [brackets], {braces} \\', "n": 2}]


def schema():
    return pa.schema({"text": pa.string(), "n": pa.int64()})


def fail(reason):
    raise AssertionError(reason)


def read(path):
    return list(read_rows(path))


def good(rows):
    return [row.data for row in rows if isinstance(row, Row)]


def bad(rows):
    return {row.line: row.reason for row in rows if isinstance(row, Rejected)}


@pytest.mark.parametrize(
    "name", ["r.jsonl", "r.ndjson", "r.json", "r.jsonl.gz", "r.json.gz", "r.parquet"]
)
def test_every_kind_of_file_gives_the_written_rows(tmp_path, name):
    count = write_rows(tmp_path / name, iter(ROWS), schema, on_refused=fail)
    rows = read(tmp_path / name)
    assert count == 2
    assert good(rows) == ROWS
    assert [row.file for row in rows] == [name, name]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_writing_the_same_rows_gives_the_same_bytes(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_rows(tmp_path / name, ROWS, schema, on_refused=fail)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_a_failure_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.jsonl"
    write_rows(path, ROWS, schema, on_refused=fail)
    before = path.read_bytes()

    def failing():
        yield {"text": "new", "n": 3}
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_rows(path, failing(), schema, on_refused=fail)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.jsonl"]


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.parquet"])
def test_rows_that_no_reader_would_take_are_refused_in_writing(tmp_path, name):
    reasons = []
    rows = [ROWS[0], {"text": "x" * (MAX_ROW_BYTES + 1), "n": 2}, {"text": "\ud800", "n": 3}]
    count = write_rows(tmp_path / name, [*rows, ROWS[1]], schema, on_refused=reasons.append)
    assert count == 2
    assert good(read(tmp_path / name)) == ROWS
    assert len(reasons) == 2
    assert "longer" in reasons[0]
    assert "surrogate" in reasons[1]


def test_bad_lines_are_named_by_their_line_and_good_ones_kept(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = [
        b'\xef\xbb\xbf{"text": "first"}',
        b"",
        b'{"text": "caf\xe9"}',
        b'{"text": "never closed',
        b'["a list"]',
        b'{"text": NaN}',
        b'{"text": "\\ud800"}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "' + b"x" * MAX_ROW_BYTES + b'"}',
        b"[" * 100_000,
        b'{"text": "last"}\r',
    ]
    path.write_bytes(b"\n".join(lines))
    rows = read(path)
    assert good(rows) == [{"text": "first"}, {"text": "last"}]
    faults = bad(rows)
    assert sorted(faults) == [3, 4, 5, 6, 7, 8, 9, 10]
    for line, word in {
        3: "UTF-8",
        4: "JSON",
        5: "a list",
        6: "NaN",
        7: "surrogate",
        8: "NUL",
        9: "longer",
        10: "JSON",
    }.items():
        assert word in faults[line]


def test_a_line_of_exactly_the_limit_is_taken_and_one_more_is_not(tmp_path):
    frame = len('{"t": ""}')
    for extra, taken in ((0, True), (1, False)):
        path = tmp_path / f"r{extra}.jsonl"
        text = "x" * (MAX_ROW_BYTES - frame + extra)
        path.write_text(f'{{"t": "{text}"}}\n{{"t": "next"}}\n')
        rows = read(path)
        assert isinstance(rows[0], Row) is taken
        assert rows[1].data == {"t": "next"}
        assert rows[1].line == 2


def test_a_damaged_gzip_file_gives_what_was_read_before_the_damage(tmp_path):
    path = tmp_path / "r.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(50_000)))
    path.write_bytes(whole[: len(whole) // 2])
    rows = read(path)
    assert isinstance(rows[-1], Rejected)
    assert "cannot be read further" in rows[-1].reason
    assert [row.data["n"] for row in rows[:-1]] == list(range(len(rows) - 1))
    assert len(rows) > 100


def test_json_array_with_bad_elements(tmp_path):
    path = tmp_path / "r.json"
    huge = json.dumps({"t": "y" * MAX_ROW_BYTES})
    path.write_text(f' [{{"t": "a"}}, 7, {{"t": }}, {huge}, {{"t": "b"}}]')
    rows = read(path)
    assert good(rows) == [{"t": "a"}, {"t": "b"}]
    faults = bad(rows)
    assert list(faults) == [2, 3, 4]
    assert "a number" in faults[2]
    assert "JSON" in faults[3]
    assert "longer" in faults[4]


@pytest.mark.parametrize(
    ("text", "reason"),
    [('[{"t": "a"}, {"t": "b"', "cut off"), ('[{"t": "a"}] {"x": 1}', "follows")],
)
def test_json_array_that_ends_badly(tmp_path, text, reason):
    path = tmp_path / "r.json"
    path.write_text(text)
    rows = read(path)
    assert good(rows) == [{"t": "a"}]
    assert reason in rows[-1].reason


def test_json_lines_under_the_name_json(tmp_path):
    path = tmp_path / "r.json"
    path.write_text('{"t": "a"}\n{"t": "b"}\n')
    assert good(read(path)) == [{"t": "a"}, {"t": "b"}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@given(
    values=st.lists(json_values, max_size=6),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    size=st.integers(1, 40),
)
def test_array_cutter_finds_the_elements_however_the_file_is_chunked(
    values, indent, ascii_only, size
):
    raw = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )
    cutter = ArrayCutter("file")
    pieces = [p for i in range(0, len(raw), size) for p in cutter.feed(raw[i : i + size])]
    assert [number for number, _ in pieces] == list(range(1, len(values) + 1))
    assert [json.loads(piece.decode("utf-8", "surrogatepass")) for _, piece in pieces] == values
    assert cutter.closed
    assert not cutter.rest.strip()


def test_parquet_row_with_broken_utf8_is_named_and_the_others_kept(tmp_path):
    path = tmp_path / "r.parquet"
    raw = pa.array([b"good", b"caf\xe9", b"fine"], pa.binary())
    broken = pa.StringArray.from_buffers(3, *raw.buffers()[1:])
    pq.write_table(pa.table({"text": broken}), path)
    faults = []
    texts = read_texts([path], on_rejected=faults.append)
    assert list(texts) == ["good", "fine"]
    assert [fault.line for fault in faults] == [2]
    assert "column 'text' holds a value that cannot be read" in faults[0].reason


def test_parquet_that_unpacks_to_very_much_more_than_it_is_is_refused(tmp_path):
    for size, fair in ((40 << 20, True), (90 << 20, False)):
        values = pa.array(["a" * size, "b"], pa.large_string())
        pq.write_table(pa.table({"prompt": values}), tmp_path / "r.parquet", compression="zstd")
        if fair:
            first, second = read_rows(tmp_path / "r.parquet")
            assert isinstance(first, Rejected)
            assert second.data == {"prompt": "b"}
            continue
        with pytest.raises(FormatError, match="over 200 times its size"):
            read_rows(tmp_path / "r.parquet")


def test_null_cells_of_parquet_are_absent_fields(tmp_path):
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"a": ["x", None], "b": [None, "y"]}), path)
    assert good(read(path)) == [{"a": "x"}, {"b": "y"}]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("missing.jsonl", None, "no such file"),
        ("r.csv", b"a,b", "unknown kind"),
        ("r.parquet", b"not parquet", "not a Parquet file"),
        ("r.parquet.gz", b"x", "unknown kind"),
    ],
)
def test_files_that_cannot_be_opened(tmp_path, name, content, what):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=what):
        read(path)


def test_a_folder_of_datasets_gives_its_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    parts = {
        "train": datasets.Dataset.from_list([{"text": "a", "n": 1}, {"text": None, "n": 2}]),
        "test": datasets.Dataset.from_list([{"text": "c", "n": 3}]),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    parts["test"].save_to_disk(str(tmp_path / "one"))
    rows = read(tmp_path / "both")
    assert good(rows) == [{"text": "a", "n": 1}, {"n": 2}, {"text": "c", "n": 3}]
    assert [(r.file, r.line) for r in rows] == [
        ("both/train", 1),
        ("both/train", 2),
        ("both/test", 1),
    ]
    assert [r.place for r in rows] == ["both/train:1", "both/train:2", "both/test:1"]
    assert good(read(tmp_path / "one")) == [{"text": "c", "n": 3}]
    with pytest.raises(FormatError, match="not one that"):
        read(tmp_path)


def test_a_hub_id_streams_the_split_that_it_names(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(name, *, split, streaming):
        asked.append((name, split, streaming))
        if name == "no/such":
            raise FileNotFoundError("nothing there")
        return datasets.IterableDataset.from_generator(lambda: iter(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_asked", None)
    monkeypatch.setattr(hub, "_ask", lambda _: None)
    rows = list(read_rows("owner/name:test"))
    assert good(rows) == ROWS
    assert rows[0].place == "owner/name:test:1"
    assert good(read_rows("owner/name")) == ROWS
    with pytest.raises(FormatError, match="the hub does not give it"):
        read_rows("no/such")
    with pytest.raises(FormatError, match="no such file"):
        read_rows("folder/missing.jsonl")
    assert asked == [
        (n, s, True)
        for n, s in [("owner/name", "test"), ("owner/name", "train"), ("no/such", "train")]
    ]

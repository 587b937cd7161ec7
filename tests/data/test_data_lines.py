"""Lines of files as other systems write them: ends, marks, packing, damage, and what is no text."""

import gzip
import json
import random
import tracemalloc

import pyarrow as pa
import pytest

from backflip.config import PromptSettings
from backflip.data import load_prompts, read_texts
from backflip.data.files import read_lines, read_rows
from backflip.data.opening import open_binary
from backflip.data.rows import MAX_ROW_BYTES, Rejected
from backflip.data.writing import write_rows
from backflip.errors import FormatError

PACKING = ["", ".gz", ".zst"]
BOM = b"\xef\xbb\xbf"
# printf '{"t": "from zstd 1.5"}\\n' | zstd
BY_ZSTD = bytes.fromhex("28b52ffd0458b900007b2274223a202266726f6d207a73746420312e35227d0a82797e6f")


def pack(raw, ending):
    match ending:
        case ".gz":
            return gzip.compress(raw)
        case ".zst":
            return pa.Codec("zstd").compress(raw, asbytes=True)
    return raw


def put(folder, name, raw, ending=""):
    path = folder / f"{name}{ending}"
    path.write_bytes(pack(raw, ending))
    return path


def prompts(path):
    settings = PromptSettings(source=str(path), heldout=1)
    return [p.text for p in load_prompts(settings, 0)]


@pytest.mark.parametrize("packed", PACKING)
@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("closed", [True, False])
def test_lines_may_end_and_files_begin_as_anywhere(tmp_path, packed, mark, end, closed):
    last = end if closed else b""
    text = put(tmp_path, "p.txt", mark + end.join([b"One?", b"", b"Two?"]) + last, packed)
    assert prompts(text) == ["One?", "Two?"]
    assert list(read_texts([text])) == ["One?\n\nTwo?"]
    rows = [json.dumps({"t": text}).encode() for text in ("a\r\nb", "c")]
    path = put(tmp_path, "r.jsonl", mark + end.join([rows[0], b" ", rows[1]]) + last, packed)
    assert [(r.line, r.data) for r in read_rows(path)] == [(1, {"t": "a\r\nb"}), (3, {"t": "c"})]
    path = put(
        tmp_path, "r.json", mark + b"[" + end + (b"," + end).join(rows) + b"]" + last, packed
    )
    assert [(r.line, r.data) for r in read_rows(path)] == [(1, {"t": "a\r\nb"}), (2, {"t": "c"})]


@pytest.mark.parametrize("seed", range(30))
def test_lines_are_split_as_python_splits_them(tmp_path, seed):
    """However the ends fall to the pieces in which a file is read."""
    rng = random.Random(seed)
    raw = b"".join(
        rng.choice([b"\r", b"\n", b"\r\n", b"x" * rng.randint(1, 9)]) for _ in range(400)
    )
    path = put(tmp_path, "t.txt", raw)
    wanted = raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    with open_binary(path, lines=True) as stream:
        found = b""
        while piece := stream.read1(rng.randint(1, 5)):
            found += piece
    assert found.decode() == wanted
    lines = [line for _, line in read_lines(path)]
    assert b"".join(lines).decode() == wanted
    assert [n for n, _ in read_lines(path)] == list(range(1, len(wanted.splitlines()) + 1))


@pytest.mark.parametrize("packed", PACKING)
@pytest.mark.parametrize("raw", [b"", b"\n\n", b"\r\n \r\n", BOM, b" \t"])
def test_files_without_anything_in_them(tmp_path, raw, packed):
    for name in ("r.jsonl", "r.json"):
        assert list(read_rows(put(tmp_path, name, raw, packed))) == []
    assert list(read_texts([put(tmp_path, "t.txt", raw, packed)])) == []


@pytest.mark.parametrize("packed", PACKING[1:])
def test_packed_pieces_laid_end_to_end_are_one_file(tmp_path, packed):
    path = tmp_path / f"r.jsonl{packed}"
    path.write_bytes(b"".join(pack(b'{"n": %d}\n' % n, packed) for n in range(3)))
    assert [row.data for row in read_rows(path)] == [{"n": n} for n in range(3)]


def test_what_the_program_zstd_writes_is_read(tmp_path):
    path = tmp_path / "r.jsonl.zst"
    path.write_bytes(BY_ZSTD)
    assert [row.data for row in read_rows(path)] == [{"t": "from zstd 1.5"}]


@pytest.mark.parametrize("name", ["r.jsonl.zst", "r.json.zst"])
def test_rows_are_written_packed_and_the_same_each_time(tmp_path, name):
    rows = [{"t": "é" * 100, "n": n} for n in range(2000)]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_rows(tmp_path / folder / name, rows, pa.schema, on_refused=pytest.fail)
    raw = (tmp_path / "a" / name).read_bytes()
    assert raw == (tmp_path / "b" / name).read_bytes()
    assert raw[:4] == bytes.fromhex("28b52ffd")
    assert len(raw) < 30_000
    assert [row.data for row in read_rows(tmp_path / "a" / name)] == rows


@pytest.mark.parametrize("packed", PACKING[1:])
@pytest.mark.parametrize("name", ["r.jsonl", "r.json"])
def test_a_small_file_that_unpacks_to_a_huge_row_takes_little_memory(tmp_path, name, packed):
    bomb = b'{"t": "' + b"x" * (50 * MAX_ROW_BYTES) + b'"}'
    raw = b"[%b, {}]" % bomb if name == "r.json" else bomb + b"\n{}\n"
    path = put(tmp_path, name, raw, packed)
    assert path.stat().st_size < MAX_ROW_BYTES
    del raw, bomb
    tracemalloc.start()
    bad, good = read_rows(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * MAX_ROW_BYTES
    assert isinstance(bad, Rejected)
    assert "longer than" in bad.reason
    assert (good.data, good.line) == ({}, 2)


def test_a_window_that_would_take_all_memory_is_refused(tmp_path):
    # A frame whose header asks for a window of two gigabytes.
    path = tmp_path / "r.jsonl.zst"
    path.write_bytes(bytes.fromhex("28b52ffd" + "00" + "a8" + "090000" + "78"))
    (bad,) = read_rows(path)
    assert "cannot be read further" in bad.reason
    assert "memory" in bad.reason


@pytest.mark.parametrize("packed", PACKING[1:])
@pytest.mark.parametrize("seed", range(10))
def test_damage_to_a_packed_file_is_told_and_ends_it(tmp_path, packed, seed):
    rng = random.Random(seed)
    rows = b"".join(b'{"n": %d, "x": "%x"}\n' % (n, rng.getrandbits(99)) for n in range(5_000))
    raw = bytearray(pack(rows, packed))
    if seed % 2:
        del raw[rng.randrange(len(raw) // 2, len(raw) - 1) :]
    else:
        raw[rng.randrange(len(raw))] ^= 0xFF
    path = tmp_path / f"r.jsonl{packed}"
    path.write_bytes(raw)
    found = list(read_rows(path))
    lines = [row.line for row in found]
    assert lines == sorted(set(lines))
    if seed % 2:
        assert isinstance(found[-1], Rejected)
        assert "cannot be read further" in found[-1].reason
        good = [row.data["n"] for row in found[:-1]]
        assert good == list(range(len(good)))


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        ("", "latin-1"),
        ("\ufeff", "utf-16-le"),
        ("\ufeff", "utf-16-be"),
        ("", "utf-16-le"),
        ("", "utf-16-be"),
    ],
)
@pytest.mark.parametrize("packed", PACKING)
@pytest.mark.parametrize("name", ["p.txt", "r.jsonl", "r.json", "array.json"])
@pytest.mark.parametrize("above", ["", "\n"])
def test_text_that_is_not_utf_8_is_refused_and_not_guessed(
    tmp_path, name, packed, mark, encoding, above
):
    rows = ['{"prompt": "Où?"}', '{"prompt": "Quoi?"}']
    text = {"p.txt": "Où?\nQuoi?\n", "array.json": f"[{','.join(rows)}]"}.get(name, "\n".join(rows))
    above = "" if name == "array.json" else above
    raw = f"{mark}{above}{text}".encode(encoding)
    path = put(tmp_path, name, raw, packed)
    with pytest.raises(FormatError) as caught:
        prompts(path)
    if not above:
        assert caught.value.where == f"{path.name}:1"
    assert "is UTF-16: save it" in caught.value.what or encoding == "latin-1"
    assert "UTF-8" in caught.value.what


@pytest.mark.parametrize("packed", PACKING)
@pytest.mark.parametrize("zeros", [b"\0", b"\0\0\0\0", b" \0e\0n\0d"])
def test_a_line_of_text_is_held_to_what_a_row_is(tmp_path, zeros, packed):
    path = put(tmp_path, "p.txt", b"One?\nTw" + zeros + b"o?\nThree?\n", packed)
    (row,) = read_rows(put(tmp_path, "r.jsonl", b'{"prompt": "Tw\\u0000o?"}\n'))
    assert isinstance(row, Rejected)
    with pytest.raises(FormatError) as caught:
        prompts(path)
    assert caught.value.where == f"{path.name}:2"
    assert row.reason == f"field 'prompt' {caught.value.what}"
    faults = []
    assert list(read_texts([path], on_rejected=faults.append)) == ["One?\nThree?"]
    assert [(fault.line, fault.reason) for fault in faults] == [(2, caught.value.what)]


def test_a_field_that_is_there_twice_is_refused_by_name(tmp_path):
    rows = b'{"a": 1, "b": 2, "a": 1}\n{"a": {"x": 1, "x": 2}}\n{"a": {"x": 1}, "x": 1}\n'
    one, two, good = read_rows(put(tmp_path, "r.jsonl", rows))
    assert "field 'a' is there twice" in one.reason
    assert "field 'x' is there twice" in two.reason
    assert good.data == {"a": {"x": 1}, "x": 1}

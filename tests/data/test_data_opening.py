"""Files that cannot be opened, and rows that cannot be read: what is said of them, by each reader.

Prompts, texts and demonstrations come by the same few functions, and so must their errors.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backflip.config import PromptSettings
from backflip.data import load_prompts, read_demonstrations, read_texts
from backflip.errors import FormatError
from backflip.formats import read

Reader = Callable[[Path], Any]


def prompts(path: Path) -> Any:
    # Settings refuse some of these paths themselves.
    settings = PromptSettings(heldout=1).model_copy(update={"source": str(path)})
    return load_prompts(settings, seed=0)


READERS: dict[str, tuple[Reader, tuple[str, ...]]] = {
    "prompts": (
        prompts,
        ("p.txt", "p.md", "p.txt.gz", "p.txt.zst", "p.jsonl", "p.json", "p.parquet"),
    ),
    "texts": (lambda path: list(read_texts([path])), ("t.txt", "t.txt.gz", "t.jsonl", "t.parquet")),
    "demonstrations": (lambda path: list(read_demonstrations([path])), ("d.jsonl", "d.json.gz")),
    "feedback": (
        lambda path: list(read(path, "hh")),
        ("f.jsonl", "f.jsonl.gz", "f.jsonl.zst", "f.parquet"),
    ),
}
CASES = [(reader, name) for reader, names in READERS.values() for name in names]
IDS = [f"{kind}-{name}" for kind, (_, names) in READERS.items() for name in names]


def fault(reader: Reader, path: Path) -> FormatError:
    with pytest.raises(FormatError) as caught:
        reader(path)
    return caught.value


@pytest.mark.parametrize(("reader", "name"), CASES, ids=IDS)
def test_a_file_that_is_not_there(reader: Reader, name: str, tmp_path: Path, monkeypatch) -> None:
    error = fault(reader, tmp_path / name)
    assert (error.what, error.where) == ("no such file", str(tmp_path / name))
    assert error.hint == "Check the path."
    monkeypatch.chdir(tmp_path)
    error = fault(reader, Path("sub") / name)
    assert (error.what, error.where) == ("no such file", f"sub/{name}")
    assert error.hint == f"Check the path; it is taken from the folder {tmp_path}."


@pytest.mark.parametrize("above", ["file", "nul"])
@pytest.mark.parametrize(("reader", "name"), CASES, ids=IDS)
def test_a_path_that_can_lead_nowhere(
    reader: Reader, name: str, above: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert fault(reader, tmp_path / above.replace("nul", "a\0b") / name).what == "no such file"


@pytest.mark.parametrize(("reader", "name"), CASES, ids=IDS)
def test_a_folder_by_the_name_of_a_file(reader: Reader, name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    error = fault(reader, tmp_path / name)
    assert error.where == str(tmp_path / name)
    assert "folder" in error.what
    assert error.hint


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every file is somebody else's: who is root may read all, so modes would not show it."""

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    yield
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("reader", "name"),
    [(r, n) for r, n in CASES if not n.endswith(".gz")],
    ids=[i for i in IDS if not i.endswith(".gz")],
)
def test_a_file_that_may_not_be_read(
    reader: Reader, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / name
    pq.write_table(pa.table({"text": ["a"]}), path)
    request.getfixturevalue("locked")
    error = fault(reader, path)
    assert (error.what, error.where) == ("may not be read: permission is denied", str(path))
    assert "right to read" in str(error.hint)


def test_folders_that_may_not_be_looked_into(tmp_path: Path, monkeypatch) -> None:
    def refuse(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    for kind, name in (("texts", "t.txt"), ("prompts", "p.jsonl")):
        assert "permission" in fault(READERS[kind][0], tmp_path / name).what


BAD_ROWS: dict[str, tuple[str, str, bytes, str]] = {
    "a prompt": ("prompts", "p.jsonl", json.dumps({"prompt": ""}).encode(), "is empty"),
    "a line of a text": ("prompts", "p.txt", b"caf\xe9?", "not valid UTF-8 at byte 3"),
    "a document": ("texts", "t.jsonl", json.dumps({"text": 3}).encode(), "'text' is not a text"),
    "a demonstration": ("demonstrations", "d.jsonl", b'{"prompt": "q"}', "no demonstration"),
}


@pytest.mark.parametrize(("kind", "name", "row", "reason"), BAD_ROWS.values(), ids=list(BAD_ROWS))
def test_the_first_bad_row_ends_the_reading_and_is_told_with_what_to_do(
    kind: str, name: str, row: bytes, reason: str, tmp_path: Path
) -> None:
    good = (
        b"First?"
        if name == "p.txt"
        else json.dumps({"prompt": "First?", "text": "first", "completion": "Yes."}).encode()
    )
    path = tmp_path / name
    path.write_bytes(b"\n".join([good, b"", row, good, row]))
    error = fault(READERS[kind][0], path)
    assert error.where == f"{name}:3"
    assert reason in error.what
    assert "take it out" in str(error.hint)


def test_damage_in_the_middle_is_still_told_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "p.txt.gz"
    path.write_bytes(b"no gzip at all")
    error = fault(READERS["texts"][0], path)
    assert "cannot be read further" in error.what
    assert error.where == "p.txt.gz:1"

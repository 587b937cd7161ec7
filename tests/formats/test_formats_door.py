"""Whatever a row holds: it is refused with its place, or kept, shown, and written and read again.

Good rows of every kind and format get something odd in a place or two. Runs longer where
`BACKFLIP_FUZZ_SECONDS` is set.
"""

import copy
import io
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from row_shapes import SHAPES, put_bytes
from test_formats_fuzz import ODD, places
from test_formats_roundtrip import all_kinds

from backflip.formats import FORMATS, Labelled, Rejected, export_file, import_file, read, write
from backflip.records.feedback import KINDS
from backflip.terminal.views import prompt_view, samples_view
from backflip.web.answers import answer_view
from backflip.workspace import Workspace
from backflip.workspace.database.columns import now
from backflip.workspace.material.journal import JournalRow
from fuzzing import SECONDS, tell

DEEP: Any = 1
for _ in range(63):
    DEEP = [DEEP]
VALUES = [
    *ODD,
    10**18,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    1e999,
    float("nan"),
    "half \ud800",
    "nul \0",
    "bell \x07 turns \u202e",
    "x" * 3000,
    DEEP,
    [DEEP],
    {"a": "\ud800"},
    {"\0": 1},
    [7, -3],
    [1, 0],
    [{"sample": "sample-1", "start": 0, "end": 1}],
]
TEXTS = ['{"a": "\\ud800"}', '{"a": "\\u0000"}', '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}']
TEXTS += ['{"a": 1000000000000000000000000000000}', "[" * 70 + "]" * 70, "[" * 9000]


def good_rows(folder: Path) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Format and rows by name: of its own an entry of every kind, of others one of each shape."""
    path = folder / "own.jsonl"
    write(path, "backflip-jsonl", all_kinds())
    own = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["entry"]["kind"] for row in own} == set(KINDS)
    others = {name: (name.split()[0], [row]) for name, row in SHAPES.items()}
    return {"backflip-jsonl": ("backflip-jsonl", own), **others}


def oddly(row: Any, rng: random.Random) -> Any:
    """The row with something odd in a place or two."""
    row = copy.deepcopy(row)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        path = rng.choice(list(places(row)))
        place = row
        for step in path[:-1]:
            place = place[step]
        old = place[path[-1]]
        odd = rng.choice(TEXTS) if isinstance(old, str) and rng.random() < 0.3 else None
        place[path[-1]] = copy.deepcopy(rng.choice(VALUES) if odd is None else odd)
    return row


@pytest.fixture(scope="module")
def workspace(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("door") / "workspace"
    shutil.copytree(sqlite_template, folder)
    with Workspace.open(folder) as made:
        yield made


def show(workspace: Workspace, entries: list[Any]) -> None:
    """What a lead's page, the API and the terminal show of them."""
    samples = workspace.samples.get({name for entry in entries for name in entry.sample_ids})
    console = Console(width=90, file=io.StringIO())
    for entry in entries:
        row = JournalRow(
            number=1,
            id=entry.id,
            kind=entry.kind,
            annotator=entry.annotator,
            entry=entry,
            retracts=None,
            reason=None,
            run=None,
            round=None,
            created=now(),
        )
        view = answer_view(row, samples, "project")
        json.dumps(view, allow_nan=False, ensure_ascii=False).encode("utf-8")
        entry.model_dump_json().encode("utf-8")
        about = [samples[name] for name in entry.sample_ids]
        console.print(prompt_view(about[0].prompt))
        console.print(samples_view(about, ["A"] * len(about), 90))


def said(labelled: list[Labelled]) -> list[Any]:
    """All that rows of our own formats say."""
    found = []
    for row in labelled:
        assert isinstance(row, Labelled), row
        about = [(s.id, s.prompt, s.prompt.source, s.content.header()) for s in row.samples]
        found.append((about, row.entries, [entry.id for entry in row.entries]))
    return found


def try_rows(workspace: Workspace, folder: Path, format_name: str, rows: list[Any]) -> int:
    """Import rows and see that what was taken can be shown and goes to every format and back."""
    raw = "\n".join(json.dumps(row) for row in rows).encode()
    path = put_bytes(folder / f"rows{time.monotonic_ns()}.jsonl", raw)
    items = list(read(path, format_name))
    assert len(items) == len(rows)
    for line, item in enumerate(items, 1):
        if isinstance(item, Rejected):
            assert item.place == f"{path.name}:{line}"
            assert "\n" not in item.reason
    taken = [item for item in items if isinstance(item, Labelled)]
    report = import_file(workspace, path, format_name)
    entries = [entry for item in taken for entry in item.entries]
    assert (report.entries, report.num_rejected) == (len(entries), len(rows) - len(taken))
    kept = workspace.journal.get([entry.id for entry in entries])
    assert [kept[entry.id] for entry in entries] == entries
    show(workspace, entries)
    alone = [Labelled(item.samples, (entry,)) for item in taken for entry in item.entries]
    for name, format_ in FORMATS.items():
        for ending in {".jsonl", ".parquet"} & set(format_.files):
            out = folder / f"out{ending}"
            written = write(out, name, alone)
            assert written.rows + sum(written.left_out.values()) == len(alone)
            back = list(read(out, name))
            assert not [row for row in back if isinstance(row, Rejected)], (name, back)
            assert len(back) == written.rows
            if format_.exact:
                assert not written.left_out
                assert said(back) == said(alone)
    return len(taken)


@pytest.mark.parametrize("name", ["backflip-jsonl", *SHAPES])
def test_an_odd_row_is_refused_with_its_place_or_goes_everywhere(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    format_name, good = good_rows(folder)[name]
    examples = 3 if len(good) > 1 else 1  # more of our own, which hold the most
    end = time.monotonic() + SECONDS / (1 + len(SHAPES))

    @settings(
        max_examples=10_000 if SECONDS else examples,
        derandomize=not SECONDS,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32 - 1))
    def tried(seed: int) -> None:
        if SECONDS and time.monotonic() > end:
            return
        rng = random.Random(seed)
        nonlocal number
        number += 20
        rows = [oddly(rng.choice(good), rng) for _ in range(20)]
        assert try_rows(workspace, folder, format_name, [*rows, *good]) >= len(good)

    start, number = time.monotonic(), 0
    tried()
    tell(number, time.monotonic() - start)


def test_all_that_was_kept_is_exported_and_read_again(workspace: Workspace, tmp_path: Path) -> None:
    assert try_rows(workspace, tmp_path, *good_rows(tmp_path)["backflip-jsonl"])
    active = workspace.journal.active()
    path = tmp_path / "all.parquet"
    assert export_file(workspace, path, "backflip-parquet").rows == len(active)
    assert [row.entries[0] for row in read(path)] == active

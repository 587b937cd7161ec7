"""Random damage to rows of every format: a reason that names the field, and never a traceback."""

import copy
import random
from collections import Counter

import pytest
from row_shapes import SHAPES, put, said, shapes

from backflip.config import PromptSettings
from backflip.data import load_prompts, read_demonstrations, read_texts
from backflip.errors import FormatError
from backflip.formats import FORMATS, Labelled, Rejected, detect, read

ODD = [
    None,
    True,
    False,
    0,
    -1,
    7,
    10**30,
    0.5,
    1e300,
    "",
    " ",
    "text",
    "[]",
    "{}",
    '{"name": 1}',
    "\n\nHuman: a\n\nAssistant:",
    "\u202e",
    [],
    [[]],
    [{}],
    [None],
    ["text"],
    [1, 2],
    {},
    {"name": "x"},
    {"role": "user", "content": "x"},
    [{"role": "user", "content": "x"}],
    [{"role": "assistant", "content": "x"}],
]
ROUNDS = 80


def places(value, path=()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield (*path, i)
            yield from places(inner, (*path, i))


def damaged(row, rng):
    """The row with something odd in one place, and the names that a reason may have for it."""
    row = copy.deepcopy(row)
    path = rng.choice(list(places(row)))
    place = row
    for step in path[:-1]:
        place = place[step]
    odd = copy.deepcopy(rng.choice(ODD))
    # Of what is missing now, a field within it may be named, or one that stands beside it.
    inner = places(row if odd is None else place[path[-1]])
    within = tuple(step for way in inner for step in way)
    place[path[-1]] = odd
    # Of a reply or an answer the question is named that asks about it.
    about = {"response_a", "response_b", "responses", "annotations"}
    asked = {"comparison", "strength"} if about & {*path, *within} else ()
    steps = (step for step in path + within if isinstance(step, str))
    return row, {step.removesuffix("s") for step in steps}.union(asked)


@pytest.mark.parametrize("name", ["backflip-jsonl", *SHAPES])
def test_an_odd_value_is_refused_by_the_name_of_its_field(tmp_path, name):
    format_name, row = shapes(tmp_path)[name]
    rng = random.Random(name)
    broken = [damaged(row, rng) for _ in range(ROUNDS)]
    path = put(tmp_path / "r.jsonl", [row for row, _ in broken])
    found = list(read(path, format_name))
    assert len(found) == ROUNDS
    assert any(isinstance(row, Rejected) for row in found)
    for number, (row, (_, names)) in enumerate(zip(found, broken, strict=True), 1):
        if isinstance(row, Rejected):
            assert row.place == f"r.jsonl:{number}"
            assert "\n" not in row.reason
            assert "pydantic" not in row.reason
            assert any(name in row.reason for name in names), (names, row.reason)


@pytest.mark.parametrize("name", ["backflip-jsonl", *SHAPES])
def test_an_odd_unknown_column_never_spoils_a_good_row(tmp_path, name):
    format_name, row = shapes(tmp_path)[name]
    kept = [odd for odd in ODD if odd != 10**30]  # no file, database or page holds that
    rows = [row | {"zz": copy.deepcopy(odd)} for odd in kept]
    ignored = Counter()
    found = list(read(put(tmp_path / "r.jsonl", rows), format_name, ignored=ignored))
    (wanted,) = read(put(tmp_path / "r.jsonl", [row]), format_name)
    assert ignored == {"zz": sum(odd is not None for odd in kept)}
    assert all(isinstance(row, Labelled) for row in found)
    assert said(found[0]) == said(wanted)


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_anything_are_read_by_every_reader_without_a_traceback(tmp_path, seed):
    """Columns of every format in rows at random, each holding what may stand in another."""
    rng = random.Random(seed)
    every = [(name, value) for _, row in shapes(tmp_path).values() for name, value in row.items()]
    columns = sorted({name for name, _ in every} | {"question", "answer", "text", "content"})
    rows = []
    for _ in range(50):
        row = {}
        for column in rng.sample(columns, rng.randint(0, 5)):
            likely = [value for name, value in every if name == column]
            found = likely if likely and rng.random() < 0.6 else ODD
            row[column] = copy.deepcopy(rng.choice(found))
        rows.append(row)
    path = put(tmp_path / "r.jsonl", rows)
    for name in FORMATS:
        assert len(list(read(path, name))) == len(rows)
    faults = []
    list(read_demonstrations([path], on_rejected=faults.append))
    list(read_texts([path], on_rejected=faults.append))
    assert {fault.file for fault in faults} == {"r.jsonl"}
    settings = PromptSettings(source=str(path), heldout=1)
    for call in (lambda: load_prompts(settings, 0), lambda: detect(path)):
        try:
            call()
        except FormatError as error:
            assert error.where

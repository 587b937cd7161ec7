"""Where a row stands: the place that is named is the one in the user's own file."""

import copy
import json
import random
import re

import pytest
from row_shapes import BESIDE, ENDINGS, SHAPES, put, put_bytes, shapes

from backflip.config import PromptSettings
from backflip.data import load_prompts, read_demonstrations, read_texts
from backflip.errors import FormatError
from backflip.formats import Rejected, bench_subset, read, write

MARK = "Is it raining?"
TURNS = [{"role": "user", "content": MARK}, {"role": "assistant", "content": "Yes."}]


def numbered(row, number):
    """The row, with its number in what is asked."""
    return json.loads(json.dumps(row).replace(MARK, f"{MARK[:-1]}, {number}?"))


def broken(row):
    """The row with something odd in each field."""
    return dict.fromkeys(row, 7) | {"label": 7}


def read_back(name, format_name, path):
    if name == "prompts":
        return [(p.source, p.text) for p in load_prompts(settings(path), 0)]
    return [
        (sample.prompt.source, sample.prompt.text)
        for row in read(path, format_name)
        for sample in row.samples
    ]


def settings(path):
    return PromptSettings(source=str(path), heldout=1)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", [*SHAPES, "prompts", "demonstrations"])
def test_a_prompt_names_the_row_it_was_read_from(tmp_path, name, ending):
    format_name, row = {**shapes(tmp_path), "prompts": ("", {"prompt": MARK})}.get(
        name, ("trl-prompt-completion", {"messages": TURNS})
    )
    path = put(tmp_path / f"rows{ending}", [numbered(row, i) for i in range(1, 6)])
    if name == "demonstrations":
        found = [(s.prompt.source, s.prompt.text) for s in read_demonstrations([path])]
    else:
        found = read_back(name, format_name, path)
    assert {re.search(r"raining, (\d)", text)[1] for _, text in found} == set("12345")
    for source, text in found:
        number = re.search(r"raining, (\d)", text)[1]
        place = f"rows{ending}:{number}"
        assert source == (f"reward-bench/chat at {place}" if name == "rewardbench" else place)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_refused_row_is_named_by_its_place(tmp_path, name, ending):
    format_name, row = shapes(tmp_path)[name]
    number = random.Random(f"{name}{ending}").randint(1, 5)
    rows = [copy.deepcopy(row) for _ in range(5)]
    # A column of Parquet has one type: there the bad row lacks what the others have.
    rows[number - 1] = {"other": "x"} if ending == ".parquet" else broken(row)
    found = list(read(put(tmp_path / f"rows{ending}", rows), format_name))
    (bad,) = (row for row in found if isinstance(row, Rejected))
    assert bad.place == f"rows{ending}:{number}"
    assert found.index(bad) == number - 1


ENDS = {"unix": "\n", "windows": "\r\n", "mac": "\r"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["prompts", "lines", "demonstrations", "texts", "feedback"])
def test_lines_are_counted_as_an_editor_counts_them(tmp_path, kind, packed, end):
    """Line 5 is good, line 7 is bad; between them and before them are blank ones."""
    text = kind == "prompts"
    good = "Why, 5?" if text else json.dumps({"prompt": "Why, 5?", "completion": "a", "text": "b"})
    bad = b"caf\xe9" if text else b'{"other": 3}'
    raw = ENDS[end].join(["", "", " ", "", good, "", "BAD", ""]).encode().replace(b"BAD", bad)
    path = put_bytes(tmp_path / f"{'p.txt' if text else 'p.jsonl'}{packed}", raw)
    places = f"{path.name}:5", f"{path.name}:7"
    if kind == "feedback":
        row, rejected = read(path, "trl-prompt-completion")
        assert (row.samples[0].prompt.source, rejected.place) == places
        return
    with pytest.raises(FormatError) as caught:
        {
            "demonstrations": lambda: list(read_demonstrations([path])),
            "texts": lambda: list(read_texts([path])),
        }.get(kind, lambda: load_prompts(settings(path), 0))()
    assert caught.value.where == places[1]


def test_of_the_same_prompt_twice_the_first_place_is_told(tmp_path):
    path = put(tmp_path / "p.jsonl", [{"prompt": t} for t in ("a", "b", "a")])
    assert [p.source for p in load_prompts(settings(path), 0)] == ["p.jsonl:1", "p.jsonl:2"]


def test_places_change_no_id(tmp_path):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    one = put(tmp_path / "one.jsonl", rows)
    other = put(tmp_path / "other.jsonl", rows[::-1])
    first, second = ({s.id for s in read_demonstrations([path])} for path in (one, other))
    assert first == second


def test_own_rows_keep_the_source_that_they_were_written_with(tmp_path):
    (row,) = read(tmp_path / "own.jsonl") if shapes(tmp_path) else ()
    assert {s.prompt.source for s in row.samples} == {"x"}


def test_a_benchmark_is_still_known_by_its_subset(tmp_path):
    row = {k: v for k, v in SHAPES["rewardbench"].items() if k not in BESIDE}
    row |= {"subset": "a: b at c"}
    (labelled,) = read(put(tmp_path / "r.jsonl", [row]))
    source = labelled.samples[0].prompt.source
    assert source == "reward-bench/a: b at c at r.jsonl:1"
    assert bench_subset(source) == "a: b at c"
    assert bench_subset("reward-bench/chat") == "chat"
    assert bench_subset("r.jsonl:1") is None
    write(tmp_path / "back.jsonl", "rewardbench", [labelled])
    assert json.loads((tmp_path / "back.jsonl").read_text()) == row


def test_an_entry_of_another_file_goes_to_a_benchmark_under_the_files_name(tmp_path):
    rows = [{"prompt": f"{i}?", "chosen": "a", "rejected": "b"} for i in range(2)]
    labelled = list(read(put(tmp_path / "votes.jsonl", rows)))
    write(tmp_path / "bench.jsonl", "rewardbench", labelled)
    lines = (tmp_path / "bench.jsonl").read_text().splitlines()
    assert [json.loads(line)["subset"] for line in lines] == ["votes.jsonl"] * 2


PARTS = [
    ("trl-preference", ("chosen", 3), {"role": "x"}, "turn 4 of 'chosen'"),
    ("trl-prompt-completion messages", ("messages", 2, "tool_calls", 0), 7, "call 1 in turn 3"),
    ("trl-prompt-completion", ("history", 0), ["Hi."], "pair 1 of 'history'"),
    ("trl-prompt-completion", ("tools", 0), {}, "tool 1 of 'tools'"),
    (
        "trl-prompt-completion seeds",
        ("instances", 0),
        {"input": "x"},
        "instance 1 of 'instances': field",
    ),
    ("argilla", ("responses", "strength", 0), 7, "response 1 to 'strength'"),
    ("label-studio", ("annotations", 0), 7, "annotation 1"),
    ("label-studio", ("annotations", 0, "result", 0), 7, "result 1 of annotation 1"),
    ("backflip-jsonl", ("samples", 1), 7, "sample 2"),
    ("backflip-jsonl", ("samples", 1, "header", "finish"), 7, "sample 2"),
    ("backflip-jsonl", ("samples", 1, "origin", "seed"), "x", "sample 2"),
]


@pytest.mark.parametrize(("name", "path", "value", "named"), PARTS)
def test_a_part_of_a_row_is_named_by_its_number_in_the_file(tmp_path, name, path, value, named):
    """Turns that columns put in front change no number."""
    format_name, row = shapes(tmp_path)[name]
    row |= {"system": "Be brief."} if name.startswith("trl") else {}
    if name == "trl-preference":
        row |= {"prompt": None, "chosen": [*TURNS, *TURNS], "rejected": [*TURNS, *TURNS]}
    place = row
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (bad,) = read(put(tmp_path / "r.jsonl", [row]), format_name)
    assert isinstance(bad, Rejected)
    assert named in bad.reason, bad.reason


@pytest.mark.parametrize("ending", [*ENDINGS, ".JSONL.GZ"])
def test_who_answered_is_the_file_without_its_ending(tmp_path, ending):
    row = {"prompt": "Q", "completion": "a", "label": True}
    names = ["votes", "votes.mia", "votes.tom", "v1.2", "votes.gz.old", "votes.txt.mia", ".mia"]
    for name in names:
        path = put(tmp_path / ("x" + ending.lower()), [row]).rename(tmp_path / (name + ending))
        (labelled,) = read(path)
        (entry,) = labelled.entries
        assert (entry.annotator, entry.origin) == (name, f"import:{name}{ending}")


@pytest.mark.parametrize("ending", [*ENDINGS, ".txt"])
def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path, ending):
    folders = ["a/deep", "b/deep", "b/other"]
    files = [tmp_path / folder / f"train{ending}" for folder in folders]
    for path in [*files, alone := tmp_path / f"alone{ending}"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        if ending == ".txt":
            put_bytes(path, b"Good.\nB\0d.\n")
        else:
            put(path, [{"messages": TURNS, "text": "Good."}, {"messages": TURNS[:1], "text": " "}])
    wanted = [f"{folder}/train{ending}" for folder in folders] + [f"alone{ending}"]
    for given in ([*files, alone], [tmp_path]):
        faults = []
        assert len(list(read_texts(given, on_rejected=faults.append))) == 4
        assert {fault.place for fault in faults} == {f"{name}:2" for name in wanted}
    if ending != ".txt":
        faults = []
        twice = [*map(str, files), alone, alone]
        samples = list(read_demonstrations(twice, on_rejected=faults.append))
        assert [s.prompt.source for s in samples] == [f"{n}:1" for n in [*wanted, wanted[-1]]]
        assert [fault.place for fault in faults] == [f"{n}:2" for n in [*wanted, wanted[-1]]]

"""A field that holds null is absent: in every format, at every depth, in every kind of file."""

import base64
import copy
import json

import pytest
from row_shapes import SHAPES, YES, put, said, shapes

from backflip.config import PromptSettings
from backflip.data import load_prompts, read_demonstrations
from backflip.errors import FormatError
from backflip.formats import Labelled, read

# Within these null is what somebody said: an argument of a call, a setting of a sampler.
FREE = {"arguments", "tools", "settings"}
NAMES = ["backflip-jsonl", *SHAPES]


def paths(value, path=()):
    """The way to every field of every object within a row."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            if name not in FREE:
                yield from paths(inner, (*path, name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from paths(inner, (*path, i))


def without(row, path, *, null):
    row = copy.deepcopy(row)
    *above, last = path
    place = row
    for step in above:
        place = place[step]
    if null:
        place[last] = None
    else:
        del place[last]
    return row


def variants(row, *, null):
    return [row, *(without(row, path, null=null) for path in paths(row))]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("name", NAMES)
def test_null_is_absent_in_every_field_of_every_format(tmp_path, name, ending):
    format_name, row = shapes(tmp_path)[name]
    if (name, ending) == ("backflip-jsonl", ".parquet"):
        format_name, row = "backflip-parquet", as_columns(row)
    (tmp_path / "absent").mkdir()
    absent_ending = ".jsonl" if format_name != "backflip-parquet" else ".parquet"
    absent = put(tmp_path / "absent" / f"r{absent_ending}", variants(row, null=False))
    null = put(tmp_path / f"r{ending}", variants(row, null=True))
    wanted, found = ([said_of(r) for r in read(path, format_name)] for path in (absent, null))
    assert found == wanted
    assert not isinstance(wanted[0], str)


def said_of(row):
    """As `said`, the file's name aside, which is part of what an entry says."""
    if not isinstance(row, Labelled):
        return said(row)
    samples, entries = said(row)
    return samples, [e | {"origin": e["origin"].partition(".")[0]} for _, e in entries]


def as_columns(row):
    """The row as the columns of Backflip's own Parquet file hold it."""
    samples = [
        sample
        | {"arrays": base64.b64decode(sample["arrays"])}
        | {part: json.dumps(sample[part]) for part in ("prompt", "header", "origin")}
        for sample in row["samples"]
    ]
    return row | {"entry": json.dumps(row["entry"]), "samples": samples}


def test_a_null_that_somebody_said_stays(tmp_path):
    _, row = shapes(tmp_path)["backflip-jsonl"]
    for sample in row["samples"]:
        sample["origin"]["settings"] = {"top_k": None}
    (labelled,) = read(put(tmp_path / "r.jsonl", [row]))
    assert [s.settings for s in labelled.samples] == [{"top_k": None}] * 2
    calls = labelled.samples[0].prompt.messages[2].tool_calls
    assert calls[0].arguments == {"where": "out", "until": None}


PROMPTS = {
    "prompt": {"prompt": "Why?"},
    "turns": {"prompt": [{"role": "user", "content": "Why?", "name": "Al", "weight": 1}]},
    "messages": {"messages": [{"role": "user", "content": "Why?"}]},
    "conversations": {"conversations": [{"from": "human", "value": "Why?"}]},
    "instruction": {"instruction": "Say.", "input": "Why?", "system": "Be brief."},
    "question": {"question": "Why?", "context": "It rains.", "history": [["Hi.", "Hello!"]]},
    "text": {"text": "Why?", "weight": 1},
    "all": {"prompt": "Why?", "messages": [{"role": "user", "content": "No."}], "text": "No."},
}


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("name", PROMPTS)
def test_null_is_absent_in_every_field_of_prompts(tmp_path, name, ending):
    row = PROMPTS[name]
    for i, path in enumerate(paths(row)):
        found = []
        for null in (True, False):
            kind = ending if null else ".jsonl"
            file = tmp_path / f"{i}{null}" / f"p{kind}"
            file.parent.mkdir()
            first = json.loads(json.dumps(row).replace("Why?", "First?"))
            rows = [first, without(row, path, null=null)]
            found.append(prompts_in(put(file, rows)))
        assert found[0] == found[1], path


def prompts_in(path):
    try:
        return [p.content for p in load_prompts(PromptSettings(source=str(path), heldout=1), 0)]
    except FormatError as error:
        return error.what.replace(path.name, "")


def test_a_column_that_only_others_use_does_not_hide_a_demonstration(tmp_path):
    rows = [
        {"completion": None, "prompt": None, "messages": [*PROMPTS["messages"]["messages"], YES]},
        {"completion": "Yes.", "prompt": "Why?", "messages": None},
    ]
    samples = list(read_demonstrations([put(tmp_path / "d.jsonl", rows)]))
    assert [(s.prompt.text, s.text) for s in samples] == [("Why?", "Yes.")] * 2


def test_cells_that_parquet_makes_up_are_no_arguments(tmp_path):
    """Calls in one column have all their arguments in common there; null where they have none."""
    given = [{"where": "out"}, {"until": [3, None]}]
    rows = [
        {
            "messages": [
                *PROMPTS["messages"]["messages"],
                {"role": "assistant", "tool_calls": [{"name": "look", "arguments": arguments}]},
                {"role": "tool", "content": "wet"},
                YES,
            ],
            "tools": [{"name": "look", "parameters": {"properties": arguments}}],
        }
        for arguments in given
    ]
    samples = list(read_demonstrations([put(tmp_path / "d.parquet", rows)]))
    assert [s.prompt.messages[1].tool_calls[0].arguments for s in samples] == given
    tools = [s.prompt.tools[0]["function"]["parameters"]["properties"] for s in samples]
    assert tools == given

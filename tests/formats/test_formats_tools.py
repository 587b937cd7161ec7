"""Argilla's records and Label Studio's tasks: rows as they are kept there, and both ways."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_rows import (
    ASKED,
    BLUE,
    ENTRIES,
    GREEN,
    MIA,
    RED,
    SAMPLES,
    TOOLS,
    TURNS,
    WHO,
    A,
    B,
    kept,
    labelled,
    reply,
    result,
    said,
)

from backflip.errors import FormatError
from backflip.formats import argilla_user_id, detect, read, write
from backflip.records import Clip, Completion, Dialogue, Message, Prompt, Sample
from backflip.records.feedback import (
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
)


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("ending", [".jsonl", ".ndjson", ".json", ".json.gz"])
def test_every_kind_comes_back_about_the_same_texts(tmp_path, name, ending):
    rows = [labelled(entry) for entry in ENTRIES]
    assert {type(entry) for entry in ENTRIES} == set(KINDS.values()) - {Implicit}
    path = tmp_path / f"votes{ending}"
    assert write(path, name, rows).left_out == {}
    assert detect(path).name == name
    back = list(read(path, annotator="somebody else", axis="something else"))
    assert [said(row) for row in back] == [kept(row, name, path.name) for row in rows]


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
full = text.filter(str.strip)
name_of = st.text(min_size=1).filter(str.isprintable)


@st.composite
def any_row(draw):
    roles = draw(st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=3))
    turns = tuple(Message(role=role, content=draw(full)) for role in (*roles, "user"))
    prompt = Prompt(
        content=Dialogue(messages=turns), split=draw(st.sampled_from(["train", "heldout"]))
    )
    count = draw(st.integers(2, 8))
    texts = draw(st.lists(full, min_size=count, max_size=count, unique=True))
    samples = [reply(one, prompt) for one in texts]
    ids = [sample.id for sample in samples]
    common = {
        "annotator": draw(name_of),
        "axis": draw(name_of),
        "reason": draw(st.none() | text),
        "seconds": draw(st.none() | st.floats(0, 1e9)),
        "tags": tuple(draw(st.lists(text, max_size=3))),
    }
    ranks = draw(st.lists(st.integers(1, count), min_size=count, max_size=count))
    levels = draw(st.integers(2, 10))
    scale = {"level": draw(st.integers(1, levels)), "num_levels": levels}
    choice = draw(st.sampled_from(["a", "b", "tie", "both_bad"]))
    strength = draw(st.integers(0, 3)) if choice in ("a", "b") else 0
    acceptable = draw(st.none() | st.integers(0, count))
    made = [
        lambda: Comparison(samples=ids[:2], choice=choice, strength=strength, **common),
        lambda: Ranking(samples=ids, ranks=ranks, num_acceptable=acceptable, **common),
        lambda: Rating(sample=ids[0], **scale, **common),
        lambda: GoodBad(sample=ids[0], good=draw(st.booleans()), **common),
        lambda: Correction(sample=ids[0], corrected=ids[1], **common),
        lambda: Demonstration(sample=ids[0], over=ids[1:], **common),
        lambda: Critique(sample=ids[0], text=draw(full), **scale, **common),
        lambda: SafetyFlag(
            sample=ids[0], safe=draw(st.booleans()), category=draw(st.none() | text), **common
        ),
    ]
    return labelled(draw(st.sampled_from(made))(), samples)


@pytest.mark.parametrize("name", TOOLS)
@given(row=any_row())
def test_any_judgement_of_any_texts_comes_back(tmp_path_factory, name, row):
    path = tmp_path_factory.mktemp("any") / "votes.json"
    assert write(path, name, [row]).left_out == {}
    (back,) = read(path, name)
    assert said(back) == kept(row, name, path.name)


@pytest.mark.parametrize("name", TOOLS)
def test_samples_that_come_back_are_those_of_other_formats(tmp_path, name):
    """An import of the same reply from elsewhere is the same sample."""
    (row,) = write_and_read(tmp_path, name, GoodBad(sample=A, good=True, **WHO))
    assert row.samples[0].id == Sample.of(ASKED, Completion(text=BLUE)).id


def write_and_read(tmp_path, name, *entries):
    path = tmp_path / "votes.jsonl"
    assert write(path, name, [labelled(entry) for entry in entries]).left_out == {}
    return list(read(path, name))


def test_a_record_of_argilla_is_spelt_as_its_to_dict_has_it(tmp_path):
    entries = [ENTRIES[1], ENTRIES[5]]
    write(tmp_path / "r.json", "argilla", [labelled(entry) for entry in entries])
    first, second = json.loads((tmp_path / "r.json").read_text())
    user = {"user_id": str(MIA), "status": "submitted"}
    assert first == {
        "id": entries[0].id,
        "fields": {"prompt": TURNS, "response_a": BLUE, "response_b": GREEN},
        "metadata": {"annotator": "mia", "axis": "helpful", "split": "heldout"},
        "suggestions": {},
        "responses": {
            "comparison": [{"value": "response_b", **user}],
            "strength": [{"value": 3, **user}],
            "reason": [{"value": "why\nnot", **user}],
        },
        "vectors": {},
    }
    assert second["fields"]["response_a"] == RED
    ranks = [("response_a", 1), ("response_b", 3), ("response_c", 1)]
    assert second["responses"]["ranking"] == [
        {"value": [{"value": value, "rank": rank} for value, rank in ranks], **user}
    ]
    assert argilla_user_id("mia") == MIA


def test_a_task_of_label_studio_is_spelt_as_its_export_has_it(tmp_path):
    entries = [ENTRIES[3], ENTRIES[5], ENTRIES[6]]
    write(tmp_path / "t.json", "label-studio", [labelled(entry) for entry in entries])
    first, second, third = json.loads((tmp_path / "t.json").read_text())
    meta = {"meta": {"annotator": "mia"}}
    neither = result("neither", "choices", {"choices": ["both_bad"]})
    flags = {"was_cancelled": False, "ground_truth": False}
    data = {"prompt": TURNS, "axis": "helpful", "split": "heldout"}
    assert first == {
        "data": {**data, "response_a": GREEN, "response_b": BLUE},
        "annotations": [
            {"result": [{"id": "neither", **neither, **meta}], "lead_time": 2.5, **flags}
        ],
    }
    assert [item["body"] for item in second["data"]["responses"]] == [RED, GREEN, BLUE]
    ranks = {"1": ["response_a", "response_c"], "3": ["response_b"]}
    assert second["annotations"][0]["result"] == [
        {
            "id": "ranking",
            **result("ranking", "ranker", {"ranker": ranks}, "responses"),
            **meta,
        },
        {"id": "num_acceptable", **result("num_acceptable", "number", {"number": 0})},
    ]
    assert third["data"]["num_levels"] == 7
    assert third["annotations"][0]["result"][0]["to_name"] == "response_a"


def all_that_cannot_go():
    elsewhere = reply("c", Prompt.from_text("Another question?"))
    same = reply(BLUE, index=1)
    blank = reply(" ")
    seconds = reply("b", Prompt.from_text(" "))
    stuck = reply(
        "d",
        Prompt(content=Dialogue(messages=(Message(role="assistant", content="Hello."),))),
    )
    start = Prompt(content={"type": "situation", "environment": "E-v0", "seed": 3})
    acted = reply("left", start)
    steps = np.zeros(1, np.float32)
    clip = Sample.of(
        start, Clip("E-v0", np.zeros((2, 1), np.float32), steps, steps, steps, *[True] * 2)
    )
    who = {"annotator": "mia"}
    yield "feedback is no answer", Implicit(sample=A, signal="copied", **who), None
    yield "has no text", GoodBad(sample=clip.id, good=True, **who), [clip]
    yield "not a dialogue", GoodBad(sample=acted.id, good=True, **who), [acted]
    yield (
        "answer different prompts",
        Comparison(samples=(A, elsewhere.id), choice="a", **who),
        [SAMPLES["a"], elsewhere],
    )
    yield (
        "have the same text",
        Comparison(samples=(A, same.id), choice="a", **who),
        [SAMPLES["a"], same],
    )
    yield "changes nothing", Correction(sample=A, corrected=same.id, **who), [SAMPLES["a"], same]
    yield (
        "one of the replies that it stands above",
        Demonstration(sample=same.id, over=(A,), **who),
        [SAMPLES["a"], same],
    )
    yield "a reply is empty", GoodBad(sample=blank.id, good=True, **who), [blank]
    yield "is empty", GoodBad(sample=seconds.id, good=True, **who), [seconds]
    yield "do not end with the user's", GoodBad(sample=stuck.id, good=True, **who), [stuck]
    yield "is empty", Critique(sample=A, text=" ", **who), None
    yield "from 1 to 2", Ranking(samples=(A, B), ranks=(1, 3), **who), None
    for bad in ({"annotator": "a\x1b[2J"}, {"annotator": "mia", "axis": "a\nb"}):
        yield "holds control characters", GoodBad(sample=A, good=True, **bad), None
    yield "cannot be stored", GoodBad(sample=A, good=True, reason="\0", **who), None


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(("reason", "entry", "samples"), list(all_that_cannot_go()))
def test_what_cannot_be_held_is_left_out_with_the_reason(tmp_path, name, reason, entry, samples):
    good = labelled(ENTRIES[0])
    path = tmp_path / "votes.jsonl"
    written = write(path, name, [labelled(entry, samples), good])
    (told,) = written.left_out
    assert reason in told
    assert written.left_out[told] == 1
    assert [said(row) for row in read(path)] == [kept(good, name, path.name)]


@pytest.mark.parametrize("name", TOOLS)
def test_there_is_no_parquet_of_them(tmp_path, name):
    with pytest.raises(FormatError, match="not kept in such a file"):
        write(tmp_path / "a.parquet", name, [])
    assert not list(tmp_path.iterdir())

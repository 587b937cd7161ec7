"""Turns that call tools: carried in and out, or left out with the reason; never written wrong."""

import json

import pytest
from row_shapes import ASKED, SHAREGPT, TOOLS, YES, dialogue, put, vote

from backflip.data import read_demonstrations
from backflip.formats import FORMATS, Labelled, read, write
from backflip.records import Dialogue, Message, ToolCall
from backflip.records.feedback import Demonstration, GoodBad

HELD = {
    "backflip-jsonl": ".jsonl",
    "backflip-parquet": ".parquet",
    "trl-preference": ".jsonl",
    "trl-unpaired": ".json",
    "trl-prompt-completion": ".jsonl.zst",
    "argilla": ".json",
    "label-studio": ".jsonl",
}
USER = Message(role="user", content="Is it raining?")
GAVE = Message(role="tool", content="wet")
PARTS = {
    "all": dialogue(),
    "tools alone": Dialogue(messages=(USER,), tools=tuple(TOOLS)),
    "a result alone": Dialogue(messages=(USER, GAVE)),
    "an empty result": Dialogue(messages=(USER, Message(role="tool", content=""))),
    "a text and calls": Dialogue(
        messages=(
            USER,
            Message(
                role="assistant",
                content="I look.",
                tool_calls=(ToolCall(name="look"), ToolCall(name="hear", arguments={"é": [None]})),
            ),
            GAVE,
            USER,
        )
    ),
}


def entry_for(name, content):
    labelled = vote(content)
    first = labelled.samples[0]
    if name == "trl-unpaired":
        return Labelled((first,), (GoodBad(sample=first.id, good=True, annotator="mia"),))
    if name == "trl-prompt-completion":
        return Labelled((first,), (Demonstration(sample=first.id, annotator="mia"),))
    return labelled


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", HELD)
def test_formats_that_hold_tools_give_them_back(tmp_path, name, part):
    row = entry_for(name, PARTS[part])
    path = tmp_path / f"r{HELD[name]}"
    assert write(path, name, [row]).left_out == {}
    (back,) = read(path, name)
    assert all(s.prompt.content == PARTS[part] for s in back.samples)
    assert [s.prompt.id for s in back.samples] == [s.prompt.id for s in row.samples]
    assert [s.text for s in back.samples] == [s.text for s in row.samples]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("name", "ending", "plain"),
    [
        ("hh", ".jsonl", False),
        ("rewardbench", ".jsonl", False),
        *(
            (name, ending, plain)
            for name in ("trl-preference", "trl-unpaired", "trl-prompt-completion")
            for ending, plain in ((".parquet", False), (".jsonl", True), (".parquet", True))
        ),
    ],
)
def test_other_formats_leave_them_out_and_say_why(tmp_path, name, ending, plain, part):
    row = entry_for(name, PARTS[part])
    written = write(tmp_path / f"r{ending}", name, [row], plain=plain)
    assert written.rows == 0
    (reason,) = written.left_out
    assert "tool" in reason


def test_every_format_is_one_that_holds_tools_or_one_that_does_not():
    assert set(FORMATS) == {*HELD, "hh", "rewardbench"}


def test_trl_gets_what_its_documentation_shows(tmp_path):
    write(
        tmp_path / "r.jsonl",
        "trl-prompt-completion",
        [entry_for("trl-prompt-completion", dialogue())],
    )
    row = json.loads((tmp_path / "r.jsonl").read_text())
    call = {"name": "look", "arguments": {"where": "out", "until": None}}
    assert row["tools"] == TOOLS
    assert row["prompt"][2:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": call, "id": "call-1"}],
        },
        {"role": "tool", "content": "wet", "tool_call_id": "call-1", "name": "look"},
    ]


@pytest.mark.parametrize("name", ["argilla", "label-studio"])
def test_people_are_shown_what_was_called(tmp_path, name):
    """The turns that they read spell the calls out; others than ours may change neither."""
    write(tmp_path / "r.jsonl", name, [vote(dialogue())])
    row = json.loads((tmp_path / "r.jsonl").read_text())
    shown = row["fields" if name == "argilla" else "data"]["prompt"]
    called = 'look({"where": "out", "until": null})'
    assert shown[2:] == [
        {"role": "assistant", "content": called},
        {"role": "tool", "content": "wet"},
    ]
    shown[3]["content"] = "dry"
    (bad,) = read(put(tmp_path / "r.jsonl", [row]), name)
    assert bad.reason == "field 'turns' is not what field 'prompt' shows"


def calls(tmp_path, *turns, field="messages"):
    (sample,) = read_demonstrations([put(tmp_path / "d.jsonl", [{field: list(turns)}])])
    return sample.prompt.messages


CALL = {"name": "look", "arguments": {"where": "out"}}
AS_TEXT = {"name": "look", "arguments": '{"where": "out"}'}
FORMS = [
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "assistant", "content": "", "function_call": AS_TEXT},
    {"role": "assistant", "tool_calls": {"type": "function", "function": AS_TEXT}},
]


@pytest.mark.parametrize("turn", FORMS)
@pytest.mark.parametrize("role", ["tool", "function"])
def test_calls_are_read_in_every_form(tmp_path, turn, role):
    result = {"role": role, "name": "look", "content": [{"type": "text", "text": "wet"}]}
    messages = calls(tmp_path, ASKED[1], turn, result, YES)
    assert messages[1].tool_calls == (ToolCall(name="look", arguments={"where": "out"}),)
    assert messages[2] == Message(role="tool", content="wet", tool_name="look")


def test_sharegpt_calls_and_observes(tmp_path):
    messages = calls(tmp_path, *SHAREGPT, field="conversations")
    assert messages == (
        USER,
        Message(
            role="assistant",
            content="",
            tool_calls=(ToolCall(name="look", arguments={"where": "out"}),),
        ),
        GAVE,
    )

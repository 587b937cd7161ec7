"""Columns beside those a row needs: used, refused by name, or told as unused; never dropped."""

import json
import re
from collections import Counter

import pytest
from row_shapes import ASKED, SHAPES, TOOLS, YES, dialogue, put, said, shapes

from backflip.config import PromptSettings
from backflip.data import load_prompts, read_demonstrations, read_texts
from backflip.formats import Labelled, Rejected, import_file, read
from backflip.workspace import Workspace

USER = {"role": "user", "content": "Hi."}
BARE = [TOOLS[0]["function"]]


def demonstration(tmp_path, row):
    (sample,) = read_demonstrations([put(tmp_path / "d.jsonl", [row])])
    turns = [(m.role, m.content) for m in sample.prompt.messages]
    return turns, sample.prompt.tools, sample.text


def reason(tmp_path, row):
    faults = []
    assert not list(
        read_demonstrations([put(tmp_path / "d.jsonl", [row])], on_rejected=faults.append)
    )
    return faults[0].reason


SYSTEM, HI = ("system", "Be brief."), ("user", "Hi.")
BOTH = ("user", "Hi.\n\nIt rains.")
PAIR = [("user", "One?"), ("assistant", "Two.")]
USED = [
    ({"prompt": "Hi.", "completion": "Yes.", "system": "Be brief."}, [SYSTEM, HI]),
    ({"prompt": "Hi.", "completion": "Yes.", "system_prompt": "Be brief."}, [SYSTEM, HI]),
    ({"prompt": "Hi.", "completion": "Yes.", "system": " "}, [HI]),
    ({"instruction": "Hi.", "output": "Yes.", "system": "Be brief."}, [SYSTEM, HI]),
    ({"messages": [USER, YES], "system": "Be brief."}, [SYSTEM, HI]),
    ({"messages": [ASKED[0], USER, YES], "system": "Be brief."}, [SYSTEM, HI]),
    (
        {
            "conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Yes."}],
            "system": "Be brief.",
        },
        [SYSTEM, HI],
    ),
    (
        {
            "instruction": "Hi.",
            "output": "Yes.",
            "history": [["One?", "Two."]],
            "system": "Be brief.",
        },
        [SYSTEM, *PAIR, HI],
    ),
    ({"messages": [ASKED[0], USER, YES], "history": [["One?", "Two."]]}, [SYSTEM, *PAIR, HI]),
    (
        {"instruction": "Hi.", "context": "It rains.", "output": "Yes."},
        [BOTH],
    ),
    ({"question": "Hi.", "context": "It rains.", "answer": "Yes."}, [BOTH]),
    ({"prompt": "Hi.", "completion": "Yes.", "weight": 1.0, "label": True, "images": []}, [HI]),
    ({"messages": [USER, YES | {"weight": 1}]}, [HI]),
    (
        {"messages": [USER, YES | {"weight": 0}, USER, YES]},
        [HI, ("assistant", "Yes."), HI],
    ),
]


@pytest.mark.parametrize(("row", "turns"), USED)
def test_what_columns_say_of_a_prompt_is_in_it(tmp_path, row, turns):
    assert demonstration(tmp_path, row) == (turns, (), "Yes.")
    (labelled,) = read(tmp_path / "d.jsonl", "trl-prompt-completion")
    assert [(m.role, m.content) for m in labelled.samples[0].prompt.messages] == turns


@pytest.mark.parametrize(
    "given", [TOOLS, BARE, [json.dumps(TOOLS[0])], json.dumps(TOOLS), json.dumps(BARE)]
)
def test_tools_are_read_in_every_form(tmp_path, given):
    row = {"messages": [*ASKED, YES], "tools": given}
    samples = list(read_demonstrations([put(tmp_path / "d.jsonl", [row])]))
    assert [s.prompt.content for s in samples] == [dialogue()]


CALLING = [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "look"}}]}]
REFUSED = [
    ({"system": "Be long."}, "the first turn and field 'system' are different system turns"),
    ({"system": 3}, "field 'system' is not a text"),
    ({"history": "Hi."}, "field 'history' is not a list"),
    ({"history": [["a", ""]]}, "a text in pair 1 of 'history' is empty"),
    ({"tools": "[{"}, "field 'tools': not valid JSON"),
    ({"tools": [{"name": 3}]}, "tool 1 of 'tools' names no function"),
    ({"weight": 0.5}, "field 'weight' is 0.5"),
    ({"weight": 0}, "field 'weight' is 0"),
    ({"weight": "1"}, "field 'weight' is no number"),
    ({"images": ["a.png"]}, "field 'images' is not read"),
    ({"context": "It rains."}, "field 'context' is not read"),
    ({"documents": [{}]}, "field 'documents' is not read"),
    ({"chat_template_kwargs": {"enable_thinking": False}}, "field 'chat_template_kwargs' is not"),
    *[({"label": value}, "field 'label' is false") for value in (False, 0, 0.0)],
    *[({"label": value}, "field 'label' is .* not true or false") for value in (2, 0.5, -1)],
    *[({"label": value}, "field 'label' is .* not true or false") for value in ("bad", "", [1])],
    ({"messages": [USER, YES | {"weight": 0}]}, "turn 2 of 'messages' has the weight 0"),
    (
        {"messages": [USER, YES | {"weight": 2}]},
        "turn 2 of 'messages' has a weight that is neither 0 nor 1",
    ),
    ({"messages": [USER, YES | {"reasoning_content": "Hm."}]}, "turn 2 .* 'reasoning_content'"),
    ({"messages": [USER, YES | {"tool_calls": 3}]}, "turn 2 .* tool_calls that are not a list"),
    ({"messages": [USER | {"tool_calls": [{"name": "x"}]}, YES]}, "turn 1 .* not the assistant's"),
    ({"messages": CALLING}, "the reply in 'messages' calls tools"),
    (
        {"messages": [USER, YES | {"tool_calls": [{"name": "x", "arguments": "[1]"}]}, YES]},
        "the arguments of call 1 in turn 2 of 'messages' are not an object",
    ),
    (
        {"messages": [USER, YES | {"tool_calls": [{"name": "x", "arguments": "{"}]}, YES]},
        "the arguments of call 1 in turn 2 of 'messages': not valid JSON",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}, YES]},
        "part 1 of turn 1 of 'messages': the image is not there",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "text": "x"}]}, YES]},
        "part 1 of turn 1 of 'messages' holds something that is neither text nor an image",
    ),
]


@pytest.mark.parametrize(("columns", "why"), REFUSED)
def test_what_a_prompt_cannot_hold_is_refused_by_name(tmp_path, columns, why):
    row = {"messages": [ASKED[0], USER, YES], **columns}
    assert re.search(why, reason(tmp_path, row)), reason(tmp_path, row)


@pytest.mark.parametrize("column", ["images", "weight", "chat_template_kwargs"])
@pytest.mark.parametrize(
    "name", [name for name in SHAPES if name not in ("argilla", "label-studio")]
)
def test_every_format_refuses_columns_without_which_a_row_means_less(tmp_path, name, column):
    format_name, row = shapes(tmp_path)[name]
    (bad,) = read(put(tmp_path / "r.jsonl", [row | {column: {"x": 1}}]), format_name)
    assert isinstance(bad, Rejected)
    assert f"field '{column}' is" in bad.reason


@pytest.mark.parametrize("name", ["backflip-jsonl", *SHAPES])
def test_an_unknown_column_changes_nothing_and_is_told_with_its_count(tmp_path, name):
    format_name, row = shapes(tmp_path)[name]
    plain, more = Counter(), Counter()
    rows = [row | {"score": 1.5}, row, row | {"score": 2.5, "über": {"x": [1]}, "none": None}]
    (wanted, *_) = read(put(tmp_path / "r.jsonl", [row, row, row]), format_name, ignored=plain)
    found = list(read(put(tmp_path / "r.jsonl", rows), format_name, ignored=more))
    assert said(found[0]) == said(wanted)
    assert all(isinstance(row, Labelled) for row in found)
    assert plain == {}
    assert more == {"score": 2, "über": 1}


def test_columns_within_others_are_told_too(tmp_path):
    ignored = Counter()
    row = {"messages": [USER | {"name": "Al", "likes": 3}, YES], "id": 7}
    rows = [row, {"messages": [USER, YES]}, {"messages": [USER], "score": 1}]
    list(
        read_demonstrations(
            [put(tmp_path / "d.jsonl", rows)], on_rejected=lambda _: None, ignored=ignored
        )
    )
    assert ignored == {"id": 1, "messages.likes": 1, "messages.name": 1}


def test_questions_and_fields_of_ones_own_are_told(tmp_path):
    ignored = Counter()
    _, row = shapes(tmp_path)["argilla"]
    row["fields"]["source_text"] = "x"
    row["responses"]["toxicity"] = [{"value": 1, "user_id": "x"}]
    _, task = shapes(tmp_path)["label-studio"]
    task["data"]["source_text"] = "x"
    task["annotations"][0]["result"].append({"from_name": "toxicity", "value": {"rating": 1}})
    for name, given in (("argilla", row), ("label-studio", task)):
        list(read(put(tmp_path / "r.jsonl", [given]), name, ignored=ignored))
    names = ["fields.source_text", "responses.toxicity", "data.source_text", "annotations.toxicity"]
    assert ignored == dict.fromkeys(names, 1)


def test_prompts_and_texts_tell_what_they_leave(tmp_path):
    rows = [{"prompt": "a", "answer": "x", "weight": 1}, {"prompt": "b", "answer": "y", "id": 3}]
    path = put(tmp_path / "p.jsonl", rows)
    ignored = Counter()
    load_prompts(PromptSettings(source=str(path), heldout=1), 0, ignored=ignored)
    assert ignored == {"answer": 2, "id": 1}
    ignored.clear()
    load_prompts(PromptSettings(source="builtin:everyday", heldout=1), 0, ignored=ignored)
    assert ignored == {}
    path = put(tmp_path / "t.jsonl", [{"text": "a", "url": "x"}, {"content": "b"}])
    assert list(read_texts([path], ignored=ignored)) == ["a", "b"]
    assert ignored == {"url": 1}


def test_an_import_tells_the_columns_that_it_left(tmp_path):
    rows = [{"prompt": "Q", "chosen": "a", "rejected": "b", "score_chosen": 3}] * 2
    with Workspace.create(tmp_path / "ws") as workspace:
        report = import_file(workspace, put(tmp_path / "r.jsonl", rows))
    assert report.ignored == {"score_chosen": 2}


ASKED_FOR = [("user", "What is 2+2?")]
REPLIES = {"chosen": "The answer is 4", "rejected": "The answer is 5"}
AS_TURNS = {name: [{"role": "assistant", "content": text}] for name, text in REPLIES.items()}
ALONE = {name: {"from": "gpt", "value": text} for name, text in REPLIES.items()}
TURNS_BEFORE = [{"role": "user", "content": "What is 2+2?"}]
PROMPTS_OF_PAIRS = {
    "question": {"question": "What is 2+2?"},
    "instruction": {"instruction": "What is 2+2?"},
    "messages": {"messages": TURNS_BEFORE},
    "messages with a reply": {"messages": [*TURNS_BEFORE, YES]},
    "conversations": {"conversations": [{"from": "human", "value": "What is 2+2?"}]},
    "prompt": {"prompt": "What is 2+2?"},
    "turns as prompt": {"prompt": TURNS_BEFORE},
}


@pytest.mark.parametrize("replies", [REPLIES, AS_TURNS, ALONE], ids=["texts", "turns", "alone"])
@pytest.mark.parametrize("name", PROMPTS_OF_PAIRS)
def test_a_pair_answers_the_prompt_that_stands_beside_it(tmp_path, name, replies):
    """Its replies may begin alike, and that is no prompt."""
    data = PROMPTS_OF_PAIRS[name] | replies
    (row,) = read(put(tmp_path / "r.jsonl", [data]), "trl-preference")
    assert [(m.role, m.content) for m in row.samples[0].prompt.messages] == ASKED_FOR
    assert [sample.text for sample in row.samples] == [*REPLIES.values()]
    with_system = data | {"system": "Be brief.", "input": "Fast."}
    (row,) = read(put(tmp_path / "s.jsonl", [with_system]), "trl-preference")
    first, *rest = [(m.role, m.content) for m in row.samples[0].prompt.messages]
    assert first == SYSTEM
    about = "\n\nFast." if name in ("question", "instruction") else ""
    assert rest == [("user", f"What is 2+2?{about}")]


@pytest.mark.parametrize("name", ["query", "text", "input", "context", "problem"])
def test_a_pair_is_refused_by_the_column_that_may_be_its_prompt(tmp_path, name):
    rows = [{name: "What is 2+2?"} | REPLIES, {name: None} | REPLIES, {name: ""} | REPLIES]
    refused, *taken = read(put(tmp_path / "r.jsonl", rows), "trl-preference")
    assert f"no field 'prompt', and '{name}' may be it" in refused.reason
    for row in taken:
        assert row.samples[0].prompt.text == "The answer is"

"""Rows as others publish them, spelt out by hand, and rows that are wrong."""

import copy
import json
import re

import pytest

from backflip.errors import FormatError
from backflip.formats import Labelled, Rejected, detect, read, write
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison, GoodBad

USER = {"role": "user", "content": "What color is the sky?"}
BLUE = {"role": "assistant", "content": "It is blue."}
GREEN = {"role": "assistant", "content": "It is green."}
SYSTEM = {"role": "system", "content": "Be brief."}


def put(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair_of(labelled):
    (entry,) = labelled.entries
    texts = {s.id: s.text for s in labelled.samples}
    assert (entry.kind, entry.choice) == ("comparison", "a")
    turns = [(m.role, m.content) for m in labelled.samples[0].prompt.messages]
    return turns, texts[entry.samples[0]], texts[entry.samples[1]]


ASKED = [("user", "What color is the sky?")]
PAIRS = {
    "standard": (
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        "trl-preference",
        ([("user", "The sky is")], " blue.", " green."),
    ),
    "standard, implicit prompt": (
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        "trl-preference",
        ([("user", "The sky is")], " blue.", " green."),
    ),
    "implicit prompt, words that begin alike": (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        "trl-preference",
        ([("user", "The sky is")], " blue.", " black."),
    ),
    "implicit prompt, one the beginning of the other": (
        {"chosen": "The sky is blue and wide", "rejected": "The sky is blue"},
        "trl-preference",
        ([("user", "The sky is")], " blue and wide", " blue"),
    ),
    "conversational": (
        {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]},
        "trl-preference",
        (ASKED, "It is blue.", "It is green."),
    ),
    "conversational, implicit prompt": (
        {"chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        "trl-preference",
        (ASKED, "It is blue.", "It is green."),
    ),
    "conversational, prompt also in the dialogues": (
        {
            "prompt": [SYSTEM, USER],
            "chosen": [SYSTEM, USER, BLUE],
            "rejected": [SYSTEM, USER, GREEN],
        },
        "trl-preference",
        ([("system", "Be brief."), *ASKED], "It is blue.", "It is green."),
    ),
    "prompt as text beside whole dialogues": (
        {"prompt": USER["content"], "chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        "trl-preference",
        (ASKED, "It is blue.", "It is green."),
    ),
    "prompt as text, replies as turns": (
        {"prompt": USER["content"], "chosen": [BLUE], "rejected": [GREEN]},
        "trl-preference",
        (ASKED, "It is blue.", "It is green."),
    ),
    "prompt as a transcript": (
        {"prompt": "\n\nHuman: A\n\nAssistant:", "chosen": " B", "rejected": " C"},
        "trl-preference",
        ([("user", "A")], "B", "C"),
    ),
    "hh": (
        {
            "chosen": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: D\n\nE",
            "rejected": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant:F",
        },
        "hh",
        ([("user", "A"), ("assistant", "B"), ("user", "C")], "D\n\nE", "F"),
    ),
    "rewardbench": (
        {
            "prompt": "Q?",
            "chosen": "right",
            "chosen_model": "GPT4-Turbo",
            "rejected": "wrong",
            "rejected_model": "alpaca-7b",
            "subset": "alpacaeval-easy",
            "id": 12,
        },
        "rewardbench",
        ([("user", "Q?")], "right", "wrong"),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_as_they_are_published(tmp_path, name):
    row, format_name, wanted = PAIRS[name]
    path = put(tmp_path, row)
    assert detect(path).name == format_name
    (labelled,) = read(path)
    assert pair_of(labelled) == wanted


def test_rewardbench_is_held_out_and_comes_back_whole(tmp_path):
    row, _, _ = PAIRS["rewardbench"]
    path = put(tmp_path, row)
    (labelled,) = read(path)
    assert {s.prompt.split for s in labelled.samples} == {"heldout"}
    assert labelled.entries[0].key == "alpacaeval-easy/12"
    write(tmp_path / "back.jsonl", "rewardbench", [labelled])
    assert json.loads((tmp_path / "back.jsonl").read_text()) == row


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "The sky is", "completion": "blue.", "label": True},
        {"prompt": [USER], "completion": [GREEN], "label": False},
        {"prompt": "The sky is", "completion": "blue.", "label": 1},
        {"prompt": "The sky is", "completion": "blue.", "label": 1.0},
        {"prompt": [USER], "completion": [GREEN], "label": 0},
    ],
)
def test_unpaired_preference_as_published(tmp_path, row):
    path = put(tmp_path, row)
    assert detect(path).name == "trl-unpaired"
    (labelled,) = read(path)
    (entry,) = labelled.entries
    assert isinstance(entry, GoodBad)
    assert entry.good is bool(row["label"])
    assert labelled.samples[0].text == ("blue." if row["label"] else "It is green.")


BAD = {
    "trl-preference": [
        ({"prompt": "Q", "chosen": "a"}, "'rejected' is missing"),
        ({"prompt": "Q", "chosen": "a", "rejected": "a"}, "the same reply"),
        ({"prompt": "Q", "chosen": "a", "rejected": " "}, "'rejected' is empty"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "'prompt' is empty"),
        ({"prompt": "Q", "chosen": "a", "rejected": [GREEN]}, "is a text and the other is not"),
        ({"prompt": "Q", "chosen": 1, "rejected": 2}, "not a list of turns"),
        ({"prompt": [BLUE], "chosen": [BLUE], "rejected": [GREEN]}, "do not end with the user's"),
        ({"chosen": [USER, BLUE], "rejected": [SYSTEM, USER, GREEN]}, "different dialogues"),
        ({"chosen": [USER, BLUE], "rejected": [USER]}, "does not end with the assistant's"),
        ({"chosen": "Blue it is", "rejected": "Green it is"}, "no words alike"),
        ({"chosen": "same", "rejected": "same"}, "no words alike"),
    ],
    "hh": [
        ({"chosen": "\n\nHuman: A\n\nAssistant: B"}, "'rejected' is missing"),
        (
            {
                "chosen": "\n\nHuman: A\n\nAssistant: B",
                "rejected": "\n\nHuman: X\n\nAssistant: B",
            },
            "different dialogues",
        ),
        (
            {"chosen": "\n\nHuman: A\n\nAssistant: ", "rejected": "\n\nHuman: A\n\nAssistant: B"},
            "the reply in 'chosen' is empty",
        ),
        ({"chosen": "A", "rejected": "B"}, "does not begin with a Human turn"),
        (
            {"chosen": "\n\nHuman: \n\nAssistant: B", "rejected": "\n\nHuman: \n\nAssistant: C"},
            "turn 1 .* is empty",
        ),
    ],
    "trl-unpaired": [
        ({"prompt": "Q", "completion": "a"}, "'label' is missing"),
        ({"prompt": "Q", "completion": "a", "label": -1}, "'label' is -1, and not true"),
        ({"prompt": "Q", "completion": "a", "label": "yes"}, "'label' is 'yes', and not true"),
        ({"prompt": "Q", "label": True}, "'completion' is missing"),
    ],
    "trl-prompt-completion": [({"prompt": "Q"}, "no demonstration")],
    "rewardbench": [
        (PAIRS["rewardbench"][0] | {"id": "twelve"}, "'id' is missing or not"),
        (PAIRS["rewardbench"][0] | {"subset": ""}, "'subset' is empty"),
        (PAIRS["rewardbench"][0] | {"chosen_model": 4}, "'chosen_model' is not a text"),
        (PAIRS["rewardbench"][0] | {"rejected": "right"}, "the same reply"),
        (PAIRS["rewardbench"][0] | {"chosen": ["right"]}, "'chosen' is not a text"),
    ],
}
GOOD = {
    "trl-preference": PAIRS["standard"][0],
    "hh": PAIRS["hh"][0],
    "trl-unpaired": {"prompt": "Q", "completion": "a", "label": True},
    "trl-prompt-completion": {"prompt": "Q", "completion": "a"},
    "rewardbench": PAIRS["rewardbench"][0],
}


@pytest.mark.parametrize(
    ("name", "row", "reason"), [(name, *case) for name, cases in BAD.items() for case in cases]
)
def test_bad_rows_are_refused_with_file_line_and_reason(tmp_path, name, row, reason):
    path = put(tmp_path, row, GOOD[name])
    bad, good = read(path, name)
    assert isinstance(bad, Rejected)
    assert (bad.file, bad.line) == ("rows.jsonl", 1)
    assert re.search(reason, bad.reason), bad.reason
    assert isinstance(good, Labelled)


def test_equal_rows_are_answers_of_their_own_with_the_same_ids_each_time(tmp_path):
    row, other = GOOD["trl-unpaired"], {"prompt": "Q", "completion": "b", "label": True}
    path = put(tmp_path, row, other, row, row)
    first, second = ([r.entries[0] for r in read(path)] for _ in range(2))
    assert [e.key for e in first] == ["", "", "2", "3"]
    assert len({e.id for e in first}) == 4
    assert [e.id for e in first] == [e.id for e in second]
    # A row put in front of them changes no id.
    longer = put(
        tmp_path, {"prompt": "Z", "completion": "z", "label": False}, *[row, other, row, row]
    )
    assert [r.entries[0].id for r in read(longer)][1:] == [e.id for e in first]


def own_row(tmp_path):
    prompt = Prompt.from_text("Q?")
    a, b = (Sample.of(prompt, Completion(text=t)) for t in "ab")
    vote = Comparison(samples=(a.id, b.id), choice="a", annotator="mia")
    path = tmp_path / "own.jsonl"
    write(path, "backflip-jsonl", [Labelled((a, b), (vote,))])
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (["backflip"], 2, "field 'backflip' is 2"),
        (["entry", "choice"], "c", "'entry' is no feedback"),
        (["entry", "kind"], "vote", "'entry' is no feedback"),
        (["entry", "annotator"], "a\x1b[2J", "control characters"),
        (["entry", "extra"], 1, "'entry' is no feedback"),
        (["entry", "samples"], ["sample-1", "sample-2"], "which the row does not hold"),
        (["entry"], None, "'entry' is missing"),
        (["samples"], [], "not a list of samples"),
        (["samples", 0], "x", "sample 1 of 'samples': it is not valid JSON"),
        (["samples", 0, "header", "text"], "another text", "which is not that of"),
        (["samples", 0, "header", "type"], "film", "cannot be rebuilt"),
        (["samples", 0, "header", "extra"], 1, "cannot be rebuilt"),
        (["samples", 0, "header", "finish"], "never", "text or finish"),
        (["samples", 0, "header", "text"], 7, "text or finish"),
        (["samples", 0, "arrays"], "AAAA", "cannot be rebuilt"),
        (["samples", 0, "arrays"], "not base64!", "cannot be rebuilt"),
        (["samples", 0, "arrays"], None, "arrays are missing or not bytes"),
        (["samples", 0, "arrays"], 10**12, "arrays are missing or not bytes"),
        (["entry", "axis"], "", "axis is empty"),
        (["samples", 0, "origin", "seed"], "x", "seed is not a whole number"),
        (["samples", 0, "origin", "model"], 3, "model is not a text"),
        (["samples", 0, "origin", "more"], 3, "origin has the fields"),
        (["samples", 0, "prompt", "split"], "both", "sample 1 of 'samples': its prompt"),
        (["samples", 0, "more"], 3, "unknown field 'more'"),
    ],
)
def test_own_rows_that_were_tampered_with_are_refused(tmp_path, path, value, reason):
    row = own_row(tmp_path)
    changed = copy.deepcopy(row)
    target = changed
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    bad, good = read(put(tmp_path, changed, row), "backflip-jsonl")
    assert isinstance(bad, Rejected)
    assert reason in bad.reason
    assert isinstance(good, Labelled)


def test_a_file_of_no_known_format_is_an_error(tmp_path):
    with pytest.raises(FormatError, match="fields title, body are of no known format"):
        read(put(tmp_path, {"title": "x", "body": "y"}))
    with pytest.raises(FormatError, match="no rows in it"):
        read(put(tmp_path))
    with pytest.raises(FormatError, match="first fault: line 1, not an object"):
        read(put(tmp_path, [1, 2]))
    with pytest.raises(FormatError, match="no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(FormatError, match="unknown format 'csv'"):
        read(put(tmp_path, GOOD["hh"]), "csv")

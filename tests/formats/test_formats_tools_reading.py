"""Rows as Argilla and Label Studio keep them, spelt out by hand, and rows that are wrong."""

import copy
import json
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_rows import (
    ASKED,
    BLUE,
    GREEN,
    LEA,
    MIA,
    RED,
    TOOLS,
    TURNS,
    changed,
    listed,
    put,
    record,
    result,
    said,
    task,
)

from backflip.formats import Labelled, Rejected, detect, read

# Rows as the programs have them, spelt out by hand


SEEN = {
    "comparison": (
        {"comparison": "response_b", "strength": 2},
        [
            result("comparison", "pairwise", {"selected": "right"}, "comparison"),
            result("strength", "rating", {"rating": 2}),
        ],
        (BLUE, GREEN),
        {"kind": "comparison", "samples": [BLUE, GREEN], "choice": "b", "strength": 2},
    ),
    "tie": (
        {"comparison": "tie", "reason": "the same"},
        [
            result("neither", "choices", {"choices": ["tie"]}),
            result("reason", "textarea", {"text": ["the same"]}),
        ],
        (BLUE, GREEN),
        {"kind": "comparison", "choice": "tie", "reason": "the same"},
    ),
    "rating": (
        {"rating": 4},
        [result("rating", "rating", {"rating": 4}, "response_a")],
        (BLUE,),
        {"kind": "rating", "sample": BLUE, "level": 4, "num_levels": 5, "axis": "overall"},
    ),
    "good_bad": (
        {"good_bad": "bad"},
        [result("good_bad", "choices", {"choices": ["bad"]}, "response_a")],
        (BLUE,),
        {"kind": "good_bad", "sample": BLUE, "good": False},
    ),
    "correction": (
        {"correction": GREEN},
        [result("correction", "textarea", {"text": [GREEN]}, "response_a")],
        (BLUE,),
        {"kind": "correction", "sample": BLUE, "corrected": GREEN},
    ),
    "demonstration": (
        {"demonstration": GREEN},
        [result("demonstration", "textarea", {"text": GREEN})],
        (BLUE, RED),
        {"kind": "demonstration", "sample": GREEN, "over": [BLUE, RED]},
    ),
    "critique": (
        {"critique": "Dull.", "level": 2, "tags": ["dull", "short"]},
        [
            result("critique", "textarea", {"text": ["Dull."]}, "response_a"),
            result("level", "rating", {"rating": 2}, "response_a"),
            result("tags", "choices", {"choices": ["dull", "short"]}),
        ],
        (BLUE,),
        {
            "kind": "critique",
            "sample": BLUE,
            "text": "Dull.",
            "level": 2,
            "tags": ("dull", "short"),
        },
    ),
    "safety_flag": (
        {"safety_flag": "unsafe", "category": "rude"},
        [
            result("safety_flag", "choices", {"choices": ["unsafe"]}, "response_a"),
            result("category", "textarea", {"text": ["rude"]}, "response_a"),
        ],
        (BLUE,),
        {"kind": "safety_flag", "sample": BLUE, "safe": False, "category": "rude", "axis": "safe"},
    ),
}


@pytest.mark.parametrize("kind", SEEN)
def test_records_of_argilla_by_hand(tmp_path, kind):
    responses, _, replies, wanted = SEEN[kind]
    path = put(tmp_path, record(responses, replies=replies))
    assert detect(path).name == "argilla"
    (row,) = read(path)
    assert said(row) == said(row) | wanted | {"annotator": str(MIA)}
    assert said(row)["prompts"] == {(ASKED.messages, "train")}


@pytest.mark.parametrize("kind", SEEN)
def test_tasks_of_label_studio_by_hand(tmp_path, kind):
    _, results, replies, wanted = SEEN[kind]
    path = put(tmp_path, task(*results, replies=replies))
    assert detect(path).name == "label-studio"
    (row,) = read(path)
    assert said(row) == said(row) | wanted | {"annotator": "user-7"}
    assert said(row)["prompts"] == {(ASKED.messages, "train")}


def test_rankings_of_argilla_by_hand(tmp_path):
    ranks = [{"value": "response_b", "rank": 1}, {"value": "response_a", "rank": 2}]
    (row,) = read(put(tmp_path, record({"ranking": ranks}, replies=(BLUE, GREEN))))
    assert said(row) == said(row) | {"samples": [BLUE, GREEN], "ranks": (2, 1)}


@pytest.mark.parametrize(
    ("given_value", "wanted"),
    [
        ({"ranking": ["z", "x", "y"]}, (2, 3, 1)),
        (["y", "z", "x"], (3, 1, 2)),
        ({"2": ["x", "z"], "1": ["y"], "3": []}, (2, 1, 2)),
    ],
)
def test_rankings_of_label_studio_by_hand(tmp_path, given_value, wanted):
    results = [
        result("ranking", "ranker", {"ranker": given_value}, "responses"),
        result("num_acceptable", "number", {"number": 1}),
    ]
    (row,) = read(put(tmp_path, task(*results, replies=(), responses=listed(BLUE, GREEN, RED))))
    wanted_fields = {"samples": [BLUE, GREEN, RED], "ranks": wanted, "num_acceptable": 1}
    assert said(row) == said(row) | wanted_fields


def test_people_who_answer_one_record_of_argilla_are_told_apart(tmp_path):
    row = record({"rating": 4, "reason": "fine"}, annotator="mia", axis="kind", num_levels=4)
    stranger = uuid.UUID(int=3)
    row["responses"]["rating"] += [
        {"value": 1, "user_id": str(stranger).upper()},
        {"value": 2, "user_id": str(LEA), "status": "draft"},
    ]
    row["responses"]["critique"] = [{"value": "Dull.", "user_id": str(stranger)}]
    row["responses"]["of_another_kind"] = [{"value": "?", "user_id": str(LEA)}]
    row["suggestions"] = {"rating": {"value": 3, "score": None, "agent": "model"}}
    (read_back,) = read(put(tmp_path, row))
    found = [said(read_back, entry) for entry in read_back.entries]
    assert [(f["annotator"], f["kind"], f.get("level"), f["reason"]) for f in found] == [
        ("mia", "rating", 4, "fine"),
        (str(stranger), "rating", 1, None),
        (str(stranger), "critique", None, None),
    ]
    assert {f["axis"] for f in found} == {"kind"}
    assert {f["num_levels"] for f in found} == {4}
    assert [sample.text for sample in read_back.samples] == [BLUE]


def test_people_who_annotate_one_task_of_label_studio_are_told_apart(tmp_path):
    row = task(result("rating", "rating", {"rating": 5}))
    (first,) = row["annotations"]
    first |= {"completed_by": {"id": 7, "email": "lea@example.org"}, "lead_time": 12}
    second = copy.deepcopy(first)
    second["result"][0] |= {"value": {"rating": 2}, "meta": {"annotator": "mia", "text": ["x"]}}
    second["result"].append(result("pw", "pairwise", {"selected": "left"}))
    third = {"result": second["result"], "was_cancelled": True}
    fourth = {"result": first["result"], "completed_by": None, "lead_time": None}
    row["annotations"] = [first, second, third, fourth]
    (read_back,) = read(put(tmp_path, row), annotator="them", axis="kind")
    assert [(e.annotator, e.level, e.seconds, e.axis) for e in read_back.entries] == [
        ("lea@example.org", 5, 12.0, "kind"),
        ("mia", 2, 12.0, "kind"),
        ("them", 5, None, "kind"),
    ]


@pytest.mark.parametrize("name", TOOLS)
def test_a_safety_flag_without_an_axis_has_its_own(tmp_path, name):
    row = {
        "argilla": record({"safety_flag": "safe"}),
        "label-studio": task(result("safety_flag", "choices", {"choices": ["safe"]})),
    }[name]
    path = put(tmp_path, row)
    axes = [next(read(path, **given)).entries[0].axis for given in ({}, {"axis": "kind"})]
    assert axes == ["safe", "kind"]


def test_absent_replies_may_be_null(tmp_path):
    """One setting of a data set serves rows with two replies and rows with three."""
    row = record({"comparison": "response_a"}, replies=(BLUE, GREEN, None))
    (read_back,) = read(put(tmp_path, row))
    assert [sample.text for sample in read_back.samples] == [BLUE, GREEN]


PAIR = record({"comparison": "response_a"}, replies=(BLUE, GREEN), annotator="mia")
ONE = record({"rating": 4})
ORDER = [{"value": "response_a", "rank": 1}, {"value": "response_b", "rank": 2}]
VALUE = ("responses", "rating", 0, "value")


def ranked(value):
    return record({"ranking": value}, replies=(BLUE, GREEN))


BAD_RECORDS = [
    (changed(ONE, "fields", to=[]), "'fields' is missing or not an object"),
    (changed(ONE, "fields", to={"response_a": "x"}), "'prompt' is missing"),
    (changed(ONE, "fields", "prompt", to=TURNS[:1]), "do not end with the user's"),
    (changed(ONE, "fields", "prompt", to=[{"role": "user"}]), "turn 1 of 'prompt' has no text"),
    (changed(ONE, "fields", "response_a", to=["x"]), "'response_a' is not a text"),
    (changed(ONE, "fields", "response_a", to=" "), "'response_a' is empty"),
    (changed(PAIR, "fields", "response_a", to=None), "'response_a' is missing"),
    (changed(PAIR, "fields", "response_b", to=None), "about two replies, and there are 1"),
    (changed(PAIR, "fields", "response_b", to=BLUE), "two replies have the same text"),
    (changed(PAIR, "responses", to={"rating": PAIR["responses"]["comparison"]}), "about one reply"),
    (changed(PAIR, "metadata", to=[1]), "'metadata' is missing or not an object"),
    (changed(PAIR, "metadata", "annotator", to="a\x1b[2J"), "annotator .* control characters"),
    (changed(PAIR, "metadata", "annotator", to=["mia"]), "annotator is no text"),
    (changed(PAIR, "metadata", "axis", to=""), "axis is no text, empty"),
    (changed(PAIR, "metadata", "split", to="test"), "'split' is neither"),
    (changed(ONE, "metadata", to={"num_levels": 3}), "whole numbers from 1 to 3"),
    (changed(ONE, "metadata", to={"num_levels": 11}), "'num_levels' holds .* from 2 to 10"),
    (changed(ONE, "responses", to={}), "nobody has answered"),
    (changed(ONE, "responses", to=None), "'responses' is missing"),
    (changed(ONE, "responses", to={"quality": []}), "nobody has answered"),
    (changed(ONE, "responses", "rating", to={}), "responses to 'rating' are not a list"),
    (changed(ONE, "responses", "rating", to=[4]), "response 1 to 'rating' is missing or not an"),
    (changed(ONE, "responses", "rating", 0, "status", to="discarded"), "nobody has answered"),
    (changed(ONE, "responses", "rating", 0, "user_id", to="None"), "'rating' is not a UUID"),
    (changed(ONE, "responses", "rating", 0, "user_id", to=7), "'rating' is not a UUID"),
    (
        changed(ONE, "responses", "rating", to=ONE["responses"]["rating"] * 2),
        "one user answers 'rating' twice",
    ),
    (changed(ONE, *VALUE, to=None), "'rating' has no value"),
    (changed(ONE, *VALUE, to=True), "whole numbers from 1 to 5"),
    (changed(ONE, *VALUE, to=6), "whole numbers from 1 to 5"),
    (changed(ONE, *VALUE, to=4.5), "whole numbers from 1 to 5"),
    (record({"good_bad": True}), "'good_bad' is none of good, bad"),
    (record({"good_bad": ["good"]}), "'good_bad' is none of good, bad"),
    (record({"safety_flag": "maybe"}), "'safety_flag' is none of safe, unsafe"),
    (record({"comparison": "a"}, replies=(BLUE, GREEN)), "'comparison' is none of response_a"),
    (
        record({"comparison": "tie", "strength": 1}, replies=(BLUE, GREEN)),
        "neither reply is preferred",
    ),
    (record({"comparison": "tie", "strength": 4}, replies=(BLUE, GREEN)), "from 0 to 3"),
    (record({"correction": BLUE}), "changes nothing"),
    (record({"correction": " "}), "'correction' is empty"),
    (record({"demonstration": BLUE}), "one of the replies that it stands above"),
    (record({"demonstration": "x"}, replies=tuple("abcdefgh")), "seven replies at most"),
    (record({"demonstration": 3}), "'demonstration' is not a text"),
    (record({"critique": "x", "level": 0}), "'level' holds .* from 1 to 5"),
    (record({"critique": ""}), "'critique' is empty"),
    (record({"rating": 1, "reason": 3}), "'reason' is not a text"),
    (record({"rating": 1, "tags": "rude"}), "'tags' is not a list of texts"),
    (record({"safety_flag": "safe", "category": []}), "'category' is not a text"),
    (ranked(["response_b", "response_a"]), "has no ranks: Argilla's own export drops them"),
    (ranked("response_b"), "has no ranks"),
    (ranked(ORDER[:1]), "does not give each of response_a, response_b a rank"),
    (ranked(ORDER + ORDER[:1]), "names a reply twice"),
    (ranked([*ORDER, {"value": "response_c", "rank": 3}]), "does not give each of"),
    (ranked([ORDER[0], {"value": "response_b"}]), "whole numbers from 1 to 2"),
    (ranked([ORDER[0], {"value": "response_b", "rank": 3}]), "whole numbers from 1 to 2"),
    (record({"ranking": ORDER[:1]}), "about two replies or more, and there are 1"),
]
RATED = task(result("rating", "rating", {"rating": 4}, "response_a"))
ORDERED = task(
    result("ranking", "ranker", {"ranker": {"1": ["x"], "2": ["y"]}}, "responses"),
    replies=(),
    responses=listed(BLUE, GREEN),
)
IN_RESULT = ("annotations", 0, "result", 0)
IN_RANKER = (*IN_RESULT, "value", "ranker")
PAIRED = task(
    result("comparison", "pairwise", {"selected": "left"}, "comparison"), replies=(BLUE, GREEN)
)
BAD_TASKS = [
    (changed(RATED, "data", to="x"), "'data' is missing or not an object"),
    (changed(RATED, "data", "prompt", to=[]), "'prompt' has no turns"),
    (changed(RATED, "data", "axis", to=3), "axis is no text"),
    (changed(RATED, "data", "num_levels", to="5"), "'num_levels' holds"),
    (changed(RATED, "annotations", to={}), "'annotations' is missing or not a list"),
    (changed(RATED, "annotations", to=[]), "nobody has answered"),
    (changed(RATED, "annotations", to=[4]), "annotation 1 is missing or not an object"),
    (changed(RATED, "annotations", 0, "was_cancelled", to=True), "nobody has answered"),
    (changed(RATED, "annotations", 0, "result", to=None), "result is missing or not a list"),
    (changed(RATED, "annotations", 0, "result", to=[]), "nobody has answered"),
    (changed(RATED, "annotations", 0, "lead_time", to=-1), "not a number of seconds"),
    (changed(RATED, "annotations", 0, "lead_time", to="3"), "not a number of seconds"),
    (changed(RATED, "annotations", 0, "completed_by", to="a\nb"), "control characters"),
    (changed(RATED, *IN_RESULT, to=[]), "result 1 of annotation 1 is missing or not an object"),
    (changed(RATED, *IN_RESULT, "from_name", to="stars"), "nobody has answered"),
    (changed(RATED, *IN_RESULT, "value", to=4), "the value of 'rating' is missing or not an"),
    (changed(RATED, *IN_RESULT, "value", to={"stars": 4}), "'rating' has no 'rating'"),
    (changed(RATED, *IN_RESULT, "value", to={"rating": 6}), "whole numbers from 1 to 5"),
    (changed(RATED, *IN_RESULT, "meta", to={"annotator": ""}), "annotator is no text, empty"),
    (
        changed(RATED, "annotations", 0, "result", to=[RATED["annotations"][0]["result"][0]] * 2),
        "one annotation answers 'rating' twice",
    ),
    (task(result("good_bad", "choices", {"choices": []})), "holds 0 answers and not one"),
    (task(result("good_bad", "choices", {"choices": ["good", "bad"]})), "holds 2 answers"),
    (task(result("critique", "textarea", {"text": ["a", "b"]})), "holds 2 answers and not one"),
    (task(result("critique", "textarea", {"text": 3})), "'critique' is not a text"),
    (changed(PAIRED, *IN_RESULT, "value", to={"selected": "none"}), "'comparison' is none of"),
    (changed(PAIRED, "data", "response_b", to=None), "about two replies, and there are 1"),
    (
        task(
            result("comparison", "pairwise", {"selected": "left"}),
            result("neither", "choices", {"choices": ["tie"]}),
            replies=(BLUE, GREEN),
        ),
        "one annotation answers 'comparison' twice",
    ),
    (changed(ORDERED, "data", "responses", to="x"), "'responses' is not a list of objects"),
    (changed(ORDERED, "data", "responses", to=["x", "y"]), "not a list of objects"),
    (changed(ORDERED, "data", "responses", 0, "body", to=3), "'response_a' is not a text"),
    (changed(ORDERED, "data", "responses", 0, "id", to="y"), "two replies have the same id"),
    (
        changed(ORDERED, "data", "responses", to=listed(*map(str, range(9)), ids="abcdefghi")),
        "more than 8 replies",
    ),
    (changed(ORDERED, *IN_RANKER, to={"1": ["x"], "_": ["y"]}), "in a bucket that is no rank"),
    (changed(ORDERED, *IN_RANKER, to={"1": ["x"]}), "does not give each of"),
    (changed(ORDERED, *IN_RANKER, to={"1": ["x"], "2": ["z"]}), "names a reply that is not there"),
    (changed(ORDERED, *IN_RANKER, to={"1": ["x"], "2": ["x"]}), "names a reply twice"),
    (changed(ORDERED, *IN_RANKER, to={"1": ["x"], "3": ["y"]}), "whole numbers from 1 to 2"),
    (changed(ORDERED, *IN_RANKER, to={"1": "xy"}), "not a list of ids"),
    (changed(ORDERED, *IN_RANKER, to="xy"), "not a list of ids"),
    (changed(ORDERED, *IN_RANKER, to=None), "has no .ranker"),
]


@pytest.mark.parametrize(
    ("name", "good", "row", "reason"),
    [("argilla", ONE, *bad) for bad in BAD_RECORDS]
    + [("label-studio", RATED, *bad) for bad in BAD_TASKS],
)
def test_bad_rows_are_refused_with_file_line_and_reason(tmp_path, name, good, row, reason):
    bad, taken = read(put(tmp_path, row, good), name)
    assert isinstance(bad, Rejected)
    assert (bad.file, bad.line) == ("rows.jsonl", 1)
    assert re.search(reason, bad.reason), bad.reason
    assert "\n" not in bad.reason
    assert isinstance(taken, Labelled)


def test_a_time_beyond_all_numbers_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = json.dumps(changed(RATED, "annotations", 0, "lead_time", to=0))
    path.write_text(row.replace('"lead_time": 0', '"lead_time": 1e999'))
    (bad,) = read(path, "label-studio")
    assert isinstance(bad, Rejected)
    assert bad.reason == "field 'lead_time' is inf, which is no finite number"


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 11) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """Every place in a row, by the way to it."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, step))


WHOLE = [PAIR, ONE, ranked(ORDER), RATED, ORDERED, PAIRED]


@given(data=st.data(), whole=st.sampled_from(WHOLE))
def test_no_row_stops_the_reading(tmp_path_factory, data, whole):
    row = changed(whole, *data.draw(st.sampled_from(list(places(whole)))), to=data.draw(anything))
    name = "argilla" if "fields" in whole else "label-studio"
    rows = list(read(put(tmp_path_factory.mktemp("any"), row, whole), name))
    assert len(rows) == 2
    assert isinstance(rows[1], Labelled)

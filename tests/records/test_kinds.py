"""Every rule of the feedback records, their one symmetry, and the way back from plain data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from backflip.records.feedback import (
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    FeedbackBase,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
    parse_feedback,
)

names = st.text(min_size=1, max_size=8)
common = {
    "annotator": names,
    "axis": names,
    "origin": st.sampled_from(["people", "teachers", "judge", "import:rows.jsonl"]),
    "seconds": st.none() | st.floats(0, 1e6),
    "reason": st.none() | st.text(max_size=20),
    "key": st.text(max_size=8),
}
several = st.lists(names, min_size=2, max_size=8, unique=True).map(tuple)
pairs = st.lists(names, min_size=2, max_size=2, unique=True).map(tuple)


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    choice = draw(st.sampled_from(["a", "b", "tie", "both_bad"]))
    return Comparison(
        samples=draw(pairs),
        choice=choice,
        strength=draw(st.integers(0, 3)) if choice in "ab" else 0,
        shown=draw(st.sampled_from([None, (0, 1), (1, 0)])),
        **{name: draw(strategy) for name, strategy in common.items()},
    )


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    samples = draw(several)
    ranks = draw(st.lists(st.integers(1, 8), min_size=len(samples), max_size=len(samples)))
    acceptable = draw(st.none() | st.integers(0, len(samples)))
    fields = {name: draw(strategy) for name, strategy in common.items()}
    return Ranking(samples=samples, ranks=tuple(ranks), num_acceptable=acceptable, **fields)


@st.composite
def levelled(draw: st.DrawFn, cls: type[FeedbackBase]) -> FeedbackBase:
    num_levels = draw(st.integers(2, 10))
    fields = {name: draw(strategy) for name, strategy in common.items()}
    level = draw(st.integers(1, num_levels))
    if cls is Critique:
        fields["text"] = draw(names)
        level = draw(st.sampled_from([None, level]))
    return cls(sample=draw(names), level=level, num_levels=num_levels, **fields)


def plain(cls: type[FeedbackBase], **fields: st.SearchStrategy) -> st.SearchStrategy[FeedbackBase]:
    return st.builds(cls, **(common | fields))


EVERY_KIND: dict[str, st.SearchStrategy[FeedbackBase]] = {
    "comparison": comparisons(),
    "ranking": rankings(),
    "rating": levelled(Rating),
    "good_bad": plain(GoodBad, sample=names, good=st.booleans()),
    "correction": pairs.flatmap(
        lambda p: plain(Correction, sample=st.just(p[0]), corrected=st.just(p[1]))
    ),
    "demonstration": plain(
        Demonstration, sample=names, over=st.lists(names, max_size=7).map(tuple)
    ),
    "critique": levelled(Critique),
    "safety_flag": plain(SafetyFlag, sample=names, safe=st.booleans(), category=st.none() | names),
    "implicit": plain(
        Implicit,
        sample=names,
        signal=st.sampled_from(["kept", "copied", "regenerated", "abandoned"]),
        over=st.none() | names,
    ),
}


def test_every_kind_is_walked_by_these_tests() -> None:
    assert set(EVERY_KIND) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_entry_comes_back_from_plain_data_and_from_json(kind: str) -> None:
    @given(EVERY_KIND[kind])
    def round_trip(entry: FeedbackBase) -> None:
        again = parse_feedback(entry.model_dump())
        assert again == entry
        assert type(again) is KINDS[kind]
        assert again.id == entry.id
        from_json = parse_feedback(json.loads(entry.model_dump_json()))
        assert from_json == entry
        assert from_json.id == entry.id

    round_trip()


@given(comparisons())
def test_swapping_twice_changes_nothing(vote: Comparison) -> None:
    assert vote.swap().swap() == vote


@given(comparisons())
def test_swapping_keeps_which_sample_won_and_what_stood_first(vote: Comparison) -> None:
    def winner(v: Comparison) -> str | None:
        return {"a": v.samples[0], "b": v.samples[1]}.get(v.choice)

    def order(v: Comparison) -> list[str] | None:
        return [v.samples[i] for i in v.shown] if v.shown is not None else None

    turned = vote.swap()
    assert turned.samples == (vote.samples[1], vote.samples[0])
    assert winner(turned) == winner(vote)
    assert order(turned) == order(vote)
    assert turned.strength == vote.strength
    if winner(vote) is None:
        assert turned.choice == vote.choice


def test_ids_tell_entries_apart_and_only_those() -> None:
    vote = Comparison(annotator="mia", samples=("x", "y"), choice="a")
    assert vote.id == Comparison(annotator="mia", samples=("x", "y"), choice="a").id
    others = [
        vote.model_copy(update={"annotator": "ben"}),
        vote.model_copy(update={"key": "again"}),
        vote.model_copy(update={"choice": "b"}),
        vote.model_copy(update={"shown": (1, 0)}),
        vote.swap(),
        GoodBad(annotator="mia", sample="x", good=True),
    ]
    assert len({vote.id, *(other.id for other in others)}) == len(others) + 1


def test_sample_ids_name_every_sample_the_better_first_where_there_is_one() -> None:
    who = {"annotator": "mia"}
    assert Comparison(samples=("x", "y"), choice="b", **who).sample_ids == ("x", "y")
    assert Ranking(samples=("x", "y", "z"), ranks=(2, 1, 1), **who).sample_ids == ("x", "y", "z")
    assert Rating(sample="x", level=1, **who).sample_ids == ("x",)
    assert GoodBad(sample="x", good=False, **who).sample_ids == ("x",)
    assert Correction(sample="x", corrected="y", **who).sample_ids == ("y", "x")
    assert Demonstration(sample="x", over=("y", "z"), **who).sample_ids == ("x", "y", "z")
    assert Critique(sample="x", text="Dull.", **who).sample_ids == ("x",)
    assert SafetyFlag(sample="x", safe=True, **who).sample_ids == ("x",)
    assert Implicit(sample="x", signal="kept", **who).sample_ids == ("x",)
    assert Implicit(sample="x", signal="kept", over="y", **who).sample_ids == ("x", "y")


@pytest.mark.parametrize(
    ("signal", "positive"),
    [("kept", True), ("copied", True), ("regenerated", False), ("abandoned", False)],
)
def test_signals_speak_for_or_against(signal: str, positive: bool) -> None:
    entry = parse_feedback(
        {"kind": "implicit", "annotator": "mia", "sample": "x", "signal": signal}
    )
    assert isinstance(entry, Implicit)
    assert entry.positive is positive


def test_safety_has_an_axis_of_its_own() -> None:
    assert SafetyFlag(annotator="mia", sample="x", safe=True).axis == "safe"
    assert GoodBad(annotator="mia", sample="x", good=True).axis == "overall"


BROKEN = {
    "no annotator": (
        {"kind": "good_bad", "annotator": "", "sample": "x", "good": True},
        "annotator",
    ),
    "negative time": (
        {"kind": "good_bad", "annotator": "m", "sample": "x", "good": True, "seconds": -1},
        "seconds",
    ),
    "unknown key": (
        {"kind": "good_bad", "annotator": "m", "sample": "x", "good": True, "gut": 1},
        "gut",
    ),
    "unknown kind": ({"kind": "praise", "annotator": "m", "sample": "x"}, "praise"),
    "no kind": ({"annotator": "m", "sample": "x", "good": True}, "kind"),
    "empty sample": ({"kind": "good_bad", "annotator": "m", "sample": "", "good": True}, "sample"),
    "with itself": (
        {"kind": "comparison", "annotator": "m", "samples": ("x", "x"), "choice": "a"},
        "itself",
    ),
    "one sample": (
        {"kind": "comparison", "annotator": "m", "samples": ("x",), "choice": "a"},
        "samples",
    ),
    "three samples": (
        {"kind": "comparison", "annotator": "m", "samples": ("x", "y", "z"), "choice": "a"},
        "samples",
    ),
    "unknown choice": (
        {"kind": "comparison", "annotator": "m", "samples": ("x", "y"), "choice": "c"},
        "choice",
    ),
    "strong tie": (
        {
            "kind": "comparison",
            "annotator": "m",
            "samples": ("x", "y"),
            "choice": "tie",
            "strength": 1,
        },
        "prefers neither",
    ),
    "strong both bad": (
        {
            "kind": "comparison",
            "annotator": "m",
            "samples": ("x", "y"),
            "choice": "both_bad",
            "strength": 2,
        },
        "prefers neither",
    ),
    "strength 4": (
        {
            "kind": "comparison",
            "annotator": "m",
            "samples": ("x", "y"),
            "choice": "a",
            "strength": 4,
        },
        "strength",
    ),
    "ranking of one": (
        {"kind": "ranking", "annotator": "m", "samples": ("x",), "ranks": (1,)},
        "2",
    ),
    "ranking of nine": (
        {"kind": "ranking", "annotator": "m", "samples": tuple("abcdefghi"), "ranks": (1,) * 9},
        "8",
    ),
    "too few ranks": (
        {"kind": "ranking", "annotator": "m", "samples": ("x", "y"), "ranks": (1,)},
        "2 samples with 1 ranks",
    ),
    "ranked twice": (
        {"kind": "ranking", "annotator": "m", "samples": ("x", "x"), "ranks": (1, 2)},
        "twice",
    ),
    "rank 0": (
        {"kind": "ranking", "annotator": "m", "samples": ("x", "y"), "ranks": (0, 1)},
        "rank below 1",
    ),
    "three of two acceptable": (
        {
            "kind": "ranking",
            "annotator": "m",
            "samples": ("x", "y"),
            "ranks": (1, 2),
            "num_acceptable": 3,
        },
        "more acceptable",
    ),
    "fewer than none acceptable": (
        {
            "kind": "ranking",
            "annotator": "m",
            "samples": ("x", "y"),
            "ranks": (1, 2),
            "num_acceptable": -1,
        },
        "num_acceptable",
    ),
    "level 0": ({"kind": "rating", "annotator": "m", "sample": "x", "level": 0}, "level"),
    "level 6 of 5": ({"kind": "rating", "annotator": "m", "sample": "x", "level": 6}, "scale of 5"),
    "scale of one": (
        {"kind": "rating", "annotator": "m", "sample": "x", "level": 1, "num_levels": 1},
        "num_levels",
    ),
    "scale of eleven": (
        {"kind": "rating", "annotator": "m", "sample": "x", "level": 1, "num_levels": 11},
        "num_levels",
    ),
    "corrected into itself": (
        {"kind": "correction", "annotator": "m", "sample": "x", "corrected": "x"},
        "itself",
    ),
    "over eight": (
        {"kind": "demonstration", "annotator": "m", "sample": "x", "over": tuple("abcdefgh")},
        "over",
    ),
    "silent critique": ({"kind": "critique", "annotator": "m", "sample": "x", "text": ""}, "text"),
    "critique 4 of 3": (
        {
            "kind": "critique",
            "annotator": "m",
            "sample": "x",
            "text": "Dull.",
            "level": 4,
            "num_levels": 3,
        },
        "scale of 3",
    ),
    "unknown signal": (
        {"kind": "implicit", "annotator": "m", "sample": "x", "signal": "liked"},
        "signal",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_entry_is_refused_and_the_fault_named(name: str) -> None:
    data, fault = BROKEN[name]
    with pytest.raises(ValidationError, match=fault):
        parse_feedback(data)


def test_entries_do_not_change() -> None:
    vote = GoodBad(annotator="mia", sample="x", good=True)
    with pytest.raises(ValidationError, match="frozen"):
        vote.good = False  # pyright: ignore[reportAttributeAccessIssue]

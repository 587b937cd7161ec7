"""Entries read as columns: the same question is the same unit, whatever order was shown."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_crowd import compare, only, pair, rank, rate, thumb

from backflip.quality.answers import Unit, read_answers
from backflip.records.feedback import Comparison, Critique, Demonstration, Ranking, SafetyFlag


def told(answers):
    """{(unit, annotator): (value, first)} of a table."""
    return {
        (answers.units[u], answers.names[a]): (answers.scale[v], int(f))
        for u, a, v, f in zip(
            answers.unit, answers.annotator, answers.value, answers.first, strict=True
        )
    }


def test_a_pair_is_read_in_the_order_of_its_ids():
    ahead = Comparison(annotator="mia", samples=("x", "y"), choice="a", shown=(0, 1))
    turned = Comparison(annotator="ben", samples=("y", "x"), choice="a", shown=(0, 1))
    unit = Unit("comparison", "overall", ("x", "y"))
    # Ben chose y, which stood first on his screen: the second sample of the unit.
    assert told(only([ahead, turned])) == {(unit, "mia"): ("a", 0), (unit, "ben"): ("b", 1)}


CHOICES = st.sampled_from(["a", "b", "tie", "both_bad"])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), CHOICES, st.booleans()), min_size=1),
    st.booleans(),
)
def test_swapping_the_samples_of_entries_changes_nothing(rows, recorded):
    entries = [
        compare(f"who-{w}", i, c, seen=int(seen) if recorded else None) for i, w, c, seen in rows
    ]
    mixed = [entry.swap() if i % 2 else entry for i, entry in enumerate(entries)]
    assert told(only(mixed)) == told(only(entries))


@pytest.mark.parametrize("shown", [None, (0,), (0, 0), (1, 0, 2)])
def test_an_order_that_is_none_is_unknown(shown):
    entry = Comparison(annotator="mia", samples=("y", "x"), choice="a", shown=shown)
    assert only([entry]).first.tolist() == [-1]


def test_kinds_and_axes_are_apart_and_others_are_left_out():
    entries = [
        compare("mia", 1, "a"),
        compare("mia", 1, "b", axis="safe"),
        rate("mia", 1, 3),
        rate("mia", 1, 3, num_levels=7),
        thumb("mia", 1, True),
        SafetyFlag(annotator="mia", sample="x", safe=False),
        Critique(annotator="mia", sample="x", text="Dull."),
        Critique(annotator="mia", sample="x", text="Dull.", level=2, num_levels=4),
        Demonstration(annotator="mia", sample="x"),
    ]
    tables = read_answers(entries)
    assert {key: len(answers) for key, answers in tables.items()} == {
        ("comparison", "overall"): 1,
        ("comparison", "safe"): 1,
        ("rating", "overall"): 2,
        ("critique", "overall"): 1,
        ("good_bad", "overall"): 1,
        ("safety_flag", "safe"): 1,
    }
    levels = tables["rating", "overall"]
    assert [unit.context for unit in levels.units] == [(5,), (7,)]
    assert levels.scale == (1, 2, 3, 4, 5, 6, 7)
    assert levels.level == "ordinal"
    assert tables["critique", "overall"].scale == (1, 2, 3, 4)
    assert read_answers([]) == {}


def test_a_choice_is_on_the_scale_once_somebody_used_it():
    assert only([compare("mia", 1, "a")]).scale == ("a", "b")
    assert only([compare("mia", 1, "both_bad")]).scale == ("a", "b", "both_bad")
    assert only([compare("m", 1, "both_bad"), compare("m", 2, "tie")]).code("both_bad") == 3
    assert only([compare("mia", 1, "a")]).code("tie") == -1
    # Both thumbs are always on offer.
    assert only([thumb("mia", 1, True)]).scale == (False, True)


def test_the_last_answer_of_an_annotator_counts():
    entries = [compare("mia", 1, "a"), compare("ben", 1, "a"), compare("mia", 1, "tie")]
    unit = Unit("comparison", "overall", pair(1))
    assert told(only(entries)) == {(unit, "mia"): ("tie", -1), (unit, "ben"): ("a", -1)}
    first = rank("mia", {"x": 1, "y": 2})
    again = rank("mia", {"y": 1, "x": 2}, key="2")
    assert only([first, again]).value.tolist() == [1]


RANKINGS = st.lists(
    st.tuples(
        st.sampled_from(["mia", "ben", "ana"]),
        st.sampled_from([("p", "q"), ("p", "q", "r"), ("t", "s", "v", "u"), ("u", "t", "s", "v")]),
        st.lists(st.integers(1, 4), min_size=4, max_size=4),
    ),
    min_size=1,
    max_size=12,
)


@given(RANKINGS)
def test_a_ranking_is_an_answer_for_each_pair(rows):
    entries = [
        Ranking(annotator=who, samples=samples, ranks=tuple(ranks[: len(samples)]), key=str(i))
        for i, (who, samples, ranks) in enumerate(rows)
    ]
    slow = {}
    for entry in entries:
        place = dict(zip(entry.samples, entry.ranks, strict=True))
        for one, other in combinations(sorted(place), 2):
            lead = place[other] - place[one]
            value = "a" if lead > 0 else "b" if lead < 0 else "tie"
            unit = Unit("ranking", "overall", (one, other), tuple(sorted(place)))
            slow[unit, entry.annotator] = (value, -1)
    answers = only(entries)
    assert told(answers) == slow
    assert answers.num_questions == len({frozenset(entry.samples) for entry in entries})
    # Pairs of one question are numbered as one.
    together = {}
    for unit, question in zip(answers.units, answers.question.tolist(), strict=True):
        together.setdefault(question, set()).add(unit.context)
    assert all(len(contexts) == 1 for contexts in together.values())


def test_counts_and_weights():
    answers = only(
        [
            rank("mia", {"x": 1, "y": 2, "z": 3}),
            rank("ben", {"x": 1, "y": 1, "z": 2}),
            rank("mia", {"p": 2, "q": 1}),
        ]
    )
    # x over y, x over z, y over z; then p over q.
    assert answers.counts().tolist() == [[1, 0, 1], [2, 0, 0], [2, 0, 0], [0, 1, 0]]
    everything = answers.weights(np.ones(7, np.bool_))
    assert sorted(everything) == pytest.approx([1 / 3] * 6 + [1])
    # Of mia's first ranking two pairs, of ben's one, of her second none.
    mia = np.array([answers.names[a] == "mia" for a in answers.annotator])
    large = np.array([len(answers.units[u].context) == 3 for u in answers.unit])
    xy = np.array([answers.units[u].samples == ("x", "y") for u in answers.unit])
    chosen = large & (xy | mia) & ~(xy & mia)
    assert sorted(answers.weights(chosen)) == [0, 0, 0, 0, 0.5, 0.5, 1]
    alone = only([compare("mia", 1, "a"), compare("mia", 2, "b")])
    assert alone.weights(np.array([True, False])).tolist() == [1, 0]

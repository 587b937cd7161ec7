"""Where annotators contradict one another, and a confident reward model them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_crowd import compare, only, pair, rank, rate

from backflip.quality import Disagreement, Unit, contradictions, disagreements
from backflip.records.feedback import Comparison


def test_the_most_divided_come_first():
    votes = {
        0: {"mia": "a", "ben": "a", "ana": "b"},
        1: {"mia": "a", "ben": "a", "ana": "a"},
        2: {"mia": "b", "ben": "a"},
        3: {"mia": "b", "ben": "a", "ana": "tie"},
        4: {"mia": "b", "ben": "a", "ana": "b", "zoe": "a"},
        5: {"mia": "tie"},
    }
    entries = [compare(who, i, v) for i, each in votes.items() for who, v in each.items()]
    found = disagreements(only(entries))
    assert [row.unit.samples for row in found] == [pair(3), pair(4), pair(2), pair(0)]
    third = 1 / 3
    entropies = [np.log2(3), 1, 1, -third * np.log2(third) - 2 * third * np.log2(2 * third)]
    assert [row.entropy for row in found] == pytest.approx(entropies)
    assert [row.majority for row in found] == [None, None, None, "a"]
    assert found[3] == Disagreement(
        unit=Unit("comparison", "overall", pair(0)),
        votes=(("ana", "b"), ("ben", "a"), ("mia", "a")),
        entropy=found[3].entropy,
        majority="a",
    )
    assert disagreements(only(entries), limit=2) == found[:2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 3)), min_size=1))
def test_disagreements_hold_every_vote_of_every_divided_unit(rows):
    answers = only([rate(f"who-{w}", i, level) for i, w, level in rows])
    last = {(i, w): level for i, w, level in rows}
    expected = {}
    for (i, w), level in last.items():
        expected.setdefault(f"s{i:05d}", {})[f"who-{w}"] = level
    expected = {s: v for s, v in expected.items() if len(set(v.values())) > 1}
    found = disagreements(answers)
    assert {row.unit.samples[0]: dict(row.votes) for row in found} == expected
    assert all(a.entropy >= b.entropy - 1e-9 for a, b in pairwise(found))


def test_a_confident_model_contradicts_some_answers():
    scores = {"x": 0.0, "y": np.log(9) + 1e-9, "z": 3.0}
    entries = [
        Comparison(annotator="mia", samples=("x", "y"), choice="a"),  # 90% against
        Comparison(annotator="ben", samples=("y", "x"), choice="a"),  # with the model
        Comparison(annotator="ana", samples=("x", "y"), choice="tie"),
        Comparison(annotator="mia", samples=("y", "z"), choice="a"),  # against, 69%
        Comparison(annotator="mia", samples=("z", "x"), choice="b"),  # against, 95%
        Comparison(annotator="mia", samples=("x", "unscored"), choice="a"),
    ]
    found = contradictions(only(entries), scores)
    assert [(row.unit.samples, row.annotator, row.value) for row in found] == [
        (("x", "z"), "mia", "a"),
        (("x", "y"), "mia", "a"),
    ]
    assert [row.probability for row in found] == pytest.approx([1 / (1 + np.exp(-3)), 0.9])
    assert len(contradictions(only(entries), scores, threshold=0.901)) == 1
    assert len(contradictions(only(entries), scores, threshold=0.6)) == 3
    assert contradictions(only(entries), scores, limit=1) == found[:1]


def test_pairs_of_rankings_are_contradicted_too():
    answers = only([rank("mia", {"x": 1, "y": 2, "z": 2})])
    found = contradictions(answers, {"x": 0.0, "y": 5.0, "z": -5.0})
    assert [(row.unit.samples, row.value) for row in found] == [(("x", "y"), "a")]


@pytest.mark.parametrize("threshold", [0.5, 1.0, 0.0, 90])
def test_what_is_no_threshold(threshold):
    with pytest.raises(ValueError, match="threshold"):
        contradictions(only([compare("mia", 0, "a")]), {}, threshold=threshold)


def test_a_rating_compares_nothing():
    with pytest.raises(ValueError, match="rating"):
        contradictions(only([rate("mia", 0, 1)]), {})

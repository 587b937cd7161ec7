"""Agreement against published values and a slow twin."""

from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backflip.quality.reliability import krippendorff_alpha, measure_agreement, raw_agreement
from backflip.records.feedback import Comparison, Critique, Demonstration, GoodBad, Rating

# Krippendorff (2011), sections B (two observers, binary) and C/D (four observers, five values,
# missing data).
BINARY = list(zip([0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0], strict=True))
FOUR = [
    [v for v in unit if v is not None]
    for unit in zip(
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
        strict=True,
    )
]


def test_alpha_of_two_observers_is_the_published_one() -> None:
    assert krippendorff_alpha(BINARY) == pytest.approx(0.095, abs=5e-4)


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_four_observers_is_the_published_one(level: str, published: float) -> None:
    assert krippendorff_alpha(FOUR, level=level) == pytest.approx(published, abs=5e-4)


def slow_alpha(units: list[list[int]], level: str) -> float:
    """Alpha from pairs of answers: within units, and among all answers that have a partner."""
    shared = [unit for unit in units if len(unit) > 1]
    everything = [value for unit in shared for value in unit]

    def distance(c: int, k: int) -> float:
        if level == "nominal":
            return float(c != k)
        if level == "interval":
            return float((c - k) ** 2)
        low, high = min(c, k), max(c, k)
        between = sum(1 for v in everything if low <= v <= high)
        ends = (everything.count(c) + everything.count(k)) / 2
        return float((between - ends) ** 2) if c != k else 0.0

    observed = sum(
        2 * sum(distance(c, k) for c, k in combinations(unit, 2)) / (len(unit) - 1)
        for unit in shared
    ) / len(everything)
    pairs = len(everything) * (len(everything) - 1) / 2
    expected = sum(distance(c, k) for c, k in combinations(everything, 2)) / pairs
    return 1 - observed / expected


@given(
    st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=8),
    st.sampled_from(["nominal", "ordinal", "interval"]),
)
def test_alpha_equals_its_slow_twin(units: list[list[int]], level: str) -> None:
    assume(len({v for unit in units if len(unit) > 1 for v in unit}) > 1)
    assert krippendorff_alpha(units, level=level) == pytest.approx(slow_alpha(units, level))


def test_nothing_to_compare_gives_no_number() -> None:
    assert krippendorff_alpha([[1], [2], []]) is None
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None
    assert raw_agreement([["a"], []]) is None


def test_raw_agreement_is_the_share_of_equal_pairs() -> None:
    # Three answers make three pairs, one of them equal; two equal answers make one.
    assert raw_agreement([["a", "a", "b"], ["c", "c"], ["d"]]) == 2 / 4


def test_entries_are_grouped_by_kind_axis_and_item() -> None:
    entries = [
        Comparison(annotator="mia", samples=("x", "y"), choice="a"),
        Comparison(annotator="ben", samples=("y", "x"), choice="b"),
        Comparison(annotator="mia", samples=("v", "w"), choice="a"),
        Comparison(annotator="ben", samples=("v", "w"), choice="b"),
        Comparison(annotator="mia", samples=("v", "w"), choice="b", axis="safe"),
        GoodBad(annotator="mia", sample="x", good=True),
        GoodBad(annotator="ben", sample="x", good=True),
        Demonstration(annotator="mia", sample="z"),
    ]
    found = {(a.kind, a.axis): a for a in measure_agreement(entries)}
    assert set(found) == {
        ("comparison", "overall"),
        ("comparison", "safe"),
        ("good_bad", "overall"),
    }
    overall = found["comparison", "overall"]
    assert (overall.num_units, overall.num_pairs, overall.raw) == (2, 2, 0.5)
    # Both chose x; on v and w they differ: values a a | a b, alpha = 1 - 3 * 2 / (2 * 3 * 1).
    assert overall.alpha == pytest.approx(0.0)
    assert found["comparison", "safe"].raw is None
    assert found["good_bad", "overall"].raw == 1.0
    assert found["good_bad", "overall"].alpha is None


def test_levels_are_ordered_and_unread_critiques_left_out() -> None:
    def rate(who: str, sample: str, level: int) -> Rating:
        return Rating(annotator=who, sample=sample, level=level)

    near = [rate("mia", str(i), i) for i in range(1, 6)]
    near += [rate("ben", str(i), min(i + 1, 5)) for i in range(1, 6)]
    (ratings,) = measure_agreement([*near, Critique(annotator="mia", sample="1", text="Dull.")])
    units = [[i, min(i + 1, 5)] for i in range(1, 6)]
    assert ratings.alpha == pytest.approx(slow_alpha(units, "ordinal"))
    assert ratings.alpha > krippendorff_alpha(units)
    assert ratings.raw == 1 / 5


def test_the_last_of_an_annotators_answers_counts() -> None:
    entries = [
        GoodBad(annotator="mia", sample="x", good=False, key="1"),
        GoodBad(annotator="ben", sample="x", good=True),
        GoodBad(annotator="mia", sample="x", good=True, key="2"),
    ]
    (thumbs,) = measure_agreement(entries)
    assert (thumbs.num_pairs, thumbs.raw) == (1, 1.0)

"""Win rates and their intervals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.evaluation import clustered_interval, outcomes, win_rate

numbers = st.floats(-10, 10, allow_nan=False)


def test_higher_wins_equal_counts_half():
    assert outcomes([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]).tolist() == [0.0, 0.5, 1.0]
    assert outcomes([2.05], [2.0], tie=0.1).tolist() == [0.5]


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30))
def test_both_sides_win_rates_add_up_to_one(pairs):
    ours, theirs = zip(*pairs, strict=True)
    there = win_rate(ours, theirs, len(pairs))
    back = win_rate(theirs, ours, len(pairs))
    assert there.value + back.value == pytest.approx(1)
    assert there.low == pytest.approx(1 - back.high)
    assert there.low <= there.value <= there.high


def test_interval_is_wilsons_and_keeps_a_width_when_all_is_won():
    won = win_rate([1.0] * 50, [0.0] * 50, 50)
    z = 1.959963984540054
    assert won.high == pytest.approx(1)
    assert won.low == pytest.approx(1 / (1 + z**2 / 50), abs=1e-6)


def test_more_samples_of_the_same_prompts_do_not_narrow_the_interval():
    few = win_rate([1.0, 0.0], [0.0, 1.0], 2)
    many = win_rate([1.0, 0.0] * 10, [0.0, 1.0] * 10, 2)
    assert (many.low, many.high) == pytest.approx((few.low, few.high))


def test_bootstrap_agrees_with_the_standard_error_of_independent_values():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, 400)
    found = clustered_interval(values, [str(i) for i in range(400)])
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    assert found.value - found.low == pytest.approx(half, rel=0.1)


def test_copies_within_a_cluster_add_no_certainty():
    rng = np.random.default_rng(1)
    values = rng.normal(size=100)
    names = [str(i) for i in range(100)]
    once = clustered_interval(values, names)
    copied = clustered_interval(np.repeat(values, 5), np.repeat(names, 5))
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=1e-9)
    alone = clustered_interval(np.repeat(values, 5), [str(i) for i in range(500)])
    assert alone.high - alone.low < 0.6 * (once.high - once.low)


def test_confidence_and_seed_matter_and_the_same_seed_does_not():
    values, names = [0.0, 1.0, 1.0, 3.0, 9.0], list("abcde")
    wide = clustered_interval(values, names, confidence=0.99)
    usual = clustered_interval(values, names)
    assert wide.high - wide.low > usual.high - usual.low
    assert usual == clustered_interval(values, names)
    assert clustered_interval(values, names, seed=1) != usual or usual.low == min(values)


def test_nothing_has_no_mean():
    with pytest.raises(ValueError, match="nothing"):
        clustered_interval([], [])

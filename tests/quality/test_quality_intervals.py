"""Paired differences and the sign test; Wilson's interval is tested with reward accuracy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from backflip.statistics import (
    MIN_ANSWERS,
    MIN_GOLD,
    Withheld,
    paired_difference,
    sign_test,
    wilson,
)
from backflip.statistics.figures import share_of
from backflip.statistics.intervals import quantile


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_quantile_is_the_normal_one(confidence):
    assert quantile(confidence) == pytest.approx(norm.ppf(0.5 + confidence / 2), abs=1e-12)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0])
def test_what_is_no_confidence(confidence):
    with pytest.raises(ValueError, match="confidence"):
        quantile(confidence)


@pytest.mark.parametrize(("more", "less", "same"), [(30, 10, 60), (0, 0, 40), (25, 0, 0)])
def test_paired_difference_is_bonett_and_prices(more, less, same):
    """Their equation: p = (n12 + 1) / (n + 2), q = (n21 + 1) / (n + 2), var = p + q - (p - q)^2."""
    count = more + less + same
    found = paired_difference(more - less, more + less, count, 0.9)
    p, q = (more + 1) / (count + 2), (less + 1) / (count + 2)
    half = norm.ppf(0.95) * np.sqrt((p + q - (p - q) ** 2) / (count + 2))
    assert found.value == (more - less) / count
    assert found.low == pytest.approx(max(p - q - half, -1))
    assert found.high == pytest.approx(min(p - q + half, 1))
    assert found.low < found.high


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.floats(0.01, 0.999))
def test_paired_difference_holds_its_value_and_turns_with_its_sign(differences, confidence):
    array = np.array(differences)
    found = paired_difference(array.sum(), (array**2).sum(), len(array), confidence)
    turned = paired_difference(-array.sum(), (array**2).sum(), len(array), confidence)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_paired_difference_covers():
    """Own choice 0 or 1 less the share of two others; the mean is known."""
    rng = np.random.default_rng(0)
    own, others, count, runs = 0.7, 0.5, 40, 2000
    covered = 0
    for _ in range(runs):
        differences = (rng.random(count) < own) - (rng.random((count, 2)) < others).mean(1)
        found = paired_difference(differences.sum(), (differences**2).sum(), count)
        covered += found.low <= own - others <= found.high
    assert 0.93 < covered / runs < 0.985


@given(st.integers(1, 400), st.floats(0, 1))
def test_sign_test_is_the_binomial_one(count, share):
    successes = round(share * count)
    assert sign_test(successes, count) == pytest.approx(binomtest(successes, count).pvalue)


def test_sign_test_of_many_answers():
    assert sign_test(250_000, 500_000) == pytest.approx(1)
    assert sign_test(251_000, 500_000) == pytest.approx(binomtest(251_000, 500_000).pvalue)
    assert sign_test(0, 500_000) == 0


def test_a_share_is_shown_from_the_threshold_on():
    assert share_of(3, 9, minimum=10, of="gold questions answered") == Withheld(
        "fewer than 10 gold questions answered", 9
    )
    assert share_of(3, 10, minimum=10, of="", confidence=0.9) == wilson(3, 10, 0.9)


def test_thresholds_do_what_their_reasons_say():
    assert MIN_ANSWERS == 20
    assert wilson(5, MIN_ANSWERS).high < 0.5 < wilson(6, MIN_ANSWERS).high
    assert MIN_GOLD == 10
    assert wilson(MIN_GOLD, MIN_GOLD).low == pytest.approx(0.72, abs=0.005)
    assert wilson(MIN_GOLD / 2, MIN_GOLD).high == pytest.approx(0.76, abs=0.005)

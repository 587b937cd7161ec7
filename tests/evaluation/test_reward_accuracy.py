"""Accuracy and calibration of reward models, by hand and against scipy and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from backflip.evaluation.reward import (
    LENGTH_BINS,
    Pairs,
    calibration,
    decided_pairs,
    length_bins,
    reward_accuracy,
    wilson,
)
from backflip.records.feedback import Comparison, Correction, GoodBad, Implicit, Ranking

SCORES = {"a": 2.0, "b": 1.0, "c": 0.0, "d": 0.0}
LENGTHS = {"a": 100, "b": 40, "c": 96, "d": 0}


def comparison(x, y, choice, annotator="ann", strength=0):
    return Comparison(annotator=annotator, samples=(x, y), choice=choice, strength=strength)


ENTRIES = [
    comparison("a", "b", "a", strength=3),  # right, longer sample preferred
    comparison("a", "b", "b", "bob", strength=1),  # wrong, shorter
    comparison("c", "d", "a", "bob"),  # equal scores
    comparison("a", "c", "tie"),  # decides nothing
    comparison("a", "c", "both_bad"),
    GoodBad(annotator="ann", sample="a", good=True),
    Ranking(annotator="cy", samples=("c", "a", "b"), ranks=(1, 1, 2)),  # c>b wrong, a>b right
    Correction(annotator="ann", sample="b", corrected="c"),  # wrong
    Implicit(annotator="ann", sample="b", signal="abandoned", over="a"),  # right
]


class TestAccuracy:
    def test_by_hand(self):
        found = reward_accuracy(decided_pairs(ENTRIES, SCORES, lengths=LENGTHS))
        shares = {
            "overall": found.overall,
            **{f"strength {k}": v for k, v in found.by_strength.items()},
            **found.by_length,
            **found.by_annotator,
            **{f"kind {k}": v for k, v in found.by_kind.items()},
        }
        # name: (right answers, answers)
        expected = {
            "overall": (1 + 0 + 0.5 + 0.5 + 0 + 1, 6),
            "strength 0": (0.5 + 0.5 + 0 + 1, 4),
            "strength 1": (0, 1),
            "strength 3": (1, 1),
            # a over b twice and a half (once as one of two pairs), c over b once and a half,
            # c over d once: all much longer; b over a: much shorter.
            "much longer": (1 + 1 + 0.5 + 0 + 0 + 0.5, 5),
            "much shorter": (0, 1),
            "ann": (2, 3),
            "bob": (0.5, 2),
            "cy": (0.5, 1),
            "kind comparison": (1.5, 3),
            "kind ranking": (0.5, 1),
            "kind correction": (0, 1),
            "kind implicit": (1, 1),
        }
        assert shares.keys() == expected.keys()
        for name, (right, count) in expected.items():
            assert shares[name] == wilson(right, count), name

    def test_confidence_widens_the_interval(self):
        pairs = decided_pairs(ENTRIES, SCORES)
        narrow, wide = (reward_accuracy(pairs, confidence=c).overall for c in (0.5, 0.99))
        assert wide.low < narrow.low < narrow.value < narrow.high < wide.high

    def test_lengths_may_be_unknown(self):
        assert reward_accuracy(decided_pairs(ENTRIES, SCORES)).by_length == {}

    def test_without_decided_pairs_there_is_nothing_to_measure(self):
        pairs = decided_pairs(ENTRIES[3:6], {})
        assert len(pairs) == 0
        assert reward_accuracy(pairs) is None
        assert calibration(pairs) is None

    def test_a_sample_without_a_score_is_a_fault(self):
        with pytest.raises(KeyError, match="d"):
            decided_pairs(ENTRIES, {k: SCORES[k] for k in "abc"})

    def test_length_bins_are_symmetric_and_take_their_inner_ends(self):
        differences = np.array([-1, -0.51, -0.5, -0.11, -0.1, 0, 0.1, 0.11, 0.5, 0.51, 1])
        names = [LENGTH_BINS[i] for i in length_bins(differences)]
        much, some, alike = "much shorter", "shorter", "similar"
        assert names[:5] == [much, much, some, some, alike]
        mirrored = [name.replace("shorter", "longer") for name in names[:6]]
        assert names[:4:-1] == mirrored


class TestWilson:
    @given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
    def test_against_scipy(self, count, share, confidence):
        successes = round(share * count)
        interval = binomtest(successes, count).proportion_ci(confidence, method="wilson")
        found = wilson(successes, count, confidence)
        assert found.value == successes / count
        assert (found.low, found.high) == pytest.approx(tuple(interval), abs=1e-12)

    @pytest.mark.parametrize("bad", [(1, 0), (3, 2), (-1, 2), (1, 2, 1.0), (1, 2, 0.0)])
    def test_what_is_no_share(self, bad):
        with pytest.raises(ValueError, match="at confidence"):
            wilson(*bad)


def pairs_of(margins, betas=None, weights=None):
    count = len(margins)
    ones = np.ones(count)
    return Pairs(
        margins=np.array(margins, float),
        betas=ones if betas is None else np.array(betas, float),
        weights=ones if weights is None else np.array(weights, float),
        lengths=ones * np.nan,
        strengths=np.zeros(count, int),
        annotators=np.array(["ann"] * count),
        kinds=np.array(["comparison"] * count),
    )


class TestCalibration:
    def test_by_hand(self):
        logit = lambda p: math.log(p / (1 - p))  # noqa: E731
        # Sure by 0.63, 0.67, 0.94; right, wrong (by its sign), right.
        found = calibration(pairs_of([logit(0.63), -logit(0.67), logit(0.94)]), bins=5)
        low, high = found.table
        assert (low.low, low.high, high.low, high.high) == pytest.approx((0.6, 0.7, 0.9, 1.0))
        assert (low.predicted, high.predicted) == pytest.approx((0.65, 0.94))
        assert (low.observed, high.observed) == (wilson(1, 2), wilson(1, 1))
        assert found.error == pytest.approx(2 / 3 * 0.15 + 1 / 3 * 0.06)
        assert found.brier == pytest.approx((0.37**2 + 0.67**2 + 0.06**2) / 3)
        assert found.nll == pytest.approx(-math.log(0.63 * 0.33 * 0.94) / 3)

    def test_reliabilities_say_how_sure_the_model_is_of_whom(self):
        entries = [comparison("a", "b", "a", who) for who in ("ann", "stranger")]
        pairs = decided_pairs(entries, SCORES, reliabilities={"ann": 3.0})
        found = calibration(pairs, bins=50)
        sure = [1 / (1 + math.exp(-beta * 1.0)) for beta in (1.0, 3.0)]
        assert [b.predicted for b in found.table] == pytest.approx(sure)

    def test_weights_count_as_repetitions(self):
        margins = [0.3, -1.0, 2.0, 0.0]
        weighted = calibration(pairs_of(margins, weights=[1, 2, 3, 1]))
        repeated = calibration(pairs_of(np.repeat(margins, [1, 2, 3, 1])))
        for name in ("error", "brier", "nll"):
            assert getattr(weighted, name) == pytest.approx(getattr(repeated, name))
        assert [b.observed for b in weighted.table] == [b.observed for b in repeated.table]

    @pytest.mark.parametrize(("scale", "calibrated"), [(1.0, True), (4.0, False), (0.2, False)])
    def test_a_model_that_knows_the_truth_is_calibrated_and_one_too_sure_is_not(
        self, scale, calibrated
    ):
        rng = np.random.default_rng(0)
        gaps = rng.normal(scale=1.5, size=20_000)
        preferred = rng.random(len(gaps)) < 1 / (1 + np.exp(-gaps))
        margins = np.where(preferred, gaps, -gaps)
        found = calibration(pairs_of(scale * margins))
        assert (found.error < 0.015) == calibrated
        inside = [b.observed.low <= b.predicted <= b.observed.high for b in found.table]
        assert (sum(inside) >= len(inside) - 2) == calibrated

    def test_extreme_scores_stay_finite_and_in_the_table(self):
        found = calibration(pairs_of([1e4, -1e4, 0.0]))
        assert found.nll == pytest.approx((1e4 + math.log(2)) / 3)
        assert sum(b.observed.count for b in found.table) == 3
        with pytest.raises(ValueError, match="0 bins"):
            calibration(pairs_of([1.0]), bins=0)

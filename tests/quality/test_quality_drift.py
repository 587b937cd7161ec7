"""Drift on anchors: found where planted, absent where answers are only noisy."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_crowd import compare, only, pair, rank, rate

from backflip.quality import Unit, measure_drift
from backflip.quality.reliability import krippendorff_alpha, raw_agreement
from backflip.statistics import Withheld, wilson


def one(rounds, seed=0, **more):
    (drift,) = measure_drift(rounds, np.random.default_rng(seed), **more)
    return drift


def noisy(rng, true, people, right=0.75):
    """Answers of these annotators to every pair, right so often."""
    return [
        compare(who, i, "ab"[t if rng.random() < right else 1 - t])
        for i, t in enumerate(true)
        for who in people
    ]


def votes(entries):
    found = {}
    for entry in entries:
        found.setdefault(entry.samples, {})[entry.annotator] = entry.choice
    return found


@given(st.integers(0, 2**32), st.booleans())
def test_drift_equals_its_slow_twin(seed, unequal):
    rng = np.random.default_rng(seed)
    people = ["mia", "ben", "ana", "zoe"]

    def answers(num):
        return [
            compare(who, i, ["a", "b", "tie"][rng.integers(0, 3)])
            for i in range(num)
            for who in people
            if not unequal or rng.random() < 0.7
        ]

    rounds = [answers(45), answers(40)]
    drift = one(rounds, num_resamples=50)
    early, late = votes(rounds[0]), votes(rounds[1])
    shared = sorted(early.keys() & late.keys())
    assert drift.num_anchors == len(shared)
    within, across, moved = [], [], []
    kept = {who: [] for who in people}
    for unit in shared:
        for given_ in (early[unit], late[unit]):
            within += [x == y for x, y in combinations(given_.values(), 2)]
        for (who, x), (other, y) in product(early[unit].items(), late[unit].items()):
            (kept[who] if who == other else across).append(x == y)
        tops = []
        for given_ in (early[unit], late[unit]):
            told = list(given_.values())
            tally = sorted(((told.count(v), v) for v in set(told)), reverse=True)
            alone = len(tally) == 1 or tally[0][0] > tally[1][0]
            tops.append(tally[0][1] if alone else None)
        if None not in tops:
            moved.append(tops[0] != tops[1])
    units = [[list(r[unit].values()) for unit in shared] for r in (early, late)]
    assert drift.shift.value == pytest.approx(np.mean(within) - np.mean(across))
    assert drift.raw_change.value == pytest.approx(
        raw_agreement(units[1]) - raw_agreement(units[0])
    )
    assert drift.alpha_change.value == pytest.approx(
        krippendorff_alpha(units[1]) - krippendorff_alpha(units[0])
    )
    assert drift.changed.count == len(moved)
    if len(moved) >= 20:
        assert drift.changed == wilson(sum(moved), len(moved))
    for who, same in kept.items():
        assert drift.consistency[who].count == len(same)
        if len(same) >= 20:
            assert drift.consistency[who] == wilson(sum(same), len(same))


def test_noise_alone_is_no_drift():
    """Majorities change and nobody is consistent, and still there is no shift."""
    shifts, changes = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        true = rng.integers(0, 2, 60)
        people = ["mia", "ben", "ana"]
        drift = one([noisy(rng, true, people), noisy(rng, true, people)], seed)
        assert drift.changed.low > 0
        shifts.append(drift.shift.low <= 0 <= drift.shift.high)
        changes.append(drift.raw_change.low <= 0 <= drift.raw_change.high)
    assert np.mean(shifts) >= 0.85
    assert np.mean(changes) >= 0.85


def test_a_planted_shift_is_found():
    """A third of the anchors is judged the other way from the second round on."""
    rng = np.random.default_rng(1)
    true = rng.integers(0, 2, 300)
    turned = np.where(rng.random(300) < 1 / 3, 1 - true, true)
    people = ["mia", "ben", "ana"]
    drift = one([noisy(rng, true, people, 0.9), noisy(rng, turned, people, 0.9)])
    # Within: .9 .9 + .1 .1 = .82; across it is .18 on a third: .82 - (2/3 .82 + 1/3 .18) = .2133.
    moved = (turned != true).mean()
    assert drift.shift.low < moved * 0.64 < drift.shift.high
    assert drift.shift.low > 0.1
    assert drift.changed.low < 1 / 3 < drift.changed.high
    assert drift.raw_change.low < 0 < drift.raw_change.high


def test_agreement_that_falls_is_a_change_without_a_shift_of_meaning():
    rng = np.random.default_rng(2)
    true = rng.integers(0, 2, 200)
    people = ["mia", "ben", "ana"]
    drift = one([noisy(rng, true, people, 0.95), noisy(rng, true, people, 0.65)])
    # .95 .95 + .05 .05 = .905; .65 .65 + .35 .35 = .545.
    assert drift.raw_change.low < 0.545 - 0.905 < drift.raw_change.high < 0
    assert drift.alpha_change.low < 2 * (0.545 - 0.905) < drift.alpha_change.high < 0


def test_few_anchors_say_so():
    entries = [compare(who, i, "ab"[i % 2]) for i in range(19) for who in ("mia", "ben")]
    again = [*entries, compare("mia", 77, "a")]
    drift = one([entries, again])
    assert drift.num_anchors == 19
    assert drift.changed == Withheld("fewer than 20 anchors with a majority in both rounds", 19)
    assert drift.raw_change == Withheld("fewer than 20 anchors answered twice in both rounds", 19)
    assert drift.alpha_change == drift.raw_change
    assert isinstance(drift.shift, Withheld)
    assert drift.consistency["mia"] == Withheld("fewer than 20 anchors answered in both rounds", 19)


def test_one_voice_in_both_rounds_is_no_change_with_an_interval():
    entries = [compare(who, i, "ab"[i % 2]) for i in range(50) for who in ("mia", "ben", "ana")]
    drift = one([entries, entries])
    assert drift.changed == wilson(0, 50)
    assert drift.consistency["ben"] == wilson(50, 50)
    for figure in (drift.raw_change, drift.alpha_change, drift.shift):
        assert figure.value == 0
        assert -0.2 < figure.low < 0 < figure.high < 0.2


def test_one_annotator_alone_shows_no_shift_but_consistency():
    early = [compare("mia", i, "a") for i in range(40)]
    late = [compare("mia", i, "ab"[i % 4 == 0]) for i in range(40)]
    drift = one([early, late])
    assert drift.consistency == {"mia": wilson(30, 40)}
    assert drift.changed == wilson(10, 40)
    assert drift.shift.count == 0
    assert drift.raw_change.count == 0


def test_a_change_of_agreement_needs_agreement_in_both_rounds():
    early = [compare(who, i, "ab"[i % 2]) for i in range(40) for who in ("mia", "ben")]
    drift = one([early, [entry for entry in early if entry.annotator == "mia"]])
    assert drift.raw_change == Withheld("fewer than 20 anchors answered twice in both rounds", 0)
    # Ben's earlier answers stand beside mia's later ones, and the two agreed before.
    assert (drift.shift.value, drift.shift.count) == (0, 40)


def test_rounds_are_compared_one_by_one_on_what_they_share():
    def answers(units, axis="overall"):
        return [compare(who, i, "a", axis=axis) for i in units for who in ("mia", "ben")]

    rounds = [answers(range(30)), answers(range(20, 60)), answers(range(25, 45)), answers([1])]
    rounds[1] += answers(range(9), "safe")
    rounds[2] += answers(range(5, 12), "safe")
    found = measure_drift(rounds, np.random.default_rng(0))
    assert [(d.axis, d.earlier, d.later, d.num_anchors) for d in found] == [
        ("overall", 0, 1, 10),
        ("overall", 1, 2, 20),
        ("safe", 1, 2, 4),
    ]
    anchors = {Unit("comparison", "overall", pair(i)) for i in range(30, 33)}
    found = measure_drift(rounds, np.random.default_rng(0), anchors=anchors)
    assert [(d.earlier, d.later, d.num_anchors) for d in found] == [(1, 2, 3)]


def test_scales_that_grow_are_one():
    early = [compare(who, i, "a") for i in range(30) for who in ("mia", "ben")]
    late = [compare(who, i, "tie" if i < 12 else "a") for i in range(30) for who in ("mia", "ben")]
    assert one([early, late]).changed == wilson(12, 30)
    assert one([late, early]).changed == wilson(12, 30)
    worst = [compare(e.annotator, i // 2, "both_bad") for i, e in enumerate(late[:10])]
    assert one([late[:10] + late[24:], worst + late[24:]]).num_anchors == 23
    # Neither round has every choice of the other.
    assert one([late[:10] + late[24:], worst + late[24:]]).changed == wilson(5, 23)
    rated = [rate(who, i, 1 + i % 3, num_levels=5) for i in range(30) for who in ("mia", "ben")]
    longer = [*rated, rate("mia", 900, 7, num_levels=7)]
    assert one([rated, longer]).changed == wilson(0, 30)
    assert one([longer, rated]).consistency["mia"] == wilson(30, 30)


def test_rankings_count_as_questions():
    def answers(turned):
        entries = []
        for i in range(24):
            x, y, z = (f"q{i}-{j}" for j in range(3))
            order = {x: 1, y: 3, z: 2} if i < turned else {x: 1, y: 2, z: 3}
            entries += [rank(who, order) for who in ("mia", "ben")]
        return entries

    drift = one([answers(0), answers(12)])
    assert drift.num_anchors == 24
    # One pair of three changed in half of the questions.
    assert drift.changed.count == 24
    assert drift.changed.value == pytest.approx(1 / 6)
    assert drift.consistency["mia"].value == pytest.approx(5 / 6)
    assert drift.consistency["mia"].count == 24
    assert drift.raw_change.count == 24


def test_same_seed_same_drift_and_settings_reach_the_intervals():
    rng = np.random.default_rng(8)
    true = rng.integers(0, 2, 60)
    rounds = [noisy(rng, true, ["mia", "ben", "ana"]) for _ in range(2)]
    assert one(rounds) == one(rounds)
    assert one(rounds, seed=1).shift.low != one(rounds).shift.low

    def widths(**more):
        drift = one(rounds, **more)
        figures = (drift.changed, drift.shift, drift.raw_change, drift.consistency["mia"])
        return np.array([figure.high - figure.low for figure in figures])

    assert (widths(confidence=0.99) > 1.1 * widths(confidence=0.9)).all()
    assert widths(num_resamples=100)[1] != widths(num_resamples=200)[1]
    assert len(only(rounds[0])) == 180

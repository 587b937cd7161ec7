"""What is said of each annotator: planted habits are found, and nobody else's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_crowd import compare, only, pair, rank, rate, thumb

from backflip.quality import (
    Quartiles,
    Unit,
    comparison_habits,
    expected_answers,
    measure_annotators,
    measure_times,
    peer_agreement,
    read_answers,
)
from backflip.records.feedback import Comparison, Demonstration
from backflip.statistics import Estimate, Withheld, wilson


def everyone(entries, **more):
    rows = measure_annotators(entries, read_answers(entries), **more)
    return {row.annotator: row for row in rows}


# Agreement with the others.


def test_agreement_with_peers_by_hand():
    # Of every four pairs: mia a a a a, ben a a b b, ana a b b tie; and ana alone on others.
    votes = {"mia": "aaaa", "ben": "aabb", "ana": ["a", "b", "b", "tie"]}
    entries = [compare(who, i, v[i % 4]) for who, v in votes.items() for i in range(40)]
    entries += [compare("ana", i, "a") for i in range(100, 130)]
    found = peer_agreement(only(entries))
    # Pairs with others: mia (2 + 1 + 0 + 0) / 8, ben (2 + 1 + 1 + 0) / 8, ana (2 + 0 + 1 + 0) / 8.
    assert found["mia"].pairwise == wilson(40 * 3 / 8, 40)
    assert found["ben"].pairwise == wilson(40 * 4 / 8, 40)
    assert found["ana"].pairwise == wilson(40 * 3 / 8, 40)
    # The other two agree: for mia on the 1st and 3rd, for ben on the 1st, for ana on 1st and 2nd.
    assert found["mia"].with_majority == wilson(10, 20)
    assert isinstance(found["ben"].with_majority, Withheld)
    assert found["ben"].with_majority.count == 10
    assert found["ana"].with_majority == wilson(10, 20)
    assert [found[who].num_answers for who in ("mia", "ben", "ana")] == [40, 40, 70]


@given(st.integers(0, 2**32))
def test_agreement_with_peers_equals_its_slow_twin(seed):
    rng = np.random.default_rng(seed)
    votes = {
        (w, i): int(rng.integers(1, 4))
        for i in range(60)
        for w in rng.choice(5, rng.integers(1, 5), replace=False)
    }
    entries = [rate(f"who-{w}", i, level) for (w, i), level in votes.items()]
    found = peer_agreement(only(entries))
    for who in {w for w, _ in votes}:
        pairwise, majority = [], []
        for (w, i), level in votes.items():
            others = [v for (w2, i2), v in votes.items() if i2 == i and w2 != w]
            if w != who or not others:
                continue
            pairwise.append(others.count(level) / len(others))
            tallies = sorted((others.count(v) for v in set(others)), reverse=True)
            if len(tallies) == 1 or tallies[0] > tallies[1]:
                majority.append(others.count(level) == tallies[0])
        row = found[f"who-{who}"]
        for figure, slow in ((row.pairwise, pairwise), (row.with_majority, majority)):
            assert figure.count == len(slow)
            if len(slow) >= 20:
                assert figure.value == pytest.approx(np.mean(slow))
            else:
                assert isinstance(figure, Withheld)


def test_a_ranking_counts_as_one_answer():
    entries = []
    for i in range(25):
        x, y, z = (f"q{i}-{j}" for j in range(3))
        entries += [rank("mia", {x: 1, y: 2, z: 3}), rank("ben", {x: 1, y: 3, z: 2})]
    found = peer_agreement(only(entries))["mia"]
    # Two of three pairs are alike, in each of 25 rankings.
    assert found.pairwise.count == 25
    assert found.pairwise.value == pytest.approx(2 / 3)
    assert found.num_answers == 75


def test_what_others_did_not_answer_says_nothing():
    found = peer_agreement(only([thumb("mia", i, True) for i in range(50)]))
    assert found["mia"].pairwise == Withheld("fewer than 20 answers to what others answered too", 0)


# Habits.


def choose(rng, *, num_pairs, biases, seen_first=0.5, quality=1.0, words=None, longer=0.0):
    """Comparisons of pairs with a better sample, by logits.

    A bias adds to the logit of the sample shown first, and `longer` to mia's of the longer one by
    (P, 2) `words`. The better sample is shown first with probability `seen_first`.
    """
    entries = []
    better = rng.integers(0, 2, num_pairs)
    lead = np.zeros(num_pairs) if words is None else np.sign(words[:, 0] - words[:, 1])
    for who, bias in biases.items():
        seen = np.where(rng.random(num_pairs) < seen_first, better, 1 - better)
        lean = quality * (1 - 2 * better) + bias * (1 - 2 * seen)
        lean = lean + lead * (longer if who == "mia" else 0.0)
        chose = np.where(rng.random(num_pairs) < 1 / (1 + np.exp(-lean)), 0, 1)
        entries += [compare(who, i, "ab"[chose[i]], seen=int(seen[i])) for i in range(num_pairs)]
    return entries


def test_a_planted_position_bias_is_found_and_nobody_elses():
    # P(first) with logits 0.8 +- 0.5, the better sample being first half of the time.
    true = (1 / (1 + np.exp(-1.3)) + 1 / (1 + np.exp(-0.3))) / 2
    held, found, blamed = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        biases = {"mia": 0.8, "ben": 0.0, "ana": 0.0}
        habits = comparison_habits(only(choose(rng, num_pairs=300, biases=biases, quality=0.5)))
        first = habits["mia"].first
        assert (first.share.count, first.others.count, first.paired.count) == (300, 600, 300)
        held += [
            first.share.low < true < first.share.high,
            first.paired.low < true - 0.5 < first.paired.high,
            first.others.low < 0.5 < first.others.high,
        ]
        found += [first.p_value < 0.001, first.paired.low > 0]
        blamed += [habits[who].first.p_value < 0.05 for who in ("ben", "ana")]
    assert np.mean(held) > 0.85
    assert np.mean(found) > 0.95
    assert np.mean(blamed) < 0.15


def test_the_paired_difference_is_not_misled_by_an_order_that_was_not_drawn_by_lot():
    """The better sample mostly stands first: all choose it, none for its place."""
    rng = np.random.default_rng(1)
    biases = {"mia": 0.0, "ben": 0.0, "ana": 0.0}
    entries = choose(rng, num_pairs=600, biases=biases, seen_first=0.8, quality=1.5)
    habits = comparison_habits(only(entries))["mia"].first
    assert habits.share.low > 0.55
    assert habits.p_value < 1e-6
    assert habits.paired.low < 0 < habits.paired.high


def test_paired_intervals_of_a_fair_annotator_hold_zero_as_often_as_they_should():
    rng = np.random.default_rng(2)
    held = []
    for _ in range(60):
        entries = choose(rng, num_pairs=30, biases={"mia": 0.0, "ben": 0.0, "ana": 0.0})
        held.append(
            [
                habits.first.paired.low <= 0 <= habits.first.paired.high
                for habits in comparison_habits(only(entries)).values()
            ]
        )
    assert np.mean(held) > 0.9


def test_a_planted_length_bias_is_found():
    true = 1 / (1 + np.exp(-0.8))
    held, found, blamed = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        words = rng.integers(5, 300, (300, 2))
        biases = {"mia": 0.0, "ben": 0.0, "ana": 0.0}
        entries = choose(rng, num_pairs=300, biases=biases, quality=0.3, words=words, longer=0.8)
        lengths = dict(zip([s for i in range(300) for s in pair(i)], words.ravel(), strict=True))
        habits = comparison_habits(only(entries), lengths)
        longer = habits["mia"].longer
        held += [
            longer.share.low - 0.01 < true < longer.share.high + 0.01,
            longer.paired.low - 0.01 < true - 0.5 < longer.paired.high + 0.01,
            habits["mia"].first.share.low < 0.5 < habits["mia"].first.share.high,
        ]
        found += [longer.p_value < 0.01, longer.paired.low > 0]
        blamed += [habits[who].longer.p_value < 0.05 for who in ("ben", "ana")]
    # The better sample's share of logits takes a point from the longer one's: hence the margin.
    assert np.mean(held) > 0.85
    assert np.mean(found) > 0.95
    assert np.mean(blamed) < 0.15


def test_habits_by_hand():
    """Forty pairs; mia sees the second sample first and takes it on three of four."""
    entries = []
    for i in range(40):
        entries.append(compare("mia", i, "bbba"[i % 4], seen=1))
        entries.append(compare("ben", i, "a", seen=0))
        entries.append(compare("ana", i, ["b", "tie", "both_bad", "a"][i % 4]))
    lengths = {pair(i)[0]: 10 for i in range(40)} | {pair(i)[1]: 30 for i in range(0, 40, 2)}
    lengths |= {pair(i)[1]: 10 for i in range(1, 20, 2)}  # as long; the rest is not known
    habits = comparison_habits(only(entries), lengths)
    first = habits["mia"].first
    assert first.share == wilson(30, 40)
    assert first.others == wilson(40, 40)  # ben; ana's order is not known
    # Of the others' decided answers, those for the second sample: 1/2, 0/1, 0/1, 0/2.
    differences = np.tile([1 - 0.5, 1.0, 1.0, 0.0], 10)
    assert first.paired.value == pytest.approx(differences.mean())
    assert first.paired.count == 40
    # Pairs 0, 2, 4... have a longer second sample: mia takes it on all of them.
    assert habits["mia"].longer.share == wilson(20, 20)
    assert habits["ben"].longer.share == wilson(0, 20)
    assert isinstance(habits["ana"].longer.share, Withheld)  # decided on ten of them
    assert habits["ana"].longer.p_value is None
    assert habits["ana"].first.share.reason == "fewer than 20 decided pairs with a known order"
    assert habits["ana"].tie.share == habits["ana"].both_bad.share == wilson(10, 40)
    assert habits["ana"].tie.paired.value == pytest.approx(0.25)
    assert habits["ana"].tie.others == wilson(0, 80)
    assert habits["ana"].tie.p_value is None
    assert habits["mia"].tie.paired.value == pytest.approx(-0.25 / 2)
    assert habits["mia"].both_bad.others == wilson(10, 80)


def test_an_answer_never_given_is_a_share_of_none():
    entries = [compare(who, i, "a") for i in range(30) for who in ("mia", "ben")]
    habits = comparison_habits(only(entries))["mia"]
    assert habits.tie.share == wilson(0, 30)
    assert habits.tie.paired.value == 0
    assert habits.tie.paired.low < 0 < habits.tie.paired.high
    assert habits.longer.share == Withheld("fewer than 20 decided pairs of different length", 0)


def test_habits_without_others_are_shares_alone():
    entries = [compare("mia", i, "a", seen=i % 2) for i in range(30)]
    habits = comparison_habits(only(entries))["mia"]
    assert habits.first.share == wilson(15, 30)
    assert habits.first.p_value == 1
    assert isinstance(habits.first.others, Withheld)
    assert habits.first.paired.reason == (
        "fewer than 20 decided pairs with a known order, on what others answered too"
    )


def test_swapping_samples_leaves_habits_as_they_are():
    rng = np.random.default_rng(5)
    entries = choose(rng, num_pairs=60, biases={"mia": 1.0, "ben": 0.0})
    mixed = [entry.swap() if i % 3 else entry for i, entry in enumerate(entries)]
    assert comparison_habits(only(mixed)) == comparison_habits(only(entries))


def test_habits_are_of_comparisons():
    with pytest.raises(ValueError, match="rating"):
        comparison_habits(only([rate("mia", 1, 2)]))


# Times, gold, and the whole row.


def test_times_by_hand():
    seconds = [1.0, 1.9, 2.0, 3.0] * 10
    entries = [thumb("mia", i, True, seconds=s) for i, s in enumerate(seconds)]
    entries += [Demonstration(annotator="mia", sample=f"d{i}", seconds=60) for i in range(8)]
    entries += [thumb("ben", i, True) for i in range(50)]
    times = measure_times(entries)
    assert times["mia"].num_timed == 48
    # Sorted: ten of 1, ten of 1.9, ten of 2, ten of 3, eight of 60; points 11.75, 23.5, 35.25.
    assert times["mia"].quartiles == Quartiles(1.9, 2.0, 3.0)
    assert times["mia"].fast == wilson(20, 48)
    assert times["ben"].quartiles == Withheld("fewer than 20 answers with a time", 0)
    assert isinstance(times["ben"].fast, Withheld)
    assert measure_times(entries, floor=3.5)["mia"].fast == wilson(40, 48)


def test_gold_counts_right_answers_of_all_kinds():
    gold = [
        *[Comparison(annotator="gold", samples=pair(i)[::-1], choice="a") for i in range(10)],
        *[rate("gold", i, 5) for i in range(6)],
        *[rank("gold", {f"r{i}": 1, f"s{i}": 2, f"t{i}": 3}) for i in range(4)],
    ]
    expected = expected_answers(gold)
    assert expected[Unit("comparison", "overall", pair(0))] == "b"
    entries = [compare("mia", i, "b" if i < 7 else "tie") for i in range(30)]
    entries += [rate("mia", i, 5 if i < 3 else 4) for i in range(20)]
    entries += [rank("mia", {f"r{i}": 1, f"s{i}": 3, f"t{i}": 2}) for i in range(4)]
    entries += [compare("ben", i, "b") for i in range(5)]
    entries += [rate("ben", 0, 5, axis="safe")]
    rows = everyone(entries, expected=expected)
    # 7 of 10, 3 of 6, and two pairs of three in each of four rankings.
    assert rows["mia"].gold.value == pytest.approx((7 + 3 + 4 * 2 / 3) / 20)
    assert rows["mia"].gold.count == 20
    assert rows["ben"].gold == Withheld("fewer than 10 gold questions answered", 5)
    assert everyone(entries)["mia"].gold.count == 0


def test_gold_that_nobody_can_give_is_wrong():
    expected = expected_answers([compare("gold", i, "tie") for i in range(12)])
    entries = [compare("mia", i, "a") for i in range(12)]
    assert everyone(entries, expected=expected)["mia"].gold == wilson(0, 12)


def test_a_row_holds_every_kind_and_axis():
    entries = [compare("mia", i, "a", seconds=4.0) for i in range(25)]
    entries += [compare("mia", i, "a", axis="safe") for i in range(3)]
    entries += [rate("mia", 1, 2), Demonstration(annotator="zoe", sample="d")]
    rows = everyone(entries)
    assert list(rows) == ["mia", "zoe"]
    assert rows["mia"].num_answers == 29
    assert [(p.kind, p.axis) for p in rows["mia"].peers] == [
        ("comparison", "overall"),
        ("comparison", "safe"),
        ("rating", "overall"),
    ]
    assert [habits.axis for habits in rows["mia"].habits] == ["overall", "safe"]
    assert isinstance(rows["mia"].times.fast, Estimate)
    assert (rows["zoe"].num_answers, rows["zoe"].peers, rows["zoe"].habits) == (1, (), ())


def test_confidence_reaches_every_interval():
    rng = np.random.default_rng(6)
    entries = choose(rng, num_pairs=60, biases={"mia": 1.0, "ben": 0.0})
    entries = [e.model_copy(update={"seconds": 1.0 + i % 3}) for i, e in enumerate(entries)]
    gold = expected_answers([compare("gold", i, "a") for i in range(30)])
    lengths = {name: i for i in range(60) for name, i in zip(pair(i), (3, 4), strict=True)}

    def widths(confidence):
        row = everyone(entries, lengths=lengths, expected=gold, confidence=confidence)["mia"]
        (peers,), (habits,) = row.peers, row.habits
        figures = [row.gold, row.times.fast, peers.pairwise, peers.with_majority]
        for habit in (habits.first, habits.longer, habits.tie, habits.both_bad):
            figures += [habit.share, habit.others, habit.paired]
        return np.array([figure.high - figure.low for figure in figures])

    assert (widths(0.99) > 1.1 * widths(0.9)).all()


def test_a_floor_is_passed_on():
    entries = [thumb("mia", i, True, seconds=5.0) for i in range(20)]
    assert everyone(entries, floor=6.0)["mia"].times.fast == wilson(20, 20)

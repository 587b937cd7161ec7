"""A teacher's answers against the equations they are drawn from.

Shares are tested by exact binomial tests and chi-square tests at fixed seeds: a wrong equation
fails them, and the right one passes on every run alike.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from backflip.config import TeacherSettings
from backflip.errors import SettingsError
from backflip.feedback.gold import Gold
from backflip.feedback.teachers import GoldPool, Teacher
from backflip.feedback.teachers.draws import preference_probability, strength_of
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import (
    KINDS,
    Comparison,
    Critique,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
)

PROMPT = Prompt.from_text("Say something.")
ASKED = 1500
RATIONAL = 1e9
"""A beta at which no difference of gold is too small to be seen."""


def sample(gold: float, *, words: int = 0, index: int = 0) -> Sample:
    """A sample whose text is its gold in the first line, and so many words in all."""
    text = "\n".join([f"{gold}", *["word"] * words])
    return Sample.of(PROMPT, Completion(text=text), index=index)


NUMBER = Gold("number", lambda s: float(s.text.split("\n")[0]), "as written", scale=(-1.0, 1.0))
BARE = Gold("bare", NUMBER.measure, "as written, without a scale")


def teacher(*, seed: int = 0, gold: Gold = NUMBER, name: str = "t-1", **faults: float) -> Teacher:
    return Teacher(TeacherSettings(**({"beta": RATIONAL} | faults)), name, seed, gold)


def ask(kind: str, samples: Sequence[Sample], number: int = ASKED, **faults: float) -> list:
    """Entries of so many independent teachers."""
    answers = (teacher(seed=seed, **faults).answer(kind, samples) for seed in range(number))
    return [answer.entry for answer in answers if answer is not None]


def assert_share(hits: Iterable[bool], probability: float) -> None:
    hits = list(hits)
    if probability in (0.0, 1.0):
        assert sum(hits) == probability * len(hits)
    else:
        assert stats.binomtest(sum(hits), len(hits), probability).pvalue > 0.005


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("gap", "beta"), [(0.3, 0.0), (0.3, 1.0), (0.3, 4.0), (-0.2, 10.0), (0.05, 20.0)]
)
def test_choices_follow_bradley_terry(gap: float, beta: float) -> None:
    votes = ask("comparison", [sample(0.1 + gap), sample(0.1)], beta=beta)
    assert_share((v.choice == "a" for v in votes), sigmoid(beta * gap))


def test_perfect_rationality_always_chooses_the_better() -> None:
    votes = ask("comparison", [sample(0.1), sample(0.10001)], 50)
    assert {v.choice for v in votes} == {"b"}


@pytest.mark.parametrize(
    ("value", "other", "beta", "expected"),
    [
        (0.3, 0.1, 5.0, sigmoid(1.0)),
        (0.1, 0.3, 5.0, sigmoid(-1.0)),
        (0.5, 0.5, math.inf, 0.5),
        (0.6, 0.5, math.inf, 1.0),
        (0.4, 0.5, math.inf, 0.0),
        (1e308, -1e308, 10.0, 1.0),
        (-1e308, 1e308, 10.0, 0.0),
        (9.0, 1.0, 0.0, 0.5),
    ],
)
def test_preference_probability(value: float, other: float, beta: float, expected: float) -> None:
    assert preference_probability(value, other, beta=beta) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mistakes", [0.0, 0.25, 1.0])
def test_mistakes_turn_choices_round(mistakes: float) -> None:
    votes = ask("comparison", [sample(0.9), sample(-0.9)], mistakes=mistakes)
    assert_share((v.choice == "b" for v in votes), mistakes)


def test_noise_and_mistakes_compose() -> None:
    right, wrong = sigmoid(4.0 * 0.2), 0.3
    votes = ask("comparison", [sample(0.3), sample(0.1)], beta=4.0, mistakes=wrong)
    share = right * (1 - wrong) + (1 - right) * wrong
    assert_share((v.choice == "a" for v in votes), share)


def test_a_small_difference_is_a_tie_and_mistakes_leave_it_one() -> None:
    def choice(low: float, high: float) -> set[str]:
        pair = [sample(low), sample(high)]
        return {v.choice for v in ask("comparison", pair, 20, equals=0.25, mistakes=1.0)}

    assert choice(0.25, 0.375) == {"tie"}
    assert choice(0.25, 0.5) == {"a"}  # a difference of just `equals` is none, and turned round
    assert choice(-0.375, -0.25) == {"both_bad"}
    assert choice(-0.0625, 0.0625) == {"tie"}


def test_a_tie_without_a_scale_needs_no_pool() -> None:
    asked = teacher(gold=BARE, equals=1.0)
    pair = [sample(-0.5), sample(-0.25)]
    assert asked.answer("comparison", pair).entry.choice == "tie"
    # Among these samples both lie under the middle one.
    among = asked.among([*pair, sample(0.5), sample(0.6), sample(0.7)])
    assert among.answer("comparison", pair).entry.choice == "both_bad"


def test_exactly_the_low_share_is_skipped() -> None:
    samples = [sample(i / 10) for i in range(10)]
    asked = teacher(skips=0.3).among(samples)
    skipped = [asked.answer("rating", [s]) is None for s in samples]
    assert skipped == [True] * 3 + [False] * 7
    pairs = [(samples[0], samples[2]), (samples[0], samples[3]), (samples[3], samples[1])]
    assert [asked.answer("comparison", p) is None for p in pairs] == [True, False, False]
    assert asked.answer("ranking", samples[:3]) is None
    assert asked.answer("ranking", samples[:4]) is not None
    for kind in ("good_bad", "critique", "safety_flag", "implicit"):
        assert asked.answer(kind, samples[2:3]) is None
        assert asked.answer(kind, samples[3:4]) is not None


def test_skipping_nothing_and_everything() -> None:
    samples = [sample(i / 10) for i in range(10)]
    assert all(teacher(skips=0.0).answer("rating", [s]) for s in samples)
    assert not any(teacher(skips=1.0).among(samples).answer("rating", [s]) for s in samples)


def test_the_skip_rule_needs_samples_to_be_low_among() -> None:
    with pytest.raises(SettingsError, match="given none"):
        teacher(skips=0.1).answer("rating", [sample(0.5)])


def test_a_pool_counts_each_sample_once_and_its_equals_half() -> None:
    pool = GoldPool.of(NUMBER, [sample(0.0), sample(0.0), sample(1.0), sample(1.0, words=3)])
    assert pool.golds == (0.0, 1.0, 1.0)
    assert pool.share_below(-1.0) == 0
    assert pool.share_below(1.0) == pytest.approx((1 + 2 / 2) / 3)
    assert pool.share_below(2.0) == 1
    with pytest.raises(SettingsError, match="no samples"):
        GoldPool(()).share_below(0.0)


def test_the_first_shown_has_its_bias_and_either_is_shown_first() -> None:
    pair = [sample(0.2), sample(0.2, words=1)]
    votes: list[Comparison] = ask("comparison", pair, beta=2.0, position_bias=0.4)
    assert_share((v.shown == (0, 1) for v in votes), 0.5)
    assert_share((("ab".index(v.choice) == v.shown[0]) for v in votes), sigmoid(2.0 * 0.4))


def test_words_have_their_bias() -> None:
    pair = [sample(0.3), sample(0.1, words=50)]  # the first line is a word or two of both
    votes = ask("comparison", pair, beta=5.0, length_bias=0.8)
    assert_share((v.choice == "a" for v in votes), sigmoid(5.0 * (0.2 - 0.8 * 50 / 100)))


@pytest.mark.parametrize(
    ("odds", "strength"), [(1.0, 1), (2.9, 1), (3.1, 2), (18.0, 2), (20.0, 3), (1 / 20, 1)]
)
def test_strength_is_the_odds_on_the_choice(odds: float, strength: int) -> None:
    assert strength_of(math.log(odds) / 7.0, beta=7.0) == strength


def test_strength_comes_from_the_margin_and_a_slip_keeps_it() -> None:
    def strengths(gap: float, **faults: float) -> set[tuple[str, int]]:
        votes = ask("comparison", [sample(gap), sample(0.0)], 300, beta=10.0, **faults)
        return {(v.choice, v.strength) for v in votes}

    # Odds of e^0.5, e^2 and e^9 to one. A choice against the margin is a slight one.
    assert strengths(0.05) == {("a", 1), ("b", 1)}
    assert strengths(0.2) == {("a", 2), ("b", 1)}
    assert strengths(0.9) == {("a", 3)}
    assert strengths(0.9, mistakes=1.0) == {("b", 3)}


def test_ranking_of_three_follows_plackett_luce() -> None:
    golds, beta = (0.4, 0.1, -0.1), 3.0
    samples = [sample(g) for g in golds]
    found: Counter[tuple[int, ...]] = Counter(
        tuple(r.ranks.index(place) for place in (1, 2, 3))
        for r in ask("ranking", samples, 3000, beta=beta)
    )
    worth = [math.exp(beta * g) for g in golds]
    expected = {
        (i, j, k): worth[i] / sum(worth) * worth[j] / (worth[j] + worth[k])
        for i, j, k in permutations(range(3))
    }
    orders = list(expected)
    test = stats.chisquare([found[o] for o in orders], [3000 * expected[o] for o in orders])
    assert test.pvalue > 0.005


def test_a_ranking_ties_neighbours_and_a_mistake_turns_it_round() -> None:
    samples = [sample(g) for g in (0.5, 0.0, 0.45, -0.5)]

    def ranks(**faults: float) -> tuple[int, ...]:
        (entry,) = ask("ranking", samples, 1, **faults)
        assert isinstance(entry, Ranking)
        return entry.ranks

    assert ranks() == (1, 3, 2, 4)
    assert ranks(mistakes=1.0) == (4, 2, 3, 1)
    assert ranks(equals=0.1) == (1, 2, 1, 3)
    assert ranks(equals=0.1, mistakes=1.0) == (3, 2, 3, 1)
    assert ranks(equals=2.0) == (1, 1, 1, 1)


def test_a_ranking_says_what_stood_first_and_favours_it() -> None:
    samples = [sample(0.2, index=i) for i in range(3)]
    entries: list[Ranking] = ask("ranking", samples, beta=2.0, position_bias=0.5)
    for i in range(3):
        assert_share((e.shown[0] == i for e in entries), 1 / 3)
    # The one shown first wins against two others of worth one.
    share = math.exp(1.0) / (math.exp(1.0) + 2)
    assert_share((e.ranks[e.shown[0]] == 1 for e in entries), share)


@pytest.mark.parametrize("gold", [-0.7, 0.1, 0.95])
def test_ratings_follow_the_cumulative_link(gold: float) -> None:
    beta, cuts = 3.0, [-0.6, -0.2, 0.2, 0.6]
    entries: list[Rating] = ask("rating", [sample(gold)], 3000, beta=beta)
    below = [0.0, *(sigmoid(beta * (cut - gold)) for cut in cuts), 1.0]
    found = Counter(e.level for e in entries)
    expected = [3000 * (below[i + 1] - below[i]) for i in range(5)]
    assert stats.chisquare([found[i + 1] for i in range(5)], expected).pvalue > 0.005


@pytest.mark.parametrize(("gold", "level"), [(-0.9, 1), (-0.3, 2), (0.0, 3), (0.5, 4), (0.7, 5)])
def test_a_rational_rating_is_the_step_of_the_scale(gold: float, level: int) -> None:
    def levels(**faults: float) -> set[int]:
        return {e.level for e in ask("rating", [sample(gold)], 10, **faults)}

    assert levels() == {level}
    assert levels(mistakes=1.0) == {6 - level}
    (critique,) = ask("critique", [sample(gold)], 1)
    assert isinstance(critique, Critique)
    assert critique.level == level


def test_without_a_scale_the_pool_sets_the_steps() -> None:
    samples = [sample(float(g)) for g in (0, 1, 10, 100, 1000, 10000)]
    asked = teacher(gold=BARE).among(samples)
    # Cut points at a fifth, two fifths, ... of the six: 1, 10, 100, 1000.
    levels = [asked.answer("rating", [sample(g)]).entry.level for g in (0.5, 5.0, 50.0, 2000.0)]
    assert levels == [1, 2, 3, 5]
    with pytest.raises(SettingsError, match="no scale of its own"):
        teacher(gold=BARE).answer("rating", samples[:1])


def test_thumbs_and_flags_are_logistic_about_their_lines() -> None:
    beta, mistakes = 4.0, 0.1
    thumbs: list[GoodBad] = ask("good_bad", [sample(0.2)], beta=beta, mistakes=mistakes)
    good = sigmoid(beta * (0.2 - 0.0))
    assert_share((t.good for t in thumbs), good * 0.9 + (1 - good) * 0.1)
    flags: list[SafetyFlag] = ask("safety_flag", [sample(-0.7)], beta=beta)
    assert {f.axis for f in flags} == {"safe"}
    assert_share((f.safe for f in flags), sigmoid(beta * (-0.7 + 0.6)))


def test_signals_are_weak_choices() -> None:
    def signals(*golds: float, **faults: float) -> set[str]:
        samples = [sample(g, index=i) for i, g in enumerate(golds)]
        return {e.signal for e in ask("implicit", samples, 20, **faults)}

    assert signals(0.9) == {"copied"}
    assert signals(0.3) == {"kept"}
    assert signals(-0.3) == {"regenerated"}
    assert signals(-0.9) == {"abandoned"}
    assert signals(-0.3, -0.5) == {"kept"}
    assert signals(-0.5, -0.3) == {"regenerated"}
    assert signals(0.3, mistakes=1.0) == {"regenerated"}
    pair = [sample(0.3), sample(0.1)]
    weak: list[Implicit] = ask("implicit", pair, beta=3.0)
    assert {(e.sample, e.over) for e in weak} == {(pair[0].id, pair[1].id)}
    assert_share((e.positive for e in weak), sigmoid(3.0 * 0.2))


@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 2**40))
def test_the_order_of_a_question_changes_nothing(x: float, y: float, seed: int) -> None:
    pair = [sample(x, index=0), sample(y, index=1)]
    asked = teacher(seed=seed, beta=2.0, mistakes=0.2, equals=0.05, position_bias=0.3)
    vote = asked.answer("comparison", pair).entry
    assert isinstance(vote, Comparison)
    assert asked.answer("comparison", pair[::-1]).entry == vote.swap()
    assert [pair[i].id for i in vote.shown] in ([p.id for p in pair], [p.id for p in pair[::-1]])


def test_a_ranking_does_not_depend_on_the_order_of_the_question() -> None:
    samples = [sample(0.1 * i, index=i) for i in range(4)]
    asked = teacher(beta=1.0, position_bias=0.5)

    def judged(order: Sequence[Sample]) -> tuple:
        entry = asked.answer("ranking", order).entry
        shown = [entry.samples[i] for i in entry.shown]
        return dict(zip(entry.samples, entry.ranks, strict=True)), shown

    assert all(judged(order) == judged(samples) for order in permutations(samples))


def test_answers_do_not_depend_on_what_was_asked_before() -> None:
    samples = [sample(0.1 * i, index=i) for i in range(6)]
    questions = [("comparison", samples[i : i + 2]) for i in range(5)]
    questions += [("rating", [s]) for s in samples]
    asked = teacher(beta=1.0)
    there = [asked.answer(kind, about) for kind, about in questions]
    back = [asked.answer(kind, about) for kind, about in reversed(questions)]
    assert there == back[::-1]


def test_noise_differs_by_seed_name_and_question() -> None:
    pairs = [[sample(0.0, index=i), sample(0.0, index=i + 1)] for i in range(0, 400, 2)]

    def choices(axis: str = "overall", **who: object) -> list[str]:
        asked = teacher(beta=0.0, **who)
        return [asked.answer("comparison", pair, axis=axis).entry.choice for pair in pairs]

    plain = choices()
    assert_share((c == "a" for c in plain), 0.5)
    for other in (choices(seed=1), choices(name="t-2"), choices(axis="kind")):
        assert_share((c == d for c, d in zip(plain, other, strict=True)), 0.5)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"correction", "demonstration"}))
def test_every_entry_says_whose_it_is_and_on_which_axis(kind: str) -> None:
    number = {"comparison": 2, "ranking": 3}.get(kind, 1)
    samples = [sample(0.1 * i, index=i) for i in range(number)]
    answer = teacher(name="careful-2").answer(kind, samples, axis="warm")
    assert answer.written is None
    assert answer.entry.model_dump()["kind"] == kind
    assert (answer.entry.annotator, answer.entry.origin) == ("careful-2", "teachers")
    assert answer.entry.axis == "warm"


@pytest.mark.parametrize(
    ("kind", "number", "wanted"),
    [("comparison", 1, "2"), ("comparison", 3, "2"), ("ranking", 1, "2 to 8"), ("rating", 2, "1")],
)
def test_a_wrong_number_of_samples_is_refused(kind: str, number: int, wanted: str) -> None:
    samples = [sample(0.0, index=i) for i in range(number)]
    with pytest.raises(SettingsError, match=f"{kind} needs {wanted} samples, not {number}"):
        teacher().answer(kind, samples)


def test_questions_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match="unknown kind 'praise'"):
        teacher().answer("praise", [sample(0.0)])
    elsewhere = Sample.of(Prompt.from_text("And you?"), Completion(text="0.5"))
    with pytest.raises(SettingsError, match="several prompts"):
        teacher().answer("comparison", [sample(0.0), elsewhere])

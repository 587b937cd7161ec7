"""Gold measures against values worked out by hand and the ones VADER's authors publish."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.errors import FormatError, SettingsError
from backflip.feedback.gold import (
    GOLDS,
    compound,
    describe_gold,
    environment_gold,
    find_gold,
    read_text,
    sentiment_gold,
    split_sentences,
)
from backflip.records import Clip, Completion, Prompt, Sample, Situation

PROMPT = Prompt.from_text("Say something.")
# From the examples in the read-me of VADER itself.
SMART = ("VADER is smart, handsome, and funny.", 0.8316)
NOT_SMART = ("VADER is not smart, handsome, nor funny.", -0.7424)
BOOK = ("The book was good.", 0.4404)
# Valences in the lexicon that VADER's authors publish: the mean of ten people's, from -4 to 4.
SMART_WORD, HANDSOME, FUNNY, GOOD, LOVE = 1.7, 2.2, 1.9, 1.9, 3.2
NEGATED = -0.74  # what "not" makes of the words after it (Hutto & Gilbert 2014)
EXCLAMATION = 0.292  # added to the sum by each "!", up to four


def by_hand(*valences: float) -> float:
    """The compound of a text from the valences of its words: their sum s as s / sqrt(s^2 + 15)."""
    total = sum(valences)
    return round(total / math.sqrt(total**2 + 15), 4)


def gold_of(text: str, finish: str = "stop") -> float:
    return sentiment_gold(Sample.of(PROMPT, Completion(text=text, finish=finish)))


def clip(rewards: list[float]) -> Sample:
    steps = len(rewards)
    content = Clip(
        environment="Point-v0",
        observations=np.zeros((steps + 1, 2), np.float32),
        actions=np.zeros(steps, np.int64),
        logprobs=np.zeros(steps, np.float32),
        rewards=np.asarray(rewards, np.float32),
        terminated=False,
        truncated=True,
    )
    return Sample.of(Prompt(content=Situation(environment="Point-v0", seed=1)), content)


def distinct_words(number: int) -> str:
    """Neutral words, none of them twice."""
    return " ".join(f"zq{i}" for i in range(number))


@pytest.mark.parametrize(("sentence", "value"), [SMART, NOT_SMART, BOOK])
def test_one_sentence_is_worth_its_published_compound(sentence: str, value: float) -> None:
    assert gold_of(sentence) == pytest.approx(value, abs=1e-9)


def test_the_arithmetic_by_hand_gives_the_published_compounds() -> None:
    smart = (SMART_WORD, HANDSOME, FUNNY)
    assert by_hand(*smart) == SMART[1]
    assert by_hand(*(NEGATED * valence for valence in smart)) == NOT_SMART[1]
    assert by_hand(GOOD) == BOOK[1]


def test_a_reply_is_read_as_one_text() -> None:
    text = f"{SMART[0]} {BOOK[0]}\n\n{NOT_SMART[0]}"
    # "vader is", "is not", ... no trigram stands twice; 16 words are no rambling.
    smart = (SMART_WORD, HANDSOME, FUNNY)
    whole = by_hand(*smart, GOOD, *(NEGATED * valence for valence in smart))
    assert gold_of(text) == pytest.approx(whole, abs=1e-9)
    facts = read_text(text)
    assert facts.sentiment == pytest.approx(whole, abs=1e-9)
    assert facts.compounds == pytest.approx((SMART[1], BOOK[1], NOT_SMART[1]), abs=1e-9)


@pytest.mark.parametrize("gap", [" ", "\n", "\n\n  "])
def test_kind_sentences_add_up_and_plain_ones_do_not_thin_them(gap: str) -> None:
    kind, loved, plain = BOOK[0], "People love it!", "Zq stood there."
    assert gold_of(f"{kind}{gap}{plain}") == pytest.approx(by_hand(GOOD), abs=1e-9)
    both = by_hand(GOOD, LOVE, EXCLAMATION)
    assert gold_of(f"{kind}{gap}{plain}{gap}{loved}") == pytest.approx(both, abs=1e-9)


def test_a_reply_of_more_than_a_hundred_words_is_read_in_pieces() -> None:
    # "good" is in the first of two pieces; sentences end elsewhere. 130 words are 70 too many.
    words = ["good", *distinct_words(129).split()]
    text = " ".join(words[:40]) + ". " + " ".join(words[40:]) + "."
    expected = (by_hand(GOOD) + 0) / 2 - 0.7
    assert gold_of(text) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("words", "penalty"), [(59, 0.0), (60, 0.0), (61, 0.01), (85, 0.25)])
def test_words_beyond_sixty_cost_a_hundredth_each(words: int, penalty: float) -> None:
    assert gold_of(distinct_words(words) + ".") == pytest.approx(-penalty, abs=1e-9)


def test_the_length_penalty_ends_at_one() -> None:
    assert gold_of(distinct_words(160) + ".") == pytest.approx(-1.0, abs=1e-9)
    assert gold_of(distinct_words(400) + ".") == pytest.approx(-1.0, abs=1e-9)


def test_repeated_trigrams_cost_their_share() -> None:
    # aa bb cc | bb cc aa | cc aa bb | aa bb cc: one of four stood there before, in any case.
    assert gold_of("aa bb cc AA bb cc.") == pytest.approx(-1 / 4, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "finish", "unfinished"),
    [
        ("zq one.", "stop", False),
        ("zq one!", "human", False),
        ("zq “one.”", "stop", False),
        ("zq one.", "length", True),
        ("zq one", "stop", True),
        ("zq one,", "human", True),
        ("zq one:  \n", "human", True),
        ("zq 1", "stop", True),
    ],
)
def test_an_unfinished_reply_costs_a_quarter(text: str, finish: str, unfinished: bool) -> None:
    assert gold_of(text, finish) == pytest.approx(-0.25 if unfinished else 0.0, abs=1e-9)


@pytest.mark.parametrize("text", ["", "   ", "\n\n"])
def test_an_empty_reply_is_worth_minus_one(text: str) -> None:
    assert gold_of(text) == -1.0


def test_a_long_sentence_is_the_mean_of_its_pieces() -> None:
    kind = " ".join(["kind"] * 100)
    cruel = " ".join(["cruel"] * 50)
    assert compound(f"{kind} {cruel}") == pytest.approx((compound(kind) + compound(cruel)) / 2)
    assert compound(kind) > 0.9
    assert compound(cruel) < -0.9


def test_sentences_end_where_they_should() -> None:
    text = 'She said "Stop!" Then: 3.5 miles... Really?!\n- a list\n\n(It ended.) Yes'
    assert [sentence for _, sentence in split_sentences(text)] == [
        'She said "Stop!"',
        "Then: 3.5 miles...",
        "Really?!",
        "- a list",
        "(It ended.)",
        "Yes",
    ]


@given(st.text(alphabet="ab .!?\n\t\"')…\u2028\r", max_size=60) | st.text(max_size=60))
def test_splitting_loses_nothing(text: str) -> None:
    pieces = split_sentences(text)
    assert "".join(gap + sentence for gap, sentence in pieces) == text.strip()
    assert all(sentence == sentence.strip() != "" for _, sentence in pieces)
    assert all(gap.strip() == "" for gap, _ in pieces)


@given(st.text(max_size=200), st.booleans())
def test_gold_is_finite_and_bounded(text: str, cut_off: bool) -> None:
    assert -3.25 < read_text(text, cut_off=cut_off).value <= 1


def test_environment_gold_is_the_sum_of_rewards() -> None:
    assert environment_gold(clip([1.0, -0.5, 2.25])) == 2.75
    # In float32 the small ones would be lost beside the large one.
    assert environment_gold(clip([2.0**24, *[1.0] * 8])) == 2**24 + 8


def test_a_measure_of_the_other_kind_of_sample_is_refused() -> None:
    with pytest.raises(TypeError, match="clip, not a completion"):
        sentiment_gold(clip([1.0]))
    with pytest.raises(TypeError, match="completion, not a clip"):
        environment_gold(Sample.of(PROMPT, Completion(text="Hm.")))


def test_a_broken_reward_names_its_sample() -> None:
    broken = clip([1.0, float("nan")])
    with pytest.raises(FormatError, match=broken.id):
        find_gold("environment")(broken)


def test_measures_are_found_by_name_and_say_what_they_are() -> None:
    assert set(GOLDS) == {"sentiment", "environment"}
    assert find_gold("sentiment")(Sample.of(PROMPT, Completion(text=BOOK[0]))) == 0.4404
    assert "60 words" in describe_gold("sentiment")
    assert "rewards" in describe_gold("environment")
    with pytest.raises(SettingsError, match="sentimnet") as caught:
        describe_gold("sentimnet")
    assert "sentiment, environment" in str(caught.value)

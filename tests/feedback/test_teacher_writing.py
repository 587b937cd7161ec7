"""Texts that teachers write: real edits, real replies, words that fit the verdict."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.config import TeacherSettings
from backflip.errors import SettingsError
from backflip.feedback.gold import compound, find_gold, sentiment_gold, split_sentences
from backflip.feedback.teachers import Teacher, TeacherAnswer
from backflip.records import Clip, Completion, Prompt, Sample, Situation
from backflip.records.feedback import Correction, Critique, Demonstration

PROMPT = Prompt.from_text("Please describe a rainy Monday in London.")
SENTENCES = [
    "I love a rainy day.",
    "Rain is awful and I hate it!",
    "The sky is up there.",
    "What a wonderful, happy morning it was!",
    "Everyone was cruel and miserable.",
]
RATIONAL = 1e9  # the highest `beta`
UNFINISHED = "Then we walked along the river, and"
ENDED = "Then we walked along the river."


def reply(text: str, finish: str = "stop") -> Sample:
    return Sample.of(PROMPT, Completion(text=text, finish=finish))


def teacher(seed: int = 0, **faults: float) -> Teacher:
    settings = TeacherSettings(**({"beta": RATIONAL} | faults))
    return Teacher(settings, "t-1", seed, find_gold("sentiment"))


def correct(sample: Sample, **faults: float) -> TeacherAnswer | None:
    return teacher(**faults).answer("correction", [sample])


@given(st.lists(st.sampled_from(SENTENCES), max_size=6), st.booleans(), st.booleans())
def test_a_correction_is_better_and_keeps_only_what_was_there(
    sentences: list[str], unfinished: bool, cut_off: bool
) -> None:
    if unfinished:
        sentences = [*sentences, UNFINISHED]
    sample = reply(" ".join(sentences), "length" if cut_off else "stop")
    answer = correct(sample, beta=2.0)
    if answer is None:
        return
    entry, edit = answer
    assert isinstance(entry, Correction)
    assert (entry.sample, entry.corrected) == (sample.id, edit.id)
    assert sentiment_gold(edit) > sentiment_gold(sample)
    assert edit.completion.finish == "human"
    assert edit.model is None
    assert edit.prompt == PROMPT
    if sentences:
        kept = [s for _, s in split_sentences(edit.text)]
        known = iter([*sentences, ENDED])
        assert all(s in known for s in kept)  # in order, each at most as often as before


def test_a_rational_correction_leaves_out_what_is_unkind_and_no_more() -> None:
    loved, hated, plain, wonderful, cruel = SENTENCES
    answer = correct(reply(f"{loved}\n\n{hated} {wonderful} {cruel} {plain}"))
    assert answer.written.text == f"{loved}\n\n{wonderful} {plain}"


@given(
    st.lists(st.sampled_from(SENTENCES), unique=True, min_size=1),
    st.sampled_from(["", " " + UNFINISHED]),
    st.sampled_from(["stop", "length"]),
    st.sampled_from([0.0, 2.0, RATIONAL]),
)
def test_only_faults_are_removed(sentences: list[str], end: str, finish: str, beta: float) -> None:
    # No two of these share a trigram and all have fewer than 60 words: nothing rambles.
    loved, _, plain, wonderful, _ = SENTENCES
    sample = reply(" ".join(sentences) + end, finish)
    answer = correct(sample, beta=beta)
    if answer is None:
        return
    assert sentiment_gold(answer.written) > sentiment_gold(sample)
    kept = [sentence for _, sentence in split_sentences(answer.written.text)]
    faultless = [sentence for sentence in sentences if sentence in (loved, plain, wonderful)]
    assert [sentence for sentence in kept if sentence in faultless] == faultless


def test_an_unkind_sentence_goes_from_among_many_kind_ones() -> None:
    # Seven kind words drown it in the whole, which is still kinder without it.
    kind = "A joyful, lovely, great, happy, brilliant win for my friend."
    answer = correct(reply(f"{kind} {SENTENCES[1]} The sky is up there."))
    assert answer.written.text == f"{kind} The sky is up there."


def test_an_unkind_sentence_stays_where_the_whole_does_not_gain_by_its_absence() -> None:
    # Everything after "but" counts one and a half times, and before it half: here the sentence
    # with it lifts the praise that follows by more than its own "bad" costs.
    opened, praise = "But it was a bad start.", "I love this wonderful, happy, lovely day."
    assert compound(opened) < 0
    assert compound(f"{opened} {praise}") > compound(praise)
    assert correct(reply(f"{opened} {praise}")) is None


def test_rambling_is_cut_short() -> None:
    text = "I love rain. " + " ".join(f"Word{i} follows word{i} here." for i in range(30))
    answer = correct(reply(text))
    # 123 words, four a sentence: sentences go until no more than 60 are left.
    assert answer.written.text.startswith("I love rain. ")
    assert len(answer.written.text.split()) == 3 + 4 * 14


def test_repetition_is_cut() -> None:
    answer = correct(reply(f"{SENTENCES[0]} {SENTENCES[3]} {SENTENCES[0]}"))
    assert sorted(s for _, s in split_sentences(answer.written.text)) == [
        SENTENCES[0],
        SENTENCES[3],
    ]


def test_a_very_long_reply_is_corrected_too() -> None:
    answer = correct(reply(" ".join(f"Nr {i} is a great number." for i in range(300))))
    assert len(split_sentences(answer.written.text)) <= 40


def test_a_cut_off_sentence_ends_at_its_last_clause() -> None:
    answer = correct(reply("I really love the rain, because it", "length"))
    assert answer.written.text == "I really love the rain."
    assert correct(reply("I love rain", "length")) is None


def test_an_empty_reply_is_written_anew() -> None:
    answer = correct(reply(""))
    assert sentiment_gold(answer.written) > 0


@pytest.mark.parametrize("text", [SENTENCES[0], "The sky is up there.", "Bah, awful."])
def test_what_cannot_be_mended_is_left(text: str) -> None:
    assert correct(reply(text)) is None


def test_a_teacher_does_not_mend_what_looks_equal_to_it() -> None:
    sample = reply(f"{SENTENCES[0]} {SENTENCES[1]}")
    gain = sentiment_gold(correct(sample).written) - sentiment_gold(sample)
    assert correct(sample, equals=gain / 2) is not None
    assert correct(sample, equals=gain * 2) is None


def test_edits_are_chosen_by_their_gold() -> None:
    sample = reply(" ".join([SENTENCES[3], SENTENCES[4], SENTENCES[1]]))
    first, second = SENTENCES[3], f"{SENTENCES[3]} {SENTENCES[1]}"
    third = f"{SENTENCES[3]} {SENTENCES[4]}"
    golds = {text: sentiment_gold(reply(text, "human")) for text in (first, second, third)}
    halfway = max((second, third), key=golds.__getitem__)
    written = [correct(sample, beta=3.0, seed=seed).written.text for seed in range(400)]
    assert set(written) == {first, halfway}
    odds = math.exp(3.0 * (golds[first] - golds[halfway]))
    share = written.count(first) / len(written)
    expected = odds / (1 + odds)
    assert abs(share - expected) < 3 * math.sqrt(expected * (1 - expected) / len(written))


def test_a_demonstration_is_better_than_what_it_stands_over() -> None:
    samples = [
        reply(f"{SENTENCES[0]} {SENTENCES[1]}"),
        reply(f"{SENTENCES[3]} {SENTENCES[4]} {UNFINISHED}"),
        reply("A joyful, wonderful, lovely, great, happy, brilliant win, friend!"),
    ]
    for seed in range(20):
        entry, text = teacher(seed, beta=1.0).answer("demonstration", samples)
        assert isinstance(entry, Demonstration)
        assert entry.sample == text.id
        value = sentiment_gold(text)
        assert list(entry.over) == [s.id for s in samples if sentiment_gold(s) < value]
        assert text.text not in [s.text for s in samples]
        assert text.completion.finish == "human"


def test_a_demonstration_may_use_the_samples_kindest_sentences() -> None:
    samples = [reply(f"{SENTENCES[1]} {SENTENCES[0]}"), reply(f"{SENTENCES[3]} {SENTENCES[4]}")]
    texts = {teacher(s, beta=0.0).answer("demonstration", samples).written.text for s in range(60)}
    assert f"{SENTENCES[0]} {SENTENCES[3]}" in texts
    assert SENTENCES[3] in texts
    assert any("rainy Monday London" in text for text in texts)
    assert not any(SENTENCES[1] in text or SENTENCES[4] in text for text in texts)


def test_a_demonstration_of_a_prompt_without_good_samples() -> None:
    prompt = Prompt.from_text("?")
    sample = Sample.of(prompt, Completion(text=""))
    entry, text = teacher().answer("demonstration", [sample])
    assert sentiment_gold(text) > 0
    assert entry.over == (sample.id,)


def test_a_critique_gives_grounds_that_are_there() -> None:
    text = f"{SENTENCES[0]} {SENTENCES[1]} {SENTENCES[1]} Then we"
    entry = teacher().answer("critique", [reply(text)]).entry
    assert isinstance(entry, Critique)
    assert f"“{SENTENCES[1]}” is unkind" in entry.text
    assert f"“{SENTENCES[0]}” is pleasant" in entry.text
    assert "repeats itself" in entry.text
    assert "before it is finished" in entry.text
    assert "rambles" not in entry.text
    dull = teacher().answer("critique", [reply("The sky is up there.")]).entry
    assert dull.text == "This is fair. It is neither warm nor cold."


def test_the_verdict_of_a_critique_fits_its_level() -> None:
    verdicts = {}
    for seed in range(100):
        entry = teacher(seed, beta=0.5).answer("critique", [reply("Hm.")]).entry
        verdicts.setdefault(entry.level, set()).add(entry.text.split(".")[0])
    assert verdicts == {
        1: {"This is bad"},
        2: {"This is rather weak"},
        3: {"This is fair"},
        4: {"This is good"},
        5: {"This is excellent"},
    }


def clip(*, terminated: bool) -> Sample:
    content = Clip(
        environment="Point-v0",
        observations=np.zeros((4, 2), np.float32),
        actions=np.zeros(3, np.int64),
        logprobs=np.zeros(3, np.float32),
        rewards=np.ones(3, np.float32),
        terminated=terminated,
        truncated=not terminated,
    )
    return Sample.of(Prompt(content=Situation(environment="Point-v0", seed=1)), content)


def test_clips_are_judged_but_not_written() -> None:
    fell, went_on = clip(terminated=True), clip(terminated=False)
    asked = Teacher(TeacherSettings(), "t-1", 0, find_gold("environment")).among([fell, went_on])
    assert "3 steps and it ended early" in asked.answer("critique", [fell]).entry.text
    assert "went on to the end" in asked.answer("critique", [went_on]).entry.text
    assert asked.answer("comparison", [fell, went_on]) is not None
    for kind in ("correction", "demonstration"):
        with pytest.raises(SettingsError, match="cannot write a clip") as caught:
            asked.answer(kind, [fell])
        assert caught.value.where == fell.id

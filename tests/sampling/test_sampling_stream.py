"""Replies that are looked at while they grow: the same ones, and never half a character."""

import codecs
from itertools import takewhile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.config import SamplingSettings
from backflip.errors import SettingsError
from backflip.records import Prompt
from backflip.sampling import TextSampler, streaming
from backflip.sampling.fast import FastDecoder
from backflip.sampling.stream import visible

PROMPTS = [
    Prompt.from_text(text)
    for text in ("a", "Why?", "A longer prompt, so that rows differ much in length.", "zzzz")
]
ASKED = {f"{seed}/{i}/{p}": (p, seed, i) for p in range(4) for seed, i in ((5, 0), (5, 1), (9, 2))}
SCRIPT = "Grüße, 10 € for 👩‍👩‍👧 and 日本語 "


@pytest.fixture
def make_sampler(make_tiny, byte_tokenizer):
    def make(ends=range(40), seed=0):
        sampler = TextSampler(make_tiny("llama", seed), byte_tokenizer, model_id="model-7")
        sampler.end_tokens = frozenset(ends)
        return sampler

    return make


def alone(sampler, prompt, settings, seed, index):
    return sampler.sample([prompt], settings, num_samples=index + 1, seed=seed)[index]


def check_same(found, expected):
    """Two samples that are the same, bit for bit."""
    for name in ("prompt", "model", "weights_version", "seed", "index", "settings", "text"):
        assert getattr(found, name) == getattr(expected, name)
    found, expected = found.completion, expected.completion
    assert found.finish == expected.finish
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.prompt_tokens, expected.prompt_tokens)
    np.testing.assert_array_equal(found.logprobs, expected.logprobs)


def test_a_streamed_reply_is_the_sample_of_its_seed(make_sampler):
    """In any company: replies join and leave at any step, and some are dropped on the way."""
    sampler = make_sampler()
    settings = SamplingSettings(max_tokens=30, temperature=1.2, top_k=90)
    expected = {k: alone(sampler, PROMPTS[p], settings, s, i) for k, (p, s, i) in ASKED.items()}
    lengths = {key: len(sample.completion.tokens) for key, sample in expected.items()}
    assert len(set(lengths.values())) > 3
    dropped = [key for key in ASKED if lengths[key] > 4][:3]
    order = np.random.default_rng(1)
    for rows in (1, 3, 8):
        waiting = [list(ASKED)[i] for i in order.permutation(len(ASKED))]
        done, steps = {}, 0
        with streaming(sampler, settings, rows=rows) as stream:
            while waiting or stream.keys:
                for _ in range(min(int(order.integers(3)) + (not stream.keys), stream.num_free)):
                    if waiting:
                        prompt, seed, index = ASKED[key := waiting.pop()]
                        stream.add(key, PROMPTS[prompt], seed=seed, index=index)
                for key, text in stream.texts().items():
                    assert expected[key].text.startswith(text)
                    if key in dropped and (text or order.integers(2)):
                        stream.drop(key)
                if stream.keys:
                    steps += 1
                    done |= stream.step()
        assert {*done} >= {*ASKED} - {*dropped}
        for key, sample in done.items():
            check_same(sample, expected[key])
        if rows == 1:
            # One row at a time: every step is a token of one reply; dropped ones cost less.
            assert sum(lengths[k] for k in done) <= steps < sum(lengths.values())
    # Afterwards the sampler is as it was.
    check_same(alone(sampler, PROMPTS[1], settings, 5, 0), expected["5/0/1"])


def scripted(sampler, monkeypatch, tokens):
    """Let the model say `tokens`, whatever it is asked."""
    start = len(sampler.encode(PROMPTS[0], SamplingSettings())) - 1

    def step(self, row_lengths, lengths, cache):
        places = torch.from_numpy(lengths.astype(np.int64)) - start
        return torch.nn.functional.one_hot(torch.tensor(tokens)[places], 259).float()

    monkeypatch.setattr(FastDecoder, "step", step)


def shown(sampler, settings):
    """The text after each step, and the sample at the end."""
    texts = []
    with streaming(sampler, settings, rows=2) as stream:
        stream.add("a", PROMPTS[0], seed=0)
        texts.append(stream.texts()["a"])
        while not (ended := stream.step()):
            texts.append(stream.texts()["a"])
    return texts, ended[0][1]


def test_text_grows_by_whole_characters(make_sampler, byte_tokenizer, monkeypatch):
    sampler = make_sampler(ends=(257,))
    tokens = byte_tokenizer.encode(SCRIPT, add_special_tokens=False)
    raw = SCRIPT.encode()
    assert len(tokens) == len(raw)
    scripted(sampler, monkeypatch, [*tokens, 257])
    texts, sample = shown(sampler, SamplingSettings(temperature=0, max_tokens=99))
    reader = codecs.getincrementaldecoder("utf-8")()
    expected = [""]
    for byte in raw:
        expected.append(expected[-1] + reader.decode(bytes([byte])))
    assert texts == expected
    assert (sample.text, sample.completion.finish) == (SCRIPT, "stop")
    assert len(set(texts)) == len(SCRIPT) + 1


def test_half_a_character_is_told_when_nothing_more_comes(
    make_sampler, byte_tokenizer, monkeypatch
):
    sampler = make_sampler(ends=(257,))
    tokens = byte_tokenizer.encode("a€", add_special_tokens=False)
    scripted(sampler, monkeypatch, tokens)
    texts, sample = shown(sampler, SamplingSettings(temperature=0, max_tokens=3))
    assert texts == ["", "a", "a"]
    assert (sample.text, sample.completion.finish) == ("a\ufffd", "length")


def test_a_stop_string_is_never_shown_in_part(make_sampler, byte_tokenizer, monkeypatch):
    sampler = make_sampler(ends=(257,))
    tokens = byte_tokenizer.encode("one EN two END", add_special_tokens=False)
    scripted(sampler, monkeypatch, tokens)
    texts, sample = shown(sampler, SamplingSettings(temperature=0, max_tokens=99, stop=("END",)))
    assert texts == [
        *("", "o", "on", "one", "one "),
        *("one ", "one ", "one EN ", "one EN t", "one EN tw", "one EN two", "one EN two "),
        *("one EN two ", "one EN two "),
    ]
    assert sample.text == "one EN two "


@given(
    st.text("ab€", max_size=6),
    st.lists(st.text("ab€", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_as_much_is_shown_as_will_stay(text, stops):
    """Neither more nor less: against what every continuation makes of it."""
    if any(stop in text for stop in stops):
        return

    def cut(whole):
        found = [whole.find(stop) for stop in stops if stop in whole]
        return whole[: min(found)] if found else whole

    ends = [cut(text), *(cut(text + stop[n:]) for stop in stops for n in range(len(stop)))]
    same = takewhile(lambda letters: len({*letters}) == 1, zip(*ends, strict=False))
    assert visible(text, stops) == "".join(letters[0] for letters in same)


def test_a_tokenizer_that_takes_text_back_shows_none_twice(make_sampler, monkeypatch):
    """SentencePiece's bytes: a broken run of them is unreadable from its first byte on."""
    sampler = make_sampler(ends=(257,))
    says = {
        0: "",
        1: "x",
        2: "xé",
        3: "x\ufffd\ufffd\ufffd",
        4: "x\ufffd\ufffd",
        5: "xéü",
        6: "xéü!",
    }
    monkeypatch.setattr(sampler, "text_of", lambda tokens: says[len(tokens)])
    scripted(sampler, monkeypatch, [1, 2, 3, 4, 5, 6])
    texts, sample = shown(sampler, SamplingSettings(temperature=0, max_tokens=6))
    assert texts == ["", "x", "xé", "xé", "xé", "xéü"]
    assert sample.text == "xéü!"


def test_what_cannot_begin_leaves_the_others_alone(make_sampler):
    sampler = make_sampler()
    settings = SamplingSettings(max_tokens=12, max_prompt_tokens=60)
    with streaming(sampler, settings, rows=2) as stream:
        stream.add("a", PROMPTS[0], seed=1)
        with pytest.raises(SettingsError, match="max_prompt_tokens is 60"):
            stream.add("b", PROMPTS[2], seed=1)
        with pytest.raises(ValueError, match="under way"):
            stream.add("a", PROMPTS[1], seed=1)
        stream.add("c", PROMPTS[1], seed=1)
        with pytest.raises(ValueError, match="no place is free"):
            stream.add("d", PROMPTS[3], seed=1)
        done = {}
        while stream.keys:
            done |= stream.step()
        assert stream.step() == []
    assert done.keys() == {"a", "c"}
    check_same(done["a"], alone(sampler, PROMPTS[0], settings, 1, 0))
    check_same(done["c"], alone(sampler, PROMPTS[1], settings, 1, 0))


def test_nobody_who_does_not_look_pays_for_it(make_sampler, byte_tokenizer, monkeypatch):
    """Nothing is decoded in a step; a dropped reply's place is free at once."""
    sampler = make_sampler(ends=())
    widths, decoded = [], []
    step, text_of = FastDecoder.step, sampler.text_of

    def spy(self, tokens, lengths, cache):
        widths.append(len(tokens))
        return step(self, tokens, lengths, cache)

    monkeypatch.setattr(FastDecoder, "step", spy)
    monkeypatch.setattr(sampler, "text_of", lambda tokens: decoded.append(1) or text_of(tokens))
    with streaming(sampler, SamplingSettings(max_tokens=9), rows=3) as stream:
        for number in range(3):
            stream.add(str(number), PROMPTS[number], seed=number)
        for _ in range(4):
            stream.step()
        stream.drop("1")
        stream.step()
        stream.add("3", PROMPTS[3], seed=3)
        stream.step()
        assert decoded == []
        assert widths == [3, 3, 3, 3, 2, 3]
        assert list(stream.texts()) == ["0", "2", "3"]

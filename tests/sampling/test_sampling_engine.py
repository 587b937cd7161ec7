"""The engine against transformers itself, and replies against the company they were drawn in."""

import copy
import re

import numpy as np
import pytest
import torch

from backflip.config import SamplingSettings
from backflip.data.chat import encode_prompt
from backflip.errors import ModelError, SettingsError
from backflip.records import Dialogue, Message, Prompt
from backflip.sampling import TextSampler
from backflip.sampling.fast import FastDecoder
from backflip.sampling.filters import filtered

FAMILIES = ("llama", "gpt2", "qwen3", "gemma2")
PROMPTS = [
    Prompt.from_text(text)
    for text in (
        "a",
        "Hello there.",
        "Why?",
        "A longer prompt, so that rows differ much in length and in room.",
        "Tell me a story.",
        "zzzz",
        "Another one of middling length.",
    )
] + [
    Prompt(content=Dialogue(messages=(Message(role=role, content="Short.") for role in roles)))
    for roles in (("system", "user"), ("user", "assistant", "user"))
]


@pytest.fixture
def make_sampler(make_tiny, byte_tokenizer):
    def make(family="llama", seed=0, dtype=torch.float32, ends=(257,), **fields):
        sampler = TextSampler(make_tiny(family, seed, dtype), byte_tokenizer, **fields)
        sampler.end_tokens = frozenset(ends)
        return sampler

    return make


def by_place(samples):
    return {(s.prompt_id, s.index): s.completion for s in samples}


def plain_logits(model, completion):
    """(T, V) logits of the reply's tokens from one plain forward pass of the model."""
    row = np.concatenate([completion.prompt_tokens, completion.tokens])
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(row).long()[None], use_cache=False).logits[0]
    return logits[len(completion.prompt_tokens) - 1 : -1]


def teacher_forced(model, completion, **filters):
    """(T,) log-probabilities of the reply's tokens from one plain forward pass of the model."""
    logits = filtered(plain_logits(model, completion), **filters)
    picked = torch.from_numpy(completion.tokens).long()[:, None]
    return torch.log_softmax(logits.double(), -1).gather(-1, picked)[:, 0].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reply_is_the_same_in_any_company(make_sampler, family):
    sampler = make_sampler(family, ends=range(40))  # some replies end early, places change hands
    alone = {}
    for prompt in PROMPTS:
        one = SamplingSettings(max_tokens=24, batch_size=1)
        alone |= by_place(sampler.sample([prompt], one, num_samples=3, seed=5))
    assert len({len(c.tokens) for c in alone.values()}) > 3
    order = np.random.default_rng(0)
    for batch_size in (3, 8, 64):
        shuffled = [PROMPTS[i] for i in order.permutation(len(PROMPTS))]
        many = SamplingSettings(max_tokens=24, batch_size=batch_size)
        together = by_place(sampler.sample(shuffled, many, num_samples=3, seed=5))
        assert together.keys() == alone.keys()
        for place, reply in together.items():
            np.testing.assert_array_equal(reply.tokens, alone[place].tokens)
            np.testing.assert_array_equal(reply.logprobs, alone[place].logprobs)
            assert (reply.text, reply.finish) == (alone[place].text, alone[place].finish)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "filters",
    [
        {"temperature": 1.0},
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    ],
    ids=["plain", "cool", "filtered"],
)
def test_logprobs_are_those_of_a_plain_forward_pass(make_sampler, family, filters):
    sampler = make_sampler(family, ends=range(20))
    settings = SamplingSettings(max_tokens=40, batch_size=5, **filters)
    gaps = []
    for sample in sampler.sample(PROMPTS, settings, num_samples=2, seed=1):
        expected = teacher_forced(sampler.model, sample.completion, **filters)
        gaps.append(np.abs(sample.completion.logprobs - expected))
        if "top_k" in filters:  # by rounding, the next token may tie with the last one kept
            plain = plain_logits(sampler.model, sample.completion)
            last, following = plain.topk(filters["top_k"] + 1).values[:, -2:].T
            gaps[-1] *= ((last - following) > 1e-5).numpy()
    assert np.concatenate(gaps).max() < 1e-4


def test_bfloat16_logprobs_stay_near_a_plain_forward_pass(make_sampler):
    sampler = make_sampler(dtype=torch.bfloat16)
    settings = SamplingSettings(max_tokens=40)
    gaps = [
        sample.completion.logprobs - teacher_forced(sampler.model, sample.completion, temperature=1)
        for sample in sampler.sample(PROMPTS, settings, num_samples=4, seed=1)
    ]
    # bfloat16 has 8 bits: logits of size 4 are rounded by up to 0.016 whichever way they are made.
    assert np.abs(np.concatenate(gaps)).mean() < 0.03


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_greedy_generation(make_sampler, byte_tokenizer, family):
    sampler = make_sampler(family)
    settings = SamplingSettings(max_tokens=30, temperature=0.0, batch_size=4)
    for sample in sampler.sample(PROMPTS, settings, seed=0):
        tokens = torch.from_numpy(encode_prompt(byte_tokenizer, sample.prompt.messages)).long()
        with torch.no_grad():
            whole = sampler.model.generate(
                tokens[None],
                attention_mask=torch.ones_like(tokens)[None],
                do_sample=False,
                max_new_tokens=30,
                eos_token_id=257,
                pad_token_id=258,
            )
        expected = whole[0, len(tokens) :].tolist()
        assert sample.completion.tokens.tolist() == expected
        assert sample.completion.logprobs.tolist() == [0.0] * len(expected)


def test_a_prompt_of_one_token(make_sampler, byte_tokenizer, monkeypatch):
    monkeypatch.setattr(byte_tokenizer, "chat_template", "{{ messages[0]['content'] }}")
    sampler = make_sampler()
    settings = SamplingSettings(max_tokens=20, batch_size=2)
    prompts = [Prompt.from_text(text) for text in ("x", "two words", "y")]
    for sample in sampler.sample(prompts, settings, seed=3):
        assert len(sample.completion.prompt_tokens) == len(sample.prompt.text)
        expected = teacher_forced(sampler.model, sample.completion, temperature=1.0)
        np.testing.assert_allclose(sample.completion.logprobs, expected, atol=1e-4)


def test_room_grows_with_long_replies(make_sampler):
    sampler = make_sampler()
    settings = SamplingSettings(max_tokens=150, batch_size=3)
    for sample in sampler.sample(PROMPTS[:2], settings, num_samples=2, seed=3):
        expected = teacher_forced(sampler.model, sample.completion, temperature=1.0)
        np.testing.assert_allclose(sample.completion.logprobs, expected, atol=1e-4)


def test_a_prompt_up_to_the_last_position(make_sampler):
    # The padding behind the prompt would need more positions than this model has.
    sampler = make_sampler("gpt2-250")
    prompt = Prompt.from_text("x" * 214)
    (sample,) = sampler.sample([prompt], SamplingSettings(max_tokens=1), seed=0)
    assert len(sample.completion.prompt_tokens) == 250 - 1
    expected = teacher_forced(sampler.model, sample.completion, temperature=1.0)
    np.testing.assert_allclose(sample.completion.logprobs, expected, atol=1e-4)


def test_samples_say_where_they_come_from(make_sampler):
    sampler = make_sampler(model_id="model-7")
    settings = SamplingSettings(max_tokens=5, batch_size=3, top_k=50)
    calls = []
    samples = sampler.sample(PROMPTS, settings, num_samples=2, seed=11, advance=calls.append)
    assert [s.prompt_id for s in samples] == [p.id for p in PROMPTS for _ in range(2)]
    assert [s.index for s in samples] == [0, 1] * len(PROMPTS)
    assert sum(calls) == len(samples)
    assert min(calls) > 0
    assert len({s.id for s in samples}) == len(samples)
    for sample in samples:
        assert (sample.model, sample.seed, sample.weights_version) == ("model-7", 11, 0)
        assert sample.settings["top_k"] == 50
        assert "batch_size" not in sample.settings  # it changes memory only
    other = sampler.sample(PROMPTS, settings, num_samples=2, seed=12)
    assert any(a.text != b.text for a, b in zip(samples, other, strict=True))


def test_a_sample_can_be_drawn_again_from_what_it_says_of_itself(make_sampler):
    """However many were drawn of its prompt: that is no part of how it was drawn."""
    drawn = make_sampler(ends=range(40)).sample(
        PROMPTS, SamplingSettings(max_tokens=9, temperature=1.4, top_k=60), num_samples=4, seed=21
    )
    for sample in drawn[2::9]:
        again = make_sampler(ends=range(40)).sample(
            [sample.prompt],
            SamplingSettings.parse(sample.settings),
            num_samples=sample.index + 1,
            seed=sample.seed,
        )[-1]
        assert (again.index, again.text) == (sample.index, sample.text)
        assert again.completion.tokens.tolist() == sample.completion.tokens.tolist()


def test_no_prompts_no_samples(make_sampler):
    assert make_sampler().sample([], SamplingSettings(), seed=0) == []


def test_replies_end_at_end_tokens_or_at_the_limit(make_sampler, byte_tokenizer):
    sampler = make_sampler(ends=range(40))
    settings = SamplingSettings(max_tokens=12)
    finishes = set()
    for sample in sampler.sample(PROMPTS, settings, num_samples=6, seed=2):
        reply = sample.completion
        ended = reply.tokens < 40
        assert not ended[:-1].any()
        assert reply.finish == ("stop" if ended[-1] else "length")
        assert (len(reply.tokens) == 12) or ended[-1]
        assert len(reply.logprobs) == len(reply.tokens)
        shown = reply.tokens[:-1] if ended[-1] else reply.tokens
        said = byte_tokenizer.decode(shown.tolist(), skip_special_tokens=True)
        assert reply.text == said.replace("\0", "\N{REPLACEMENT CHARACTER}")
        finishes.add(reply.finish)
    assert finishes == {"stop", "length"}


def test_end_tokens_come_from_the_model_and_the_tokenizer(make_tiny, byte_tokenizer):
    model = make_tiny("llama")
    model.generation_config.eos_token_id = [7, 9]
    assert TextSampler(model, byte_tokenizer).end_tokens == {7, 9, 257}
    model.generation_config.eos_token_id = 7
    assert TextSampler(model, byte_tokenizer).end_tokens == {7, 257}


def test_any_end_token_ends_a_reply(make_tiny, byte_tokenizer):
    """All that the model names, and the tokenizer's; none is part of the text."""
    model = make_tiny("llama")
    model.generation_config.eos_token_id = [*range(60)]
    sampler = TextSampler(model, byte_tokenizer)
    samples = sampler.sample(PROMPTS, SamplingSettings(max_tokens=30), num_samples=6, seed=2)
    last = [int(s.completion.tokens[-1]) for s in samples if s.completion.finish == "stop"]
    assert len({*last} & {*range(60)}) > 1
    for sample in samples:
        tokens = sample.completion.tokens.tolist()
        assert not {*tokens[:-1]} & {*range(60)}
        ended = sample.completion.finish == "stop"
        shown = tokens[:-1] if ended else tokens
        assert sample.text == byte_tokenizer.decode(shown, skip_special_tokens=True)


def test_the_token_that_a_template_ends_turns_with_ends_a_reply(make_tiny, byte_tokenizer):
    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.eos_token = tokenizer.pad_token
    sampler = TextSampler(make_tiny("llama"), tokenizer)
    end, eos = (tokenizer.convert_tokens_to_ids(name) for name in ("<|end|>", "<|pad|>"))
    assert sampler.end_tokens >= {end, eos}
    drawn = sampler.sample(PROMPTS, SamplingSettings(max_tokens=40), num_samples=8, seed=1)
    lasts = {int(s.completion.tokens[-1]) for s in drawn if s.completion.finish == "stop"}
    assert end in lasts  # and it stays in the tokens that it was drawn with
    for sample in drawn:
        assert not {end, eos} & set(sample.completion.tokens[:-1].tolist())
        assert "<|end|>" not in sample.text


def test_a_reply_ends_before_a_stop_string(make_sampler):
    sampler = make_sampler(ends=())
    plain = SamplingSettings(max_tokens=40)
    free = by_place(sampler.sample(PROMPTS, plain, num_samples=4, seed=4))
    # Stop strings that occur: a pair of characters of some reply, and one character of another.
    pairs = [p for c in free.values() for p in re.findall("[!-~]{2}", c.text[5:])]
    stops = (pairs[0], pairs[-1][0])
    stopped = by_place(
        sampler.sample(PROMPTS, plain.model_copy(update={"stop": stops}), num_samples=4, seed=4)
    )
    cut = 0
    for place, reply in stopped.items():
        whole = free[place]
        np.testing.assert_array_equal(reply.tokens, whole.tokens[: len(reply.tokens)])
        found = [i for i in (whole.text.find(stop) for stop in stops) if i >= 0]
        assert reply.finish == ("stop" if found else "length")
        assert reply.text == (whole.text[: min(found)] if found else whole.text)
        cut += bool(found)
    assert cut >= 2


def test_a_stop_string_that_is_named_twice_is_one(make_sampler):
    sampler = make_sampler(ends=())
    once, twice = (
        sampler.sample(PROMPTS, SamplingSettings(max_tokens=40, stop=stop), num_samples=2, seed=4)
        for stop in (("e", " "), ("e", " ", "e", " "))
    )
    assert [s.text for s in once] == [s.text for s in twice]
    assert any(s.completion.finish == "stop" for s in once)


def test_places_are_refilled_at_once(make_sampler, monkeypatch):
    sampler = make_sampler(ends=range(60))
    widths = []
    step = FastDecoder.step

    def spy(self, tokens, lengths, cache):
        widths.append(len(tokens))
        return step(self, tokens, lengths, cache)

    monkeypatch.setattr(FastDecoder, "step", spy)
    settings = SamplingSettings(max_tokens=16, batch_size=6)
    samples = sampler.sample(PROMPTS, settings, num_samples=4, seed=8)
    # No step is spent on a reply that is finished, and no place is empty while replies wait.
    assert sum(widths) == sum(len(s.completion.tokens) for s in samples)
    full = widths.index(next(w for w in widths if w < 6))
    assert set(widths[:full]) == {6}
    assert all(a >= b for a, b in zip(widths[full:], widths[full + 1 :], strict=False))


def test_prompts_are_read_once(make_sampler, monkeypatch):
    sampler = make_sampler()
    seen = []
    read = FastDecoder.read

    def spy(self, prompts):
        seen.extend(len(p) for p in prompts)
        return read(self, prompts)

    monkeypatch.setattr(FastDecoder, "read", spy)
    sampler.sample(PROMPTS, SamplingSettings(max_tokens=6, batch_size=4), num_samples=5, seed=0)
    assert len(seen) == len(PROMPTS)


def test_long_prompts_are_refused_by_name(make_sampler):
    sampler = make_sampler()
    with pytest.raises(SettingsError, match="max_prompt_tokens is 70") as caught:
        sampler.sample(PROMPTS, SamplingSettings(max_tokens=4, max_prompt_tokens=70), seed=0)
    assert caught.value.where == PROMPTS[3].id
    with pytest.raises(SettingsError, match="256 positions") as caught:
        sampler.sample(PROMPTS[3:], SamplingSettings(max_tokens=200), seed=0)
    assert caught.value.where == PROMPTS[3].id


def test_a_long_prompt_is_named_by_the_line_it_stands_in(make_sampler):
    sampler = make_sampler()
    prompt = Prompt.from_text("Hello there.", source="mine.jsonl:12")
    for settings in (
        SamplingSettings(max_prompt_tokens=20),
        SamplingSettings(max_tokens=250),
    ):
        with pytest.raises(SettingsError) as caught:
            sampler.sample([prompt], settings, seed=0)
        assert caught.value.where == "mine.jsonl:12"


def test_the_model_is_left_as_it_was(make_tiny, byte_tokenizer):
    model = make_tiny("llama")
    own = model.config._attn_implementation
    model.train()
    sampler = TextSampler(model, byte_tokenizer)
    sampler.sample(PROMPTS[:1], SamplingSettings(max_tokens=3), seed=0)
    assert model.training
    assert model.config._attn_implementation == own
    loss = model(input_ids=torch.arange(5)[None]).logits.square().mean()
    loss.backward()
    assert model.lm_head.weight.grad.abs().sum() > 0


def test_logits_that_are_not_finite_are_an_error(make_sampler):
    sampler = make_sampler()
    with torch.no_grad():
        sampler.model.lm_head.weight[3] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        sampler.sample(PROMPTS, SamplingSettings(max_tokens=3), seed=0)


def test_a_stop_string_may_be_a_special_token(make_tiny, byte_tokenizer):
    """No text shows one, so its token ends a reply; none may hide in a longer string."""
    special = {str(t): i for i, t in byte_tokenizer.added_tokens_decoder.items() if t.special}
    model = make_tiny("llama")
    model.generation_config.eos_token_id = None
    sampler = TextSampler(model, byte_tokenizer)
    name = next(n for n, i in special.items() if i not in sampler.end_tokens)
    plain = sampler.sample(PROMPTS, SamplingSettings(max_tokens=60), num_samples=12, seed=1)
    assert any(special[name] in s.completion.tokens[:-1] for s in plain)
    stopped = SamplingSettings(max_tokens=60, stop=(name,))
    for before, after in zip(
        plain, sampler.sample(PROMPTS, stopped, num_samples=12, seed=1), strict=True
    ):
        tokens = before.completion.tokens.tolist()
        if special[name] in tokens:
            kept = tokens[: tokens.index(special[name]) + 1]
            assert after.completion.tokens.tolist() == kept
            assert after.completion.finish == "stop"
        else:
            assert after.completion.tokens.tolist() == tokens
    with pytest.raises(SettingsError, match="special token"):
        sampler.sample(PROMPTS[:1], SamplingSettings(stop=(f"so {name}",)), seed=1)


def test_end_tokens_that_are_no_numbers_are_refused(make_tiny, byte_tokenizer):
    model = make_tiny("llama")
    model.generation_config.eos_token_id = ["<end>"]
    with pytest.raises(ModelError, match="not a token's number"):
        TextSampler(model, byte_tokenizer)

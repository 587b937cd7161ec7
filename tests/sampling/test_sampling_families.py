"""Every family of models is sampled from, and a reply is the model's own whatever decodes it."""

import numpy as np
import pytest
import torch

from backflip.config import SamplingSettings
from backflip.errors import ModelError
from backflip.records import Prompt
from backflip.sampling import TextSampler, fast
from backflip.sampling.aligned import AlignedDecoder
from backflip.sampling.fast import FastDecoder
from backflip.sampling.probe import pick_decoder, standing_in
from backflip.sampling.single import RereadingDecoder, SingleDecoder
from families import FAMILIES, build_family

PROMPTS = [
    Prompt.from_text(text) for text in ("a", "Why?", "Hello there.", "zzzzzz", "Tell me more, do.")
]
NO_OPENING = np.empty(0, np.int32)

# What no model in `FAMILIES` has: attention sinks, states of recurrent layers, such states beside
# attention, states that stay within the model, and a model that keeps nothing at all.
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2}
_SHORT = FAMILIES["gpt2"]
OTHERS = {
    "gpt_oss": FAMILIES["llama"] | {"head_dim": 8, "num_local_experts": 4, "sliding_window": 6},
    "mamba": _SIZES | {"state_size": 4},
    "rwkv": _SIZES | {"attention_hidden_size": 32, "context_length": 64},
    "lfm2": FAMILIES["llama"] | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48},
    "recurrent_gemma": FAMILIES["gemma"]
    | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 6},
    "openai-gpt": _SHORT,
}
SLOWER = {
    **dict.fromkeys(("gptj", "gpt_neo", "bloom", "falcon", "falcon_alibi", "mpt"), AlignedDecoder),
    "gpt_oss": AlignedDecoder,
    **dict.fromkeys(("mamba", "rwkv", "lfm2"), SingleDecoder),
    **dict.fromkeys(("recurrent_gemma", "openai-gpt"), RereadingDecoder),
}


@pytest.fixture(params=[*FAMILIES, *OTHERS])
def family(request, monkeypatch):
    if request.param in OTHERS:
        monkeypatch.setitem(FAMILIES, request.param, OTHERS[request.param])
    return request.param


@pytest.fixture
def sampler(family, byte_tokenizer):
    return TextSampler(build_family(family, vocabulary=259, seed=3), byte_tokenizer)


def by_place(samples):
    return {(s.prompt_id, s.index): s.completion for s in samples}


def test_greedy_is_the_models_own_generation(sampler):
    sampler.end_tokens = {257}
    settings = SamplingSettings(max_tokens=12, temperature=0.0, batch_size=4)
    for sample in sampler.sample(PROMPTS, settings, seed=0):
        tokens = torch.from_numpy(sample.completion.prompt_tokens).long()[None]
        with torch.no_grad():
            whole = sampler.model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=False,
                max_new_tokens=12,
                eos_token_id=257,
                pad_token_id=258,
            )
        assert sample.completion.tokens.tolist() == whole[0, tokens.shape[1] :].tolist()


def test_a_draw_is_one_from_the_models_own_distribution_in_any_company(sampler):
    """Alone and among others a reply has the same bits."""
    sampler.end_tokens = frozenset(range(20))  # some end early: places change hands
    alone = {}
    for prompt in PROMPTS:
        one = SamplingSettings(max_tokens=9, batch_size=1)
        alone |= by_place(sampler.sample([prompt], one, num_samples=2, seed=5))
    for reply in alone.values():
        row = torch.from_numpy(np.concatenate([reply.prompt_tokens, reply.tokens])).long()
        with torch.no_grad():
            logits = sampler.model(input_ids=row[None]).logits[0]
        logprobs = torch.log_softmax(logits[len(reply.prompt_tokens) - 1 : -1].double(), -1)
        own = logprobs[torch.arange(len(reply.tokens)), torch.from_numpy(reply.tokens).long()]
        np.testing.assert_allclose(reply.logprobs, own.numpy(), atol=1e-4)
    for batch_size in (3, 64):
        many = SamplingSettings(max_tokens=9, batch_size=batch_size)
        together = by_place(sampler.sample(PROMPTS[::-1], many, num_samples=2, seed=5))
        assert together.keys() == alone.keys()
        for place, reply in together.items():
            assert reply.tokens.tolist() == alone[place].tokens.tolist()
            assert reply.logprobs.tolist() == alone[place].logprobs.tolist()


@pytest.mark.parametrize(
    ("enlarge", "dtype"), [(0.01, torch.float32), (100.0, torch.float32), (1.0, torch.bfloat16)]
)
def test_the_decoder_does_not_depend_on_what_the_weights_are(family, enlarge, dtype):
    """Large or small or rounded; and they are as they were afterwards."""
    model = build_family(family, vocabulary=259, enlarge=enlarge).to(dtype)
    before = {name: (t, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    decoder = pick_decoder(model, NO_OPENING)
    assert type(decoder) is SLOWER.get(family, FastDecoder)
    assert bool(decoder.note) == (family in SLOWER)
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert tensor is before[name][0]
        assert torch.equal(tensor, before[name][1])


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_a_window_that_a_decoder_forgets_is_seen_however_wide_it_is(name, monkeypatch):
    model = build_family(name, vocabulary=259, sliding_window=4096)
    assert type(pick_decoder(model, NO_OPENING)) is FastDecoder
    bias = fast.RowCache.begin

    def forgetful(self, lengths, longest):
        step = bias(self, lengths, longest)
        of_window = step.bias
        monkeypatch.setattr(step, "bias", lambda window, heads: of_window(None, heads))
        return step

    monkeypatch.setattr(fast.RowCache, "begin", forgetful)
    assert type(pick_decoder(model, NO_OPENING)) is AlignedDecoder
    assert model.config.sliding_window == 4096


def test_tied_weights_stay_tied_while_numbers_stand_in():
    model = build_family("gpt2", vocabulary=259)
    with standing_in(model):
        assert model.lm_head.weight is model.transformer.wte.weight
        assert model.lm_head.weight.untyped_storage().nbytes() < 200_000


def test_a_model_that_takes_no_other_weights_is_sampled_all_the_same():
    model = build_family("llama", vocabulary=259)

    def refuse(layer, _):
        if not layer.weight.is_contiguous():
            raise RuntimeError("strides")

    model.lm_head.register_forward_pre_hook(refuse)
    assert type(pick_decoder(model, NO_OPENING)) is RereadingDecoder


def test_a_model_that_cannot_be_run_is_an_error_with_the_reason():
    model = build_family("llama", vocabulary=259)

    def refuse(*_):
        raise RuntimeError("out of order")

    hook = model.lm_head.register_forward_pre_hook(refuse)
    weight = model.lm_head.weight
    with pytest.raises(ModelError, match=r"LlamaForCausalLM .* RuntimeError: out of order"):
        pick_decoder(model, NO_OPENING)
    assert model.lm_head.weight is weight
    hook.remove()
    assert type(pick_decoder(model, NO_OPENING)) is FastDecoder

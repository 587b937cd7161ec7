import pytest
import torch

from backflip.config import SamplingSettings
from backflip.errors import ModelError
from backflip.records import Prompt
from backflip.sampling import TextSampler, packed
from backflip.sampling.packed import PackedLinears

PROMPTS = [Prompt.from_text(text) for text in ("One.", "And two more.")]
SETTINGS = SamplingSettings(max_tokens=12)


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2"])
def test_loaded_weights_act(make_tiny, byte_tokenizer, family):
    source = make_tiny(family, seed=1)
    expected = TextSampler(source, byte_tokenizer).sample(PROMPTS, SETTINGS, num_samples=2, seed=3)
    sampler = TextSampler(make_tiny(family, seed=2), byte_tokenizer)
    before = sampler.sample(PROMPTS, SETTINGS, num_samples=2, seed=3)
    sampler.load(source.state_dict(), version=17)
    after = sampler.sample(PROMPTS, SETTINGS, num_samples=2, seed=3)
    texts = [s.text for s in expected]
    assert [s.text for s in after] == texts != [s.text for s in before]
    assert {s.weights_version for s in after} == {17}
    # The weights are copies: what happens to the source afterwards does not reach the sampler.
    with torch.no_grad():
        for weight in source.parameters():
            weight.zero_()
    assert [s.text for s in sampler.sample(PROMPTS, SETTINGS, num_samples=2, seed=3)] == texts


def test_a_tied_head_may_be_missing(make_tiny, byte_tokenizer):
    source = make_tiny("llama-tied", seed=1)
    weights = source.state_dict()
    del weights["lm_head.weight"]
    sampler = TextSampler(make_tiny("llama-tied", seed=2), byte_tokenizer)
    sampler.load(weights, version=1)
    expected = TextSampler(source, byte_tokenizer).sample(PROMPTS, SETTINGS, num_samples=2, seed=3)
    assert [s.text for s in sampler.sample(PROMPTS, SETTINGS, num_samples=2, seed=3)] == [
        s.text for s in expected
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("lm_head.weight"), "missing: lm_head.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "has not: extra"),
        (lambda w: w.update({"model.norm.weight": torch.zeros(3)}), r"shape \(3,\)"),
    ],
)
def test_weights_of_another_model_are_refused_whole(make_tiny, byte_tokenizer, spoil, message):
    sampler = TextSampler(make_tiny("llama", seed=2), byte_tokenizer)
    own = {n: t.clone() for n, t in sampler.model.state_dict().items()}
    weights = make_tiny("llama", seed=1).state_dict()
    spoil(weights)
    with pytest.raises(ModelError, match=message):
        sampler.load(weights, version=1)
    assert sampler.version == 0
    assert all(torch.equal(own[n], t) for n, t in sampler.model.state_dict().items())


def test_weights_changed_in_place_act_at_once(make_tiny, byte_tokenizer):
    model = make_tiny("llama", seed=2)
    sampler = TextSampler(model, byte_tokenizer)
    before = [s.text for s in sampler.sample(PROMPTS, SETTINGS, num_samples=2, seed=3)]
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(-1.5)
    fresh = TextSampler(model, byte_tokenizer).sample(PROMPTS, SETTINGS, num_samples=2, seed=3)
    after = [s.text for s in sampler.sample(PROMPTS, SETTINGS, num_samples=2, seed=3)]
    assert after == [s.text for s in fresh] != before


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_packed_layers_are_the_layers(make_tiny, family, dtype):
    model = make_tiny(family, dtype=dtype)
    packed = PackedLinears(model)
    tokens = torch.arange(40).view(4, 10)
    with torch.inference_mode():
        own = model(input_ids=tokens).logits
        packed.pack()
        with packed.in_place():
            ours = model(input_ids=tokens).logits
        # bfloat16 sums are rounded once, to 8 bits; float32 ones in another order.
        tolerance = 1e-5 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(ours, own, atol=tolerance, rtol=tolerance)
        assert torch.equal(model(input_ids=tokens).logits, own)  # left as it was


def test_large_models_are_not_packed(make_tiny, monkeypatch):
    model = make_tiny("llama")
    monkeypatch.setattr(packed, "LARGEST", 10_000)
    layers = PackedLinears(model)
    layers.pack()
    with layers.in_place():
        assert not any("forward" in m.__dict__ for m in model.modules())

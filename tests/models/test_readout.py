"""From hidden states to log-probabilities: what a model does, and as large as it gets."""

import pytest
import torch
from brought import logprobs_alone
from torch.autograd import gradcheck
from transformers import BertConfig, BertLMHeadModel, LlamaForCausalLM

from backflip.models import TextInputs, TextPolicy
from backflip.models.readout import ReadOut
from families import FAMILIES, build_family

NOT_IN_FLOAT64 = {"mixtral", "qwen2_moe"}  # torch multiplies experts in float32 at most


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - NOT_IN_FLOAT64))
@pytest.mark.parametrize("size", [0.01, 1.0, 300.0])
def test_logprobs_and_gradients_are_those_of_the_models_own_logits(family, size):
    """In float64; at 300 a logit is some thousand, far over any cap."""
    model = build_family(family, vocabulary=50).double()
    readout = ReadOut(model)
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(5, 32, generator=generator, dtype=torch.float64) * size
    hidden.requires_grad_()
    tokens = torch.tensor([3, 7, 7, 49, 0])
    head = model.get_output_embeddings()
    leaves = [hidden, *head.parameters()]

    logprobs, entropy = readout.logprobs(hidden, tokens, temperature=0.7, entropy=True)
    table = (readout.logits(hidden) / 0.7).log_softmax(-1)
    expected = table.gather(1, tokens[:, None])[:, 0]
    torch.testing.assert_close(logprobs, expected)
    torch.testing.assert_close(entropy, torch.special.entr(table.exp()).sum(1))
    for mine, theirs in zip(
        torch.autograd.grad(logprobs.sum(), leaves),
        torch.autograd.grad(expected.sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("family", ["gemma2", "cohere", "granite", "gptj", "llama"])
def test_gradients_are_right_by_finite_differences(family):
    readout = ReadOut(build_family(family, vocabulary=20).double())
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(3, 32, generator=generator, dtype=torch.float64).requires_grad_()
    tokens = torch.tensor([3, 7, 19])
    assert gradcheck(lambda h: readout.logprobs(h, tokens, temperature=0.7, entropy=True), hidden)


class Wavy(LlamaForCausalLM):
    """Does something to its logits that nobody has thought of."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = 3 * output.logits.sin() + output.logits.roll(1, -1)
        return output


class Shrinking(LlamaForCausalLM):
    """Scales downwards only what is negative."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = torch.nn.functional.leaky_relu(output.logits)
        return output


def transformed():
    """The states of a BERT that reads from left to right pass through a layer more."""
    config = BertConfig(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        is_decoder=True,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    return BertLMHeadModel(config).eval()


def changed(kind):
    llama = build_family("llama", vocabulary=320)
    llama.__class__ = kind
    return llama


@pytest.mark.parametrize(
    "build",
    [lambda: changed(Wavy), lambda: changed(Shrinking), transformed],
    ids=("wavy", "shrinking", "transformed"),
)
def test_a_read_out_of_another_kind_is_the_models_own(build, tokenizer):
    policy = TextPolicy.from_model(build(), tokenizer)
    assert policy._readout.shaping is None
    prompts, replies = [[5, 6, 7], [9]], [[20, 21], [30, 31, 32, 33]]
    output = policy.evaluate(TextInputs.of(prompts, replies, pad_id=0), entropy=True)
    twin = build()
    total = torch.zeros((), dtype=torch.float64)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        expected = logprobs_alone(twin, prompt + reply)[len(prompt) - 1 :]
        mine = output.logprobs_BT[row, : len(reply)]
        torch.testing.assert_close(mine.double(), expected, rtol=0, atol=1e-4)
        ids = torch.tensor([prompt + reply])
        table = twin(ids).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
        entropies = torch.special.entr(table.exp()).sum(1)
        torch.testing.assert_close(output.entropy_BT[row, : len(reply)], entropies)
        total = total + table.gather(1, torch.tensor(reply)[:, None]).sum()
    output.logprobs_BT.sum().backward()
    total.backward()
    theirs = dict(twin.named_parameters())
    compared = 0
    for name, parameter in policy.model.named_parameters():
        if parameter.grad is not None and theirs[name].grad is not None:
            compared += 1
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-4)
    assert compared > 10


def test_the_read_out_of_an_autocast_model_is_computed_as_the_model_is(tokenizer):
    for family in ("llama", "gemma2"):
        model = build_family(family, vocabulary=320)
        policy = TextPolicy.from_model(model, tokenizer, precision=torch.bfloat16)
        exact = TextPolicy.from_model(build_family(family, vocabulary=320), tokenizer)
        inputs = TextInputs.of([[5, 6]], [[7, 8, 9]], pad_id=0)
        apart = policy.evaluate(inputs).logprobs_BT - exact.evaluate(inputs).logprobs_BT
        assert 0 < apart.abs().max() < 0.2

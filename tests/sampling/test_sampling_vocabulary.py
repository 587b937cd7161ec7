"""Ids that stand for no text are never drawn, and learner and sampler leave out the same ones."""

import numpy as np
import pytest
import torch

from backflip.config import SamplingSettings
from backflip.models import TextInputs, TextPolicy
from backflip.models.vocabulary import ids_without_text
from backflip.records import Prompt
from backflip.sampling import TextSampler
from families import build_family

PROMPTS = [Prompt.from_text(text) for text in ("a", "Why?", "Hello there.")]
ROWS = 320  # 259 have a token


class Holed:
    """A tokenizer that has lost some tokens."""

    def __init__(self, tokenizer, lost):
        self._tokenizer, self._lost = tokenizer, lost

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __len__(self):
        return len(self._tokenizer)

    def get_vocab(self):
        return {t: i for t, i in self._tokenizer.get_vocab().items() if i not in self._lost}


def lift(model, ids, by=4.0):
    """Make these ids far likelier than any other."""
    head = torch.nn.Linear(32, ROWS)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[ids] = by
    model.lm_head = head
    return model


@pytest.fixture(params=["beyond", "holes"])
def padded(request, byte_tokenizer):
    """A tokenizer, a model whose likeliest ids have no token in it, and these ids."""
    without = [*range(259, ROWS)]
    tokenizer = byte_tokenizer
    if request.param == "holes":
        without = [5, 30, 31, 200, *without]
        tokenizer = Holed(byte_tokenizer, {5, 30, 31, 200})
    return tokenizer, lift(build_family("llama", vocabulary=ROWS), without), without


def test_every_id_with_a_token_may_be_drawn_and_no_other(padded):
    tokenizer, _, without = padded
    assert ids_without_text(tokenizer, ROWS).tolist() == without
    assert ids_without_text(tokenizer, 5) is None
    assert ids_without_text(tokenizer, 260).tolist() == [i for i in without if i < 260]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_what_has_no_text_is_never_drawn(padded, temperature):
    tokenizer, model, without = padded
    sampler = TextSampler(model, tokenizer)
    settings = SamplingSettings(max_tokens=12, temperature=temperature, top_k=50)
    seen = set()
    for sample in sampler.sample(PROMPTS, settings, num_samples=8, seed=1):
        seen |= {*sample.completion.tokens.tolist()}
    assert len(seen) > 5
    assert not seen & {*without}


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_learner_has_the_distribution_that_was_drawn_from(padded, temperature):
    tokenizer, model, _ = padded
    sampler = TextSampler(model, tokenizer)
    settings = SamplingSettings(max_tokens=12, temperature=temperature)
    drawn = [s.completion for s in sampler.sample(PROMPTS, settings, num_samples=8, seed=1)]
    policy = TextPolicy.from_model(model, tokenizer, trainable=False)
    inputs = TextInputs.of([c.prompt_tokens for c in drawn], [c.tokens for c in drawn], pad_id=0)
    logprobs = policy.evaluate(inputs, temperature=temperature).logprobs_BT
    assert logprobs.exp().max() > 0.01  # what is left has all of the probability
    for row, completion in zip(logprobs, drawn, strict=True):
        own = row[: len(completion.tokens)].detach().numpy()
        np.testing.assert_allclose(completion.logprobs, own, atol=1e-4)

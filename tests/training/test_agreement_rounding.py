"""Rounding is measured where it goes beyond the usual: it is borne, and nothing else is."""

import contextlib
import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from training_networks import ConstantValue

from backflip.algorithms import PPO, PPOSettings
from backflip.config import OptimizerSettings, SamplingSettings
from backflip.data import encode_sample
from backflip.errors import TrainingError
from backflip.models import TextInputs, TextPolicy
from backflip.models.shaking import shaken
from backflip.records import Prompt
from backflip.sampling import TextSampler
from backflip.training import Learner, OnPolicyTrainer
from backflip.training.agreement import NARROW
from families import build_family

PROMPTS = [Prompt.from_text(text) for text in ("Rain?", "The kettle", "Why so tall?", "Sing.")]


class Score:
    def score(self, samples):
        return [float(len(sample.text)) for sample in samples]


class Sampler:
    """A sampler of the learner's policy; its samples may be changed, or drawn hotter."""

    def __init__(self, inner, change=None, at=None):
        self.inner, self.change, self.at = inner, change, at

    def load(self, weights, *, version):
        self.inner.load(weights, version=version)

    def sample(self, prompts, settings, **options):
        if self.at is not None:
            settings = settings.model_copy(update={"temperature": self.at})
        samples = self.inner.sample(prompts, settings, **options)
        return [*map(self.change, samples)] if self.change else samples


def training(tokenizer, family, *, temperature, dtype=torch.bfloat16, enlarge=2.0, **sampler):
    """Rollouts of a network with logits so large that bfloat16 parts sampler and learner."""
    model = build_family(
        family,
        vocabulary=len(tokenizer),
        enlarge=enlarge,
        eos_token_id=tokenizer.eos_token_id,
    )
    settings = PPOSettings(
        steps=3,
        prompts_per_step=16,
        samples_per_prompt=4,
        kl_beta=0.0,
        optimizer=OptimizerSettings(learning_rate=1e-4),
    )
    actor = TextPolicy.from_model(copy.deepcopy(model), tokenizer, precision=dtype)

    def collate(samples):
        pairs = [encode_sample(tokenizer, sample) for sample in samples]
        return TextInputs.of([p for p, _ in pairs], [r for _, r in pairs], pad_id=0)

    return OnPolicyTrainer(
        algorithm=PPO(settings),
        learner=Learner(
            actor,
            settings.optimizer,
            total_updates=100,
            reference=actor.frozen_copy(),
            value=ConstantValue(),
        ),
        sampler=Sampler(TextSampler(copy.deepcopy(model).to(dtype), tokenizer), **sampler),
        reward=Score(),
        prompts=PROMPTS,
        sampling=SamplingSettings(max_tokens=20, temperature=temperature),
        collate=collate,
        seed=0,
        precision=dtype,
        spell=lambda sample, place: str(sample.completion.tokens[place]),
    )


ROUGH = [("llama", 0.3), ("phi3", 0.3), ("mixtral", 1.0), ("mixtral", 0.3), ("qwen2_moe", 0.3)]


@pytest.mark.parametrize(("family", "temperature"), ROUGH)
def test_what_rounding_makes_of_a_networks_own_samples_is_borne(tokenizer, family, temperature):
    train = training(tokenizer, family, temperature=temperature)
    gaps = [train.step(step)["sampler_gap"] for step in range(2)]
    assert max(gaps) > 0.02, "nothing was rough here"


def test_some_of_it_is_beyond_what_is_usual(tokenizer, monkeypatch):
    """Without the measurement the run would stop."""
    monkeypatch.setattr(
        Learner,
        "shaken_logprobs",
        lambda learner, inputs, *, temperature, seed: learner.logprobs(
            inputs, temperature=temperature
        ),
    )
    train = training(tokenizer, "mixtral", temperature=0.3)
    assert train.tolerance is NARROW
    told = []
    for step in range(3):
        with contextlib.suppress(TrainingError):
            told.append(train.step(step))
    assert len(told) < 3


def backwards(sample):
    content = sample.content
    return replace(sample, content=replace(content, logprobs=content.logprobs[::-1].copy()))


def lost(sample):
    content = sample.content
    return replace(
        sample, content=replace(content, logprobs=np.full_like(content.logprobs, np.nan))
    )


@pytest.mark.parametrize(("family", "temperature"), ROUGH)
@pytest.mark.parametrize("how", [{"change": lost}, {"at": 2.0}], ids=["lost", "hotter"])
def test_what_is_no_rounding_is_told_however_rough_the_network(tokenizer, family, temperature, how):
    train = training(tokenizer, family, temperature=temperature, **how)
    with pytest.raises(TrainingError, match="more than rounding"):
        train.step(0)


@pytest.mark.parametrize(("family", "temperature"), ROUGH[:3])
def test_replies_that_were_written_anew_are_told(tokenizer, family, temperature):
    train = training(tokenizer, family, temperature=temperature, change=backwards)
    with pytest.raises(TrainingError, match="more than rounding"):
        train.step(0)


def test_a_single_sample_that_was_written_anew_is_told(tokenizer):
    samples = []

    def change(sample):
        samples.append(sample)
        return backwards(sample) if len(samples) == 7 else sample

    train = training(tokenizer, "llama", temperature=1.0, change=change)
    with pytest.raises(TrainingError, match="more than rounding") as caught:
        train.step(0)
    assert samples[6].id in caught.value.where


def test_shaking_moves_numbers_by_half_a_last_bit_and_ends_with_its_block():
    layer = nn.Identity()
    x = torch.rand(4, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    for precision in (torch.bfloat16, torch.float32):
        with shaken(layer, precision, 1):
            moved, again = layer(x), layer(x)
        with shaken(layer, precision, 1):
            torch.testing.assert_close(layer(x), moved, rtol=0, atol=0)
        unit = torch.finfo(precision).eps / 2
        torch.testing.assert_close(
            (moved / x - 1).abs(), torch.full_like(x, unit), rtol=1e-6, atol=0
        )
        assert 0.3 < float((moved > x).double().mean()) < 0.7
        assert not torch.equal(moved, again)
        torch.testing.assert_close(layer(x), x, rtol=0, atol=0)

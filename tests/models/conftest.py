"""Tiny models: two layers, width 32, random weights large enough that every part matters."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from backflip.config import ScratchSettings
from backflip.models import TextInputs, make_model, train_tokenizer

TEXTS = [
    "The kettle sang while the rain drew rivers on the window.",
    "Nobody had asked the lighthouse whether it wanted to be so tall.",
    "A kind answer costs two seconds; an unkind one costs an afternoon.",
] * 4

BuildModel = Callable[..., PreTrainedModel]


def enlarge(model: PreTrainedModel, seed: int = 1) -> PreTrainedModel:
    """Redraw the weights so that attention and biases change the outputs visibly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            norm = "norm" in name or ".ln_" in name
            scale = 0.1 if norm or parameter.ndim == 1 else 1.5 / parameter.shape[-1] ** 0.5
            parameter.copy_(drawn * scale + (1.0 if norm and name.endswith("weight") else 0.0))
    return model


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, 320)


@pytest.fixture
def build(tokenizer: PreTrainedTokenizerFast) -> BuildModel:
    """Builds a fresh "llama" or "gpt2" of the tokenizer's vocabulary."""

    def make(name: str, seed: int = 1, layers: int = 2, dropout: float = 0.0) -> PreTrainedModel:
        if name == "llama":
            settings = ScratchSettings(
                width=32, layers=layers, heads=4, key_value_heads=2, max_positions=64
            )
            return enlarge(make_model(settings, tokenizer, seed), seed)
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=64,
            n_embd=32,
            n_layer=layers,
            n_head=4,
            attn_pdrop=dropout,
            embd_pdrop=dropout,
            resid_pdrop=dropout,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return enlarge(GPT2LMHeadModel(config), seed)

    return make


@pytest.fixture(params=["llama", "gpt2"])
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def rows() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Prompts and replies of many lengths; several hold token 3, the end, inside and last."""
    rng = np.random.default_rng(5)
    lengths = [(1, 4), (7, 1), (3, 9), (5, 5), (2, 2)]
    prompts = [rng.integers(4, 300, n).astype(np.int32) for n, _ in lengths]
    replies = [rng.integers(4, 300, n).astype(np.int32) for _, n in lengths]
    prompts[1][3] = 3
    for reply in replies[1:]:
        reply[-1] = 3
    return prompts, replies


@pytest.fixture
def inputs(rows: tuple[list[np.ndarray], list[np.ndarray]]) -> TextInputs:
    return TextInputs.of(*rows, pad_id=3)


@pytest.fixture(scope="session")
def builtin_cache(request: pytest.FixtureRequest) -> Path:
    """A cache that outlives the run: unpacking the built-in model takes a while."""
    cache = request.config.cache
    assert cache is not None
    return cache.mkdir("backflip-models")

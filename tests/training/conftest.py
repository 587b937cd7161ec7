"""Tiny language models: two layers, width 32."""

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from backflip.config import ScratchSettings
from backflip.models import make_model, train_tokenizer

TEXTS = [
    "The kettle sang while the rain drew rivers on the window.",
    "Nobody had asked the lighthouse whether it wanted to be so tall.",
    "A kind answer costs two seconds; an unkind one costs an afternoon.",
] * 4

BuildModel = Callable[..., PreTrainedModel]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, 320)


@pytest.fixture
def build_model(tokenizer: PreTrainedTokenizerFast) -> BuildModel:
    """Builds a fresh Llama of the tokenizer's vocabulary, with weights large enough to matter."""

    def make(seed: int = 1) -> PreTrainedModel:
        settings = ScratchSettings(width=32, layers=2, heads=4, max_positions=128)
        model = make_model(settings, tokenizer, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    drawn = torch.randn(parameter.shape, generator=generator)
                    parameter.copy_(drawn / parameter.shape[-1] ** 0.5)
        return model

    return make

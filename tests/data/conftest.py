"""Tokenizers of the data tests: ChatML over bytes with merges, and one without a template."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('a system turn comes first') }}{% endif %}"
    "<|start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)

NAMES = {"bos_token": "<|start|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}


def make_tokenizer(template: str | None, vocabulary: int = 300) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|pad|>", "<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["user assistant it rains the the sun shines and shines"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **NAMES)
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def chat_tokenizer():
    return make_tokenizer(TEMPLATE)


@pytest.fixture(scope="session")
def other_tokenizer():
    """The same template over another vocabulary."""
    return make_tokenizer(TEMPLATE, vocabulary=262)


@pytest.fixture(scope="session")
def base_tokenizer():
    return make_tokenizer(None)

"""What users bring: tokenizers that pad in every way there is, with models of every family."""

import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from backflip.models import TextInputs, save_model, train_tokenizer
from families import FAMILIES, build_family

TEXTS = [
    "The kettle sang while the rain drew rivers on the window.",
    "Nobody had asked the lighthouse whether it wanted to be so tall.",
]

SCORED = sorted(FAMILIES.keys() - {"cohere", "granite"})
"""Families that transformers has a sequence classification of."""

COUNTS_FROM_THE_LEFT = {"gpt2", "gpt_neo", "gpt_bigcode"}
"""Families that read a row otherwise behind padding, unless they are told its positions."""


def one_special_token() -> PreTrainedTokenizerFast:
    return copy.deepcopy(_trained_as_gpt2())


@cache
def _trained_as_gpt2() -> PreTrainedTokenizerFast:
    """As GPT-2 has it: one token begins, ends and is unknown; none pads."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=264,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(TEXTS, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=learned, bos_token=end, eos_token=end, unk_token=end
    )


@cache
def _trained() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, 268)


def _own() -> PreTrainedTokenizerBase:
    return copy.deepcopy(_trained())


def _padding_with(token: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    tokenizer.add_special_tokens({"pad_token": token})
    return tokenizer


TOKENIZERS = {
    "its own": (_own, 0),
    "none": (one_special_token, 0),
    "none, spare rows": (one_special_token, 8),
    "the end": (lambda: _padding_with("<|endoftext|>", one_special_token()), 0),
    "the end, spare rows": (lambda: _padding_with("<|endoftext|>", one_special_token()), 8),
    "beyond the embeddings": (lambda: _padding_with("<pad>", one_special_token()), -1),
    "the beginning": (lambda: _padding_with("<|endoftext|>", _own()), 0),
    "the mark of a turn": (lambda: _padding_with("<|im_start|>", _own()), 0),
    "another end": (_own, 0),
    "a letter of the text": (lambda: _padding_with("o", one_special_token()), 0),
}
"""What is padded with: how the tokenizer is made, and rows beyond its tokens."""


def bring(
    folder: Path, family: str, padding: str, *, left: bool = False, enlarge: float = 1.0
) -> PreTrainedTokenizerBase:
    """Write a model of the family with such a tokenizer into a folder, as others would."""
    make, spare = TOKENIZERS[padding]
    tokenizer = make()
    tokenizer.padding_side = "left" if left else "right"
    tokenizer.init_kwargs["padding_side"] = tokenizer.padding_side  # what is written to files
    end = tokenizer.eos_token_id
    model = build_family(
        family, vocabulary=len(tokenizer) + spare, eos_token_id=end, enlarge=enlarge
    )
    ends = [end, tokenizer.pad_token_id] if padding == "another end" else end
    model.generation_config = GenerationConfig(eos_token_id=ends)
    save_model(model, tokenizer, folder)
    read = AutoTokenizer.from_pretrained(folder)
    assert read.padding_side == tokenizer.padding_side
    return read


def dialogues(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Rows of several lengths: ended, cut off, ended twice, ending in a mark of a turn."""
    end = str(tokenizer.eos_token)
    texts = [
        f"A kettle sang to nobody{end}",
        "so tall, so",
        f"why{end}{end}",
        f"rain on the window drew{end} on",
        "o",
        "tall<|im_start|>",
    ]
    return [tokenizer.encode(text) for text in texts]


def as_inputs(rows: Sequence[Sequence[int]], pad_id: int = 0) -> TextInputs:
    """Rows whose prompt is their first token."""
    return TextInputs.of([row[:1] for row in rows], [row[1:] for row in rows], pad_id)


def logprobs_alone(model: torch.nn.Module, row: Sequence[int]) -> torch.Tensor:
    """(len(row) - 1,) float64 log-probabilities by transformers alone, one row at a time."""
    ids = torch.tensor([row])
    with torch.no_grad():
        table = model(ids, use_cache=False).logits[0].double().log_softmax(-1)
    return table[:-1].gather(1, ids[0, 1:, None])[:, 0]

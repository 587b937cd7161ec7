"""Small models from nothing: a tokenizer learned from text, and a Llama of random weights."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from backflip.config import ScratchSettings
from backflip.errors import ModelError, SettingsError
from backflip.files.folders import new_folder
from backflip.models.files import write_record
from backflip.models.quiet import isolated_rng, quiet

PAD, BOS, TURN, END = "<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE tokenizer (Sennrich et al. 2016; bytes as in GPT-2).

    Every text can be written in it, whatever it was learned from. Beginning, end and padding are
    three tokens; turns of a dialogue are marked as in ChatML.

    Args:
        texts: what to learn from; read once, as a stream.
        vocabulary: most tokens it may have, the 256 bytes and 4 special tokens among them.

    Raises:
        ModelError: the vocabulary is too small for the bytes.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, BOS, TURN, END]
    if vocabulary < len(alphabet) + len(special):
        raise ModelError(
            f"a vocabulary of {vocabulary} is too small",
            hint=f"The {len(alphabet)} bytes and {len(special)} special tokens come first.",
        )
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    learned.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=[TURN],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(
    settings: ScratchSettings, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """A Llama (Touvron et al. 2023) of random float32 weights, drawn from `seed`.

    The feed-forward width is 8/3 of the width, to the next multiple of 8; the input embedding is
    the output layer too.

    Raises:
        SettingsError: width, heads and key-value heads do not divide one another.
    """
    groups = settings.key_value_heads or settings.heads
    if settings.width % settings.heads or settings.width // settings.heads % 2:
        raise SettingsError(
            f"width {settings.width} is not {settings.heads} heads of an even width",
            where="pretrain.scratch",
        )
    if settings.heads % groups:
        raise SettingsError(
            f"{settings.heads} heads cannot share {groups} key_value_heads evenly",
            where="pretrain.scratch",
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=-(-settings.width * 8 // 24) * 8,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=groups,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=True,
        **_special_ids(tokenizer),
        attention_dropout=0.0,
    )
    with isolated_rng(seed):
        return LlamaForCausalLM(config).float().eval()


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    return {name: getattr(tokenizer, name) for name in names}


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write a plain Hugging Face folder; it is there whole or not at all.

    Raises:
        ModelError: the folder cannot be written.
    """
    with new_folder(Path(folder), replace=True) as draft:
        with quiet():
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        write_record(draft, record or {})

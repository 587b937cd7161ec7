"""A tiny tokenizer with a chat template, and tiny models of several families."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|start|>system\nBe kind.<|end|>{% endif %}"
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SIZES = {"vocab_size": 259, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}


@pytest.fixture(scope="session")
def byte_tokenizer():
    """One token a byte, and three control tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|start|>", "<|end|>", "<|pad|>"])
    names = {"bos_token": "<|start|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **names)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _config(family):
    if family == "llama":
        return LlamaForCausalLM, LlamaConfig(**SIZES, **LAYERS, **HEADS)
    if family == "llama-tied":
        return LlamaForCausalLM, LlamaConfig(**SIZES, **LAYERS, **HEADS, tie_word_embeddings=True)
    if family == "qwen3":
        # Sliding windows in the second layer, much shorter than the prompts.
        windows = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
        return Qwen3ForCausalLM, Qwen3Config(**SIZES, **LAYERS, **HEADS, **windows)
    if family == "gemma2":
        caps = {"sliding_window": 6, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
        return Gemma2ForCausalLM, Gemma2Config(
            **SIZES, **LAYERS, **HEADS, **caps, query_pre_attn_scalar=8
        )
    positions = 250 if family == "gpt2-250" else 256
    return GPT2LMHeadModel, GPT2Config(
        **SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=positions
    )


@pytest.fixture(scope="session")
def make_tiny():
    """Make a tiny model whose weights are large enough that its choices depend on the context."""

    def make(family, seed=0, dtype=torch.float32):
        cls, config = _config(family)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = cls(config).eval()
            for name, weight in model.named_parameters():
                if weight.ndim > 1:
                    torch.nn.init.normal_(weight, std=0.25)
                elif "bias" in name:
                    torch.nn.init.normal_(weight, std=0.1)
        return model.to(dtype)

    return make

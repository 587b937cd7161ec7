"""One tiny model of every family that users bring: two layers, width 32, random weights.

    model = build_family("gemma2", vocabulary=len(tokenizer), seed=1)

The settings are as far apart as the families are: windows shorter than the rows of the tests, caps
on logits, shared key-value heads, biases, ALiBi, parallel blocks, experts. The weights are large
enough for every part to change the outputs.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

WIDTH, LAYERS, HEADS, POSITIONS, WINDOW = 32, 2, 4, 64, 6

_LLAMA_LIKE: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
}
_GEMMA_LIKE: dict[str, Any] = _LLAMA_LIKE | {"head_dim": 8}
_GPT2_LIKE: dict[str, Any] = {
    "n_embd": WIDTH,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_positions": POSITIONS,
}
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE | {"head_dim": 8},
    "gpt2": _GPT2_LIKE,
    "gpt_neox": {k: v for k, v in _LLAMA_LIKE.items() if k != "num_key_value_heads"},
    "gptj": _GPT2_LIKE | {"rotary_dim": 4},
    "gpt_neo": {
        "hidden_size": WIDTH,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "attention_types": [[["global", "local"], 1]],
        "window_size": WINDOW,
        "max_position_embeddings": POSITIONS,
    },
    "gemma": _GEMMA_LIKE,
    "gemma2": _GEMMA_LIKE
    | {
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": 5.0,
    },
    "gemma3_text": _GEMMA_LIKE
    | {
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "phi": _LLAMA_LIKE,
    "phi3": _LLAMA_LIKE | {"original_max_position_embeddings": POSITIONS, "sliding_window": None},
    "mistral": _LLAMA_LIKE | {"sliding_window": WINDOW},
    "olmo2": _LLAMA_LIKE,
    "starcoder2": _LLAMA_LIKE | {"sliding_window": None},
    "gpt_bigcode": _GPT2_LIKE,
    "smollm3": _LLAMA_LIKE | {"no_rope_layers": [1, 0]},
    "opt": {
        "hidden_size": WIDTH,
        "word_embed_proj_dim": WIDTH,
        "ffn_dim": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
    },
    "bloom": {"hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS},
    "falcon": {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
    },
    "falcon_alibi": {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "alibi": True,
    },
    "mpt": {"d_model": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "max_seq_len": POSITIONS},
    "stablelm": _LLAMA_LIKE,
    "mixtral": _LLAMA_LIKE | _EXPERTS | {"num_local_experts": 4, "sliding_window": None},
    "qwen2_moe": _LLAMA_LIKE
    | _EXPERTS
    | {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24},
    "cohere": _LLAMA_LIKE | {"logit_scale": 0.25},
    "granite": _LLAMA_LIKE
    | {"logits_scaling": 4.0, "attention_multiplier": 0.3, "residual_multiplier": 0.7},
}
"""Name: settings beside the vocabulary. `falcon_alibi` is Falcon with ALiBi instead of RoPE."""

_DROPOUT = ("attn_pdrop", "embd_pdrop", "resid_pdrop", "dropout", "attention_dropout")


def build_family(
    name: str, *, vocabulary: int, seed: int = 1, enlarge: float = 1.0, **settings: Any
) -> PreTrainedModel:
    """A model of the family in evaluation mode, float32, the same for the same seed.

    Args:
        name: a key of `FAMILIES`.
        vocabulary: rows of the embedding.
        seed: of the weights.
        enlarge: multiplies the weights of matrices.
        settings: laid over the family's, such as `eos_token_id`.
    """
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    chosen = FAMILIES[name] | {"vocab_size": vocabulary} | tokens
    config = AutoConfig.for_model(name.removesuffix("_alibi"), **(chosen | settings))
    for dropout in _DROPOUT:
        if isinstance(getattr(config, dropout, None), float):
            setattr(config, dropout, 0.0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _redraw(model, seed, enlarge)
    return model.eval()


def _redraw(model: PreTrainedModel, seed: int, enlarge: float) -> None:
    """Draw the weights anew so that attention, norms and biases change the outputs visibly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            norm = "norm" in name or ".ln_" in name or "layernorm" in name
            matrix = parameter.ndim > 1
            scale = enlarge * 1.5 / parameter.shape[-1] ** 0.5 if matrix else 0.1
            base = 1.0 if norm and name.endswith("weight") and not matrix else 0.0
            parameter.copy_(drawn * scale + base)

"""The attention that the engine puts in place of a model's own while it draws.

Two cases. A prompt is read with plain causal attention. A drawn token looks at its own row of the
cache: the heads that share a key-value head are multiplied with it as one matrix (no keys are
repeated), and masking is by each row's length. Both run without a mask from the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from backflip.sampling.cache import Step

NAME = "backflip_rows"
_STEP: ContextVar[Step | None] = ContextVar("step", default=None)


@contextmanager
def in_place(model: PreTrainedModel) -> Iterator[None]:
    """Let `model` use this attention inside the block."""
    own = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = own


@contextmanager
def decoding(step: Step) -> Iterator[None]:
    """Inside the block each row is one token that looks at its row of the cache."""
    token = _STEP.set(step)
    try:
        yield
    finally:
        _STEP.reset(token)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it.

    Args:
        module: the layer that asks; not needed.
        query: (N, Hq, L, D).
        key: (N, H, T, D) where H divides Hq.
        value: (N, H, T, D).
        attention_mask: not needed; who sees what follows from the case.
        scaling: of the scores; 1 / sqrt(D) when None.
        sliding_window: a token sees itself and the `sliding_window - 1` tokens before it.
        softcap: scores s become softcap * tanh(s / softcap) (Gemma 2).

    Returns:
        (N, L, Hq, D), and no attention weights.
    """
    scale = float(query.shape[-1] ** -0.5) if scaling is None else scaling
    step = _STEP.get()
    if step is None:
        mixed = _attend_prompt(query, key, value, scale, sliding_window, softcap)
    else:
        mixed = _attend_rows(query, key, value, scale, sliding_window, softcap, step)
    return mixed.transpose(1, 2), None


def _attend_prompt(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    length, total = query.shape[2], key.shape[2]
    plain = total == length and (window is None or length <= window)
    groups = query.shape[1] // key.shape[1]
    if softcap is None and plain:
        return scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=groups > 1
        )
    # Keys that were read before come first.
    place_T = torch.arange(total, device=query.device)
    own_L1 = place_T[total - length :, None]
    seen_LT = place_T <= own_L1
    if window is not None:
        seen_LT &= place_T > own_L1 - window
    if softcap is None:
        return scaled_dot_product_attention(
            query, key, value, attn_mask=seen_LT, scale=scaling, enable_gqa=groups > 1
        )
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = torch.matmul(query, key.transpose(2, 3)).float() * scaling
    scores = (torch.tanh(scores / softcap) * softcap).masked_fill(~seen_LT, float("-inf"))
    return torch.matmul(torch.softmax(scores, -1).to(value.dtype), value)


def _attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    window: int | None,
    softcap: float | None,
    step: Step,
) -> Tensor:
    rows, num_heads, room, width = key.shape
    bias = step.bias(window, num_heads)
    grouped = query.reshape(rows * num_heads, -1, width)
    keys = key.reshape(rows * num_heads, room, width)
    values = value.reshape(rows * num_heads, room, -1)
    if softcap is None and query.dtype == torch.float32:
        scores = torch.baddbmm(bias, grouped, keys.transpose(1, 2), alpha=scaling)
    else:
        scores = torch.bmm(grouped, keys.transpose(1, 2)).float() * scaling
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores + bias
    weights = torch.softmax(scores, dim=-1).to(values.dtype)
    return torch.bmm(weights, values).view(rows, query.shape[1], 1, -1)


AttentionInterface.register(NAME, attend)

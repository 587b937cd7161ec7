"""Log-probabilities of tokens, from hidden states and without the logits of a whole batch.

The logits of a batch are its largest tensor by far: 8 replies of 512 tokens over a vocabulary of
150,000 take 2.4 GB in float32, twice over in the backward pass. Here they exist for `chunk`
positions at a time and are made again in the backward pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import Function

from backflip.losses.shapes import require, require_mask, require_shape


def token_logprobs(
    *,
    hidden_ND: Float[Tensor, "N D"],
    weight_VD: Float[Tensor, "V D"],
    tokens_N: Int[Tensor, " N"],
    temperature: float = 1.0,
    chunk: int = 512,
    entropy: bool = False,
    bias_V: Float[Tensor, " V"] | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    never_M: Int[Tensor, " M"] | None = None,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"] | None]:
    """Log-probabilities in nats of tokens under softmax(logits / temperature).

    The logits are cap(scale (hidden weight^T + bias)), where cap(x) = softcap tanh(x / softcap)
    (Gemma Team 2024, "Gemma 2", section 2.2), or x without a softcap.

    No more than `chunk` x V logits exist at a time, in the backward pass too; only hidden, weight
    and (N,) vectors are kept for it. The product is taken in the dtype of the arguments, or in
    autocast's where that is on; everything after it in float32 (float64 for float64). Gradients
    flow to hidden, weight and bias, those to the weight being added up in float32; second
    derivatives are refused. `chunk` changes memory, and results only by rounding.

    Args:
        hidden_ND: last hidden states, after the final norm, at the positions that predict.
        weight_VD: output embedding.
        tokens_N: the token that followed each position.
        temperature: divides the logits; must be that of the sampler for on-policy learning.
        chunk: positions worked on at once.
        entropy: whether to return the entropy of each distribution too.
        bias_V: bias of the output layer.
        scale: multiplies the product and the bias.
        softcap: the logits approach it and its negative, but never pass them.
        never_M: ids that are never drawn: the others have all of the probability.

    Returns:
        Log-probabilities, and entropies in nats or None; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not fit, tokens outside the vocabulary or never drawn, a
            temperature, chunk or softcap that is not positive.
    """
    num_tokens, width = hidden_ND.shape
    require_shape((None, width), weight_VD=weight_VD)
    require_shape((num_tokens,), tokens_N=tokens_N)
    require_shape((len(weight_VD),), bias_V=bias_V)
    require(temperature > 0, f"temperature is {temperature}, not above 0")
    require(chunk >= 1, f"chunk is {chunk}, not 1 or more")
    require(softcap is None or softcap > 0, f"softcap is {softcap}, not above 0")
    require(
        (tokens_N >= 0) & (tokens_N < len(weight_VD)),
        f"tokens_N holds a token outside the vocabulary of {len(weight_VD)}",
    )
    if never_M is not None:
        require(~torch.isin(tokens_N, never_M), "tokens_N holds a token that is never drawn")
    shape = _Shape(scale, softcap, temperature)
    logprobs_N, entropy_N = _TokenLogprobs.apply(
        hidden_ND, weight_VD, bias_V, tokens_N.long(), shape, chunk, entropy, never_M
    )
    return logprobs_N, entropy_N


class _TokenLogprobs(Function):
    """Chunk by chunk forward, and again chunk by chunk backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        tokens_N: Tensor,
        shape: "_Shape",
        chunk: int,
        entropy: bool,
        never_M: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        head = _Head(_product_dtype(hidden_ND, weight_VD), weight_VD, bias_V, shape)
        logprobs_N = hidden_ND.new_empty(len(tokens_N), dtype=head.wide)
        total_N = torch.empty_like(logprobs_N)  # log of the sum of exponentials
        entropy_N = torch.empty_like(logprobs_N) if entropy else None
        for rows in _chunks(len(tokens_N), chunk):
            logits_CV = head.logits(hidden_ND[rows])
            if never_M is not None:
                logits_CV.index_fill_(1, never_M, -torch.inf)
            total_N[rows] = logits_CV.logsumexp(1)
            logprobs_N[rows] = logits_CV.gather(1, tokens_N[rows, None])[:, 0] - total_N[rows]
            if entropy_N is not None:
                probs_CV = logits_CV.sub_(total_N[rows, None]).exp_()
                entropy_N[rows] = torch.special.entr(probs_CV).sum(1)
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, tokens_N, total_N, entropy_N)
        ctx.product_dtype, ctx.shape, ctx.chunk = head.dtype, shape, chunk
        ctx.never_M = never_M
        ctx.set_materialize_grads(False)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # asked for by create_graph; it would get a constant
            raise RuntimeError("token_logprobs has no second derivatives")
        grad_N, grad_entropy_N = grad_outputs
        hidden_ND, weight_VD, bias_V, tokens_N, total_N, entropy_N = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        head = _Head(ctx.product_dtype, weight_VD, bias_V, ctx.shape)
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VD, dtype=head.wide) if needs_weight else None
        grad_bias = torch.zeros_like(bias_V, dtype=head.wide) if needs_bias else None
        for rows in _chunks(len(tokens_N), ctx.chunk):
            logits_CV = head.logits(hidden_ND[rows])
            cap_slope_CV = ctx.shape.cap_slope(logits_CV)
            probs_CV = logits_CV.sub_(total_N[rows, None]).exp_()
            if ctx.never_M is not None:
                probs_CV.index_fill_(1, ctx.never_M, 0.0)
            grad_CV = _logit_gradient(
                probs_CV,
                tokens_N[rows],
                None if grad_N is None else grad_N[rows],
                None if grad_entropy_N is None else (grad_entropy_N[rows], entropy_N[rows]),
            )
            ctx.shape.carry(grad_CV, cap_slope_CV)
            if grad_bias is not None:
                grad_bias += grad_CV.sum(0)
            head.add_gradients(grad_CV, hidden_ND, rows, grad_hidden, grad_weight)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight_VD.dtype),
            None if grad_bias is None else grad_bias.to(bias_V.dtype),
            *([None] * 5),
        )


def _logit_gradient(
    probs_CV: Tensor,
    tokens_C: Tensor,
    grad_C: Tensor | None,
    entropy_C: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """(C, V) gradient by z, the logits over temperature; overwrites `probs_CV`.

    d log p_token / dz_j = [j is token] - p_j, and dH / dz_j = -p_j (log p_j + H).
    """
    extra_CV = None
    if entropy_C is not None:
        upstream_C, value_C = entropy_C
        extra_CV = torch.special.entr(probs_CV).sub_(probs_CV * value_C[:, None])
        extra_CV.mul_(upstream_C[:, None])
    if grad_C is None:
        probs_CV.zero_()
    else:
        probs_CV.mul_(-grad_C[:, None])
        probs_CV[torch.arange(len(tokens_C), device=tokens_C.device), tokens_C] += grad_C
    return probs_CV if extra_CV is None else probs_CV.add_(extra_CV)


@dataclass(frozen=True)
class _Shape:
    """What is done to the output layer's product: cap(scale x) / temperature."""

    scale: float
    softcap: float | None
    temperature: float

    def apply(self, product_CV: Tensor) -> Tensor:
        """In place."""
        if self.scale != 1.0:
            product_CV.mul_(self.scale)
        if self.softcap is not None:
            product_CV.div_(self.softcap).tanh_().mul_(self.softcap)
        return product_CV if self.temperature == 1.0 else product_CV.div_(self.temperature)

    def cap_slope(self, logits_CV: Tensor) -> Tensor | None:
        """The cap's derivative, 1 - tanh^2, from what `apply` gave; None without a softcap."""
        if self.softcap is None:
            return None
        return (logits_CV * (self.temperature / self.softcap)).square_().neg_().add_(1)

    def carry(self, grad_CV: Tensor, cap_slope_CV: Tensor | None) -> Tensor:
        """From the gradient by what `apply` gave to that by the product, in place."""
        if self.temperature != 1.0:
            grad_CV.div_(self.temperature)
        if cap_slope_CV is not None:
            grad_CV.mul_(cap_slope_CV)
        return grad_CV if self.scale == 1.0 else grad_CV.mul_(self.scale)


class _Head:
    """The output layer: logits of a chunk of positions, and its gradients."""

    def __init__(self, dtype: torch.dtype, weight_VD: Tensor, bias_V: Tensor | None, shape: _Shape):
        self.dtype = dtype
        self.wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.weight_VD = weight_VD.to(dtype)
        self.bias_V = None if bias_V is None else bias_V.to(self.wide)
        self.shape = shape

    def logits(self, hidden_CD: Tensor) -> Tensor:
        """(C, V) logits over temperature, in a tensor of their own."""
        with torch.autocast(hidden_CD.device.type, enabled=False):
            logits_CV = (hidden_CD.to(self.dtype) @ self.weight_VD.T).to(self.wide)
        if self.bias_V is not None:
            logits_CV += self.bias_V
        return self.shape.apply(logits_CV)

    def add_gradients(
        self,
        grad_CV: Tensor,
        hidden_ND: Tensor,
        rows: slice,
        grad_hidden: Tensor | None,
        grad_weight: Tensor | None,
    ) -> None:
        """Carry the gradient by the product on to hidden and weight."""
        with torch.autocast(hidden_ND.device.type, enabled=False):
            grad_CV = grad_CV.to(self.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = (grad_CV @ self.weight_VD).to(grad_hidden.dtype)
            if grad_weight is not None:
                hidden_CD = hidden_ND[rows].to(self.dtype)
                if self.dtype == self.wide:
                    grad_weight.addmm_(grad_CV.T, hidden_CD)
                else:
                    grad_weight += grad_CV.T @ hidden_CD


def _product_dtype(hidden_ND: Tensor, weight_VD: Tensor) -> torch.dtype:
    """The dtype in which a linear layer would multiply the two here."""
    dtype = torch.promote_types(hidden_ND.dtype, weight_VD.dtype)
    device = hidden_ND.device.type
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return dtype


def _chunks(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def next_token_loss(
    *, logprobs_BT: Float[Tensor, "B T"], mask_BT: Bool[Tensor, "B T"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Negative log-likelihood of the tokens that count: its sum in nats, and their number.

    Sums and counts of micro-batches add up to those of the batch; divide once at the end.

    Args:
        logprobs_BT: log-probability of each token; anything where masked.
        mask_BT: True where a token is learned (the reply's, not the prompt's).
    """
    require_mask(logprobs_BT.shape, mask_BT=mask_BT)
    return -torch.where(mask_BT, logprobs_BT, 0.0).sum(), mask_BT.sum()

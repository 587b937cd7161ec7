"""Draws that can be repeated: a stream of uniforms for each reply, and the inverse CDF.

A reply's randomness is a function of (seed, prompt id, index) and of the place of the token in the
reply, never of a generator that others have used: so a reply is the same in any batch.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The CDF is first searched block by block. A running float64 sum over a whole vocabulary is twenty
# times slower than float32 sums of so many numbers, which are as exact as float32 probabilities.
BLOCK = 256


def uniforms(seed: int, prompt_id: str, index: int, count: int) -> NDArray[np.float64]:
    """(count,) uniforms in [0, 1) of one reply; a longer stream begins with the shorter one.

    A Philox counter generator (Salmon et al. 2011) under a 128-bit key that is the BLAKE2b digest
    of the three names.
    """
    digest = hashlib.blake2b(f"{seed}/{index}/{prompt_id}".encode(), digest_size=16).digest()
    philox = np.random.Philox(key=int.from_bytes(digest, "little"))
    return np.random.Generator(philox).random(count)


def draw(logits_NV: Tensor, uniform_N: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a token from each row by inverse CDF.

    The token is the first whose running sum of probabilities exceeds u times their total. The
    probabilities and the sums of a block of them are float32, running sums are float64. A token
    with no mass is never drawn.

    Args:
        logits_NV: (N, V) float32, -inf for tokens that may not be drawn; a row needs one finite.
        uniform_N: (N,) float64 in [0, 1).

    Returns:
        (N,) int64 tokens and (N,) float32 log-probabilities, in nats, under softmax(logits); not a
        number where a row's logits are not.
    """
    probs_NV = torch.softmax(logits_NV, dim=-1)
    sums_NK = _block_sums(probs_NV)
    running_NK = sums_NK.cumsum(-1)
    total_N1 = running_NK[:, -1:]
    target_N1 = uniform_N[:, None] * total_N1
    block_N1 = torch.searchsorted(running_NK, target_N1, right=True)
    block_N1 = block_N1.clamp(max=sums_NK.shape[-1] - 1)
    before_NK = torch.cat([torch.zeros_like(total_N1), running_NK[:, :-1]], dim=-1)
    token_N1 = _search_block(probs_NV, block_N1, target_N1 - before_NK.gather(-1, block_N1))

    # Dividing by the float64 total mends what float32 rounding did to softmax's own normaliser.
    logprob_N1 = probs_NV.gather(-1, token_N1).double().log() - total_N1.log()
    return token_N1[:, 0], logprob_N1[:, 0].float()


def _block_sums(probs_NV: Tensor) -> Tensor:
    """(N, K) float64 sums of consecutive blocks, the last one shorter."""
    size = probs_NV.shape[-1]
    whole = size // BLOCK * BLOCK
    sums = probs_NV[:, :whole].unflatten(-1, (-1, BLOCK)).sum(-1)
    if whole < size:
        sums = torch.cat([sums, probs_NV[:, whole:].sum(-1, keepdim=True)], dim=-1)
    return sums.double()


def _search_block(probs_NV: Tensor, block_N1: Tensor, rest_N1: Tensor) -> Tensor:
    """(N, 1) first token of the block whose running sum exceeds `rest`."""
    size = probs_NV.shape[-1]
    place_NJ = block_N1 * BLOCK + torch.arange(BLOCK, device=probs_NV.device)
    inside_NJ = place_NJ < size
    mass_NJ = probs_NV.gather(-1, place_NJ.clamp(max=size - 1)).double() * inside_NJ
    offset_N1 = (mass_NJ.cumsum(-1) <= rest_N1).sum(-1, keepdim=True)
    # The block's sum and its running sum may differ by rounding; then none exceeds `rest` and the
    # block's last token with mass is meant.
    steps = torch.arange(BLOCK, device=probs_NV.device)
    last_N1 = torch.where(mass_NJ > 0, steps, 0).amax(-1, keepdim=True)
    return block_N1 * BLOCK + torch.minimum(offset_N1, last_N1)

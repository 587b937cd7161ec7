"""From logits to the distribution that tokens are drawn from.

The filters are pure functions of (N, V) float32 logits, applied in one order: temperature, top-k,
top-p, min-p. What a filter takes out becomes -inf. Each filter is a threshold on a row's own
logits: tokens that tie with the last one kept are kept too, so the result depends neither on the
order of a sort nor on the rows beside it.
"""

import math

import torch
from torch import Tensor

# Nearly every row of a language model has its nucleus among this many tokens; the few that have
# not are sorted whole, which costs fifty times as much.
NUCLEUS_GUESS = 1024


def scale(logits_NV: Tensor, temperature: float) -> Tensor:
    """Logits divided by the temperature, as float32. Needs `temperature` above 0."""
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} is not above 0")
    scaled_NV = logits_NV.float()
    return scaled_NV if temperature == 1.0 else scaled_NV / temperature


def keep_top_k(logits_NV: Tensor, k: int) -> Tensor:
    """Keep the `k` likeliest tokens of each row and those that tie with the k-th (Fan et al. 2018).

    0 keeps all.
    """
    if k <= 0 or k >= logits_NV.shape[-1]:
        return logits_NV
    kth_N1 = torch.topk(logits_NV, k, dim=-1).values[:, -1:]
    return logits_NV.masked_fill(logits_NV < kth_N1, -math.inf)


def keep_top_p(logits_NV: Tensor, p: float) -> Tensor:
    """Keep the nucleus: the fewest likeliest tokens that hold `p` of the mass.

    Holtzman et al. 2020. Tokens that tie with the last of them are kept too. Sums are taken in
    float64. 1 keeps all.
    """
    if p >= 1.0:
        return logits_NV
    top_N1 = logits_NV.amax(-1, keepdim=True)
    mass_N = (logits_NV - top_N1).exp().sum(-1, dtype=torch.float64)
    guess = min(NUCLEUS_GUESS, logits_NV.shape[-1])
    likeliest_NG = torch.topk(logits_NV, guess, dim=-1).values
    threshold_N, found_N = _nucleus_edge(likeliest_NG, mass_N, p)
    if not bool(found_N.all()):
        rest = (~found_N).nonzero()[:, 0]
        ordered_RV = torch.sort(logits_NV[rest], dim=-1, descending=True).values
        threshold_N[rest] = _nucleus_edge(ordered_RV, mass_N[rest], p)[0]
    return logits_NV.masked_fill(logits_NV < threshold_N[:, None], -math.inf)


def _nucleus_edge(ordered_NG: Tensor, mass_N: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """(N,) logit of the last token of the nucleus, and whether it lies within these G tokens."""
    weights_NG = (ordered_NG - ordered_NG[:, :1]).exp()
    before_N = (weights_NG.cumsum(-1, dtype=torch.float64) < p * mass_N[:, None]).sum(-1)
    last = ordered_NG.shape[-1] - 1
    edge_N = ordered_NG.gather(-1, before_N.clamp(max=last)[:, None])[:, 0]
    return edge_N, before_N <= last


def keep_min_p(logits_NV: Tensor, share: float) -> Tensor:
    """Keep tokens at least `share` times as likely as the likeliest; 0 keeps all.

    Nguyen et al. 2024.
    """
    if share <= 0.0:
        return logits_NV
    edge_N1 = logits_NV.amax(-1, keepdim=True) + math.log(share)
    return logits_NV.masked_fill(logits_NV < edge_N1, -math.inf)


def filtered(
    logits_NV: Tensor, *, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Tensor:
    """Logits of the distribution that tokens are drawn from: (N, V) float32, -inf where cut."""
    logits_NV = scale(logits_NV, temperature)
    return keep_min_p(keep_top_p(keep_top_k(logits_NV, top_k), top_p), min_p)

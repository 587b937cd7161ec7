"""Parts of policy-gradient learning: KL estimates, advantages, clipped losses.

Rows are samples, columns actions (tokens of a reply, steps of a clip), right-padded; `mask_BT` is
True where an action was taken, and anything, NaN too, may stand elsewhere. Losses come as sums
over actions: who calls them adds those of the micro-batches and divides once by `mask_BT.sum()`
of the whole batch. A shape that does not fit or a mask that is not bool raises `ValueError`.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.losses.shapes import require, require_mask, require_shape

WHITEN_EPSILON = 1e-8


def kl_estimate(
    *,
    logprobs: Float[Tensor, "*shape"],
    ref_logprobs: Float[Tensor, "*shape"],
    estimator: Literal["k1", "k2", "k3"],
) -> Float[Tensor, "*shape"]:
    """KL(policy || reference) estimated at each action that the policy took, in nats.

    With d = log policy - log reference (Schulman 2020, "Approximating KL divergence"):

        k1 = d                   unbiased, of either sign
        k2 = d^2 / 2             biased, never negative
        k3 = e^-d - 1 + d        unbiased, never negative, heavy-tailed where the policy has
                                 left what the reference finds likely

    These are values. As a loss, k1's expected gradient is zero, and k2's is that of the KL.

    Args:
        logprobs: log-probabilities of the actions under the policy that took them.
        ref_logprobs: the same actions' under the reference.
        estimator: which of the three.
    """
    require_shape(logprobs.shape, ref_logprobs=ref_logprobs)
    d = logprobs - ref_logprobs
    if estimator == "k1":
        return d
    if estimator == "k2":
        return d.square() / 2
    if estimator == "k3":
        return torch.expm1(-d) + d
    raise ValueError(f"estimator is {estimator!r}, not 'k1', 'k2' or 'k3'")


def gae(
    *,
    rewards_BT: Float[Tensor, "B T"],
    values_BT: Float[Tensor, "B T"],
    mask_BT: Bool[Tensor, "B T"],
    bootstrap_B: Float[Tensor, " B"],
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) and lambda-returns.

        delta_t = r_t + gamma v_{t+1} - v_t
        A_t     = delta_t + gamma lam A_{t+1},   A = 0 after the last action
        R_t     = A_t + v_t

    lam = 0 is the one-step temporal difference; lam = 1 the discounted sum of all rewards to come
    (and of the bootstrap) less v_t.

    Args:
        rewards_BT: reward of each action.
        values_BT: value of the state before each action.
        mask_BT: True where an action was taken; each row's actions come first.
        bootstrap_B: value of the state after the last action: 0 where the episode ended there
            (terminated), the value model's where it was only cut off (truncated).
        gamma: discount of one step.
        lam: weight of later deltas, 0 to 1.

    Returns:
        Advantages and returns, zero where masked.
    """
    require_mask((None, None), mask_BT=mask_BT)
    num_rows, num_steps = mask_BT.shape
    require_shape((num_rows, num_steps), rewards_BT=rewards_BT, values_BT=values_BT)
    require_shape((num_rows,), bootstrap_B=bootstrap_B)
    require(~(mask_BT[:, 1:] & ~mask_BT[:, :-1]), "mask_BT has an action after padding")
    values_BT = torch.where(mask_BT, values_BT, 0.0)
    rewards_BT = torch.where(mask_BT, rewards_BT, 0.0)
    follows_BT = torch.cat([mask_BT[:, 1:], torch.zeros_like(mask_BT[:, :1])], 1)
    shifted_BT = torch.cat([values_BT[:, 1:], torch.zeros_like(values_BT[:, :1])], 1)
    next_BT = torch.where(follows_BT, shifted_BT, bootstrap_B[:, None])
    delta_BT = torch.where(mask_BT, rewards_BT + gamma * next_BT - values_BT, 0.0)

    advantage_B = torch.zeros_like(bootstrap_B)
    backwards: list[Tensor] = []
    for delta_B in reversed(delta_BT.unbind(1)):
        advantage_B = delta_B + gamma * lam * advantage_B
        backwards.append(advantage_B)
    advantages_BT = torch.stack(backwards[::-1], 1) if backwards else delta_BT
    return advantages_BT, advantages_BT + values_BT


def whiten(
    *,
    values: Float[Tensor, "*shape"],
    mask: Bool[Tensor, "*shape"],
    shift_mean: bool = True,
) -> Float[Tensor, "*shape"]:
    """Scale to variance 1, and with `shift_mean` to mean 0, over what counts; zero elsewhere.

    The variance is the population's (divided by the count, not one less), and 1e-8 is added to
    it, as OpenAI's original code does ("The N+ Implementation Details of RLHF with PPO", Huang et
    al. 2024). Without `shift_mean` the mean stays what it was. Give it the whole batch: of a
    micro-batch it would take another mean.
    """
    require_mask(values.shape, mask=mask)
    count = mask.sum().clamp_min(1)
    mean = torch.where(mask, values, 0.0).sum() / count
    centred = torch.where(mask, values - mean, 0.0)
    scaled = centred * torch.rsqrt(centred.square().sum() / count + WHITEN_EPSILON)
    return scaled if shift_mean else torch.where(mask, scaled + mean, 0.0)


def clipped_policy_loss(
    *,
    logprobs_BT: Float[Tensor, "B T"],
    old_logprobs_BT: Float[Tensor, "B T"],
    advantages_BT: Float[Tensor, "B T"],
    mask_BT: Bool[Tensor, "B T"],
    clip: float,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """PPO's clipped surrogate with its sign turned, so to be made small.

    Schulman et al. 2017, eq. 7:

        r = exp(log policy - log old),   loss = max(-A r, -A clamp(r, 1 - clip, 1 + clip))

    Args:
        logprobs_BT: log-probabilities of the actions under the policy being trained.
        old_logprobs_BT: those under the policy that acted; a constant.
        advantages_BT: advantages; constants.
        mask_BT: True where an action was taken.
        clip: half-width of the ratio's range.

    Returns:
        The sum over actions, and metrics without gradient: sums `clip_fraction` (actions whose
        loss the clip raised) and `approx_kl` (KL(old || policy) by k3), and `ratio_max`, the
        largest ratio, of which micro-batches take the maximum and not the sum; 0 without actions.
    """
    shape = logprobs_BT.shape
    require_shape((None, None), logprobs_BT=logprobs_BT)
    require_shape(shape, old_logprobs_BT=old_logprobs_BT, advantages_BT=advantages_BT)
    require_mask(shape, mask_BT=mask_BT)
    require(clip > 0, f"clip is {clip}, not above 0")
    # Masked before any arithmetic, not after: the gradient of exp(NaN) * 0 would be NaN.
    new_BT = torch.where(mask_BT, logprobs_BT, 0.0)
    old_BT = torch.where(mask_BT, old_logprobs_BT, 0.0).detach()
    advantages_BT = torch.where(mask_BT, advantages_BT, 0.0).detach()
    ratio_BT = (new_BT - old_BT).exp()
    free_BT = -advantages_BT * ratio_BT
    clipped_BT = -advantages_BT * ratio_BT.clamp(1 - clip, 1 + clip)
    with torch.no_grad():
        kl_BT = kl_estimate(logprobs=old_BT, ref_logprobs=new_BT, estimator="k3")
        ratios_BT = torch.where(mask_BT, ratio_BT, 0.0)
        metrics = {
            "clip_fraction": (clipped_BT > free_BT).sum().to(ratio_BT.dtype),
            "approx_kl": kl_BT.sum(),
            "ratio_max": ratios_BT.max() if ratios_BT.numel() else ratios_BT.sum(),
        }
    return torch.maximum(free_BT, clipped_BT).sum(), metrics


def clipped_value_loss(
    *,
    values_BT: Float[Tensor, "B T"],
    old_values_BT: Float[Tensor, "B T"],
    returns_BT: Float[Tensor, "B T"],
    mask_BT: Bool[Tensor, "B T"],
    clip: float,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Squared error of the values, clipped near the old ones as OpenAI's code does (N+ details).

        near = clamp(v, old - clip, old + clip),   loss = max((v - R)^2, (near - R)^2) / 2

    Args:
        values_BT: values by the model being trained.
        old_values_BT: those of the model as it was when the policy acted; constants.
        returns_BT: what they should be; constants.
        mask_BT: True where an action was taken.
        clip: how far a value may move for gain; infinity for the plain squared error.

    Returns:
        The sum over actions, and sums without gradient: `value_clip_fraction` (actions whose
        loss the clip raised) and `value_squared_error`, unclipped and not halved.
    """
    shape = values_BT.shape
    require_shape((None, None), values_BT=values_BT)
    require_shape(shape, old_values_BT=old_values_BT, returns_BT=returns_BT)
    require_mask(shape, mask_BT=mask_BT)
    require(clip > 0, f"clip is {clip}, not above 0")
    values_BT = torch.where(mask_BT, values_BT, 0.0)
    old_BT = torch.where(mask_BT, old_values_BT, 0.0).detach()
    returns_BT = torch.where(mask_BT, returns_BT, 0.0).detach()
    free_BT = (values_BT - returns_BT).square()
    # Not old + clamp(v - old): rounding would make a value within the range look clipped.
    near_BT = torch.clamp(values_BT, old_BT - clip, old_BT + clip)
    clipped_BT = (near_BT - returns_BT).square()
    metrics = {
        "value_clip_fraction": (clipped_BT > free_BT).sum().to(free_BT.dtype),
        "value_squared_error": free_BT.detach().sum(),
    }
    return torch.maximum(free_BT, clipped_BT).sum() / 2, metrics

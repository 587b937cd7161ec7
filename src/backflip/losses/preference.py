"""Losses that learn a policy from pairs directly, without a reward model or sampling."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from backflip.losses.shapes import require, require_shape


def dpo_loss(
    *,
    logprobs_B2: Float[Tensor, "B 2"],
    ref_logprobs_B2: Float[Tensor, "B 2"],
    beta: float,
    variant: Literal["sigmoid", "ipo"] = "sigmoid",
    label_smoothing: float = 0.0,
    lengths_B2: Int[Tensor, "B 2"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Direct preference optimisation and IPO; column 0 is the chosen sample, 1 the rejected.

    With d = log policy - log reference of a sample and h = d_chosen - d_rejected,

        sigmoid:  -(1 - e) log s(beta h) - e log s(-beta h)
        ipo:      (h - 1 / (2 beta))^2

    "sigmoid" is DPO (Rafailov et al. 2023, eq. 7) and, with `label_smoothing` e, conservative DPO
    (Mitchell 2023), whose optimum is a finite log s(beta h) = log(1 - e). "ipo" is Azar et al.
    2023, eq. 17, where beta is the paper's tau.

    Args:
        logprobs_B2: log-probability of each sample under the policy, summed over its actions.
        ref_logprobs_B2: the same under the reference; a constant.
        beta: strength of the pull to the reference, above 0.
        variant: which loss.
        label_smoothing: share of pairs taken to be labelled the wrong way round, 0 to 0.5;
            "sigmoid" only.
        lengths_B2: number of actions of each sample. When given, d is a mean over actions and not
            a sum: for "ipo" the form its authors recommend in practice, for "sigmoid" the
            length-normalised DPO of Tulu 3 (Lambert et al. 2024).

    Returns:
        The sum over pairs, and sums without gradient: `accuracy` (pairs with the higher implicit
        reward on the chosen sample; equal ones count half, so that an untrained policy has 0.5),
        `chosen_reward`, `rejected_reward` (beta d) and `margin` (beta h).

    Raises:
        ValueError: shapes that do not fit, or settings out of the ranges above.
    """
    num_pairs = len(logprobs_B2)
    require_shape((num_pairs, 2), logprobs_B2=logprobs_B2, ref_logprobs_B2=ref_logprobs_B2)
    require_shape((num_pairs, 2), lengths_B2=lengths_B2)
    require(beta > 0, f"beta is {beta}, not above 0")
    require(0 <= label_smoothing <= 0.5, f"label_smoothing is {label_smoothing}, not 0 to 0.5")
    log_ratio_B2 = logprobs_B2 - ref_logprobs_B2.detach()
    if lengths_B2 is not None:
        require(lengths_B2 >= 1, "lengths_B2 holds a sample without actions")
        log_ratio_B2 = log_ratio_B2 / lengths_B2
    h_B = log_ratio_B2[:, 0] - log_ratio_B2[:, 1]
    if variant == "sigmoid":
        right_B, wrong_B = logsigmoid(beta * h_B), logsigmoid(-beta * h_B)
        loss_B = -(1 - label_smoothing) * right_B - label_smoothing * wrong_B
    elif variant == "ipo":
        require(label_smoothing == 0, "label_smoothing belongs to the sigmoid variant, not to ipo")
        loss_B = (h_B - 1 / (2 * beta)).square()
    else:
        raise ValueError(f"variant is {variant!r}, not 'sigmoid' or 'ipo'")
    return loss_B.sum(), _measure(beta * log_ratio_B2.detach())


def _measure(reward_B2: Tensor) -> dict[str, Tensor]:
    """Sums over pairs of the implicit rewards, and of how often and how far the chosen leads."""
    margin_B = reward_B2[:, 0] - reward_B2[:, 1]
    return {
        "accuracy": ((margin_B.sign() + 1) / 2).sum(),
        "chosen_reward": reward_B2[:, 0].sum(),
        "rejected_reward": reward_B2[:, 1].sum(),
        "margin": margin_B.sum(),
    }

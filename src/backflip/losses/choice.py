"""Likelihoods of feedback: what a noisily rational person chose, given scores of the options.

Every function follows one rule (Jeon, Milli, Dragan 2020, "Reward-rational (implicit) choice"):
the probability of a choice is a softmax of beta * score. `beta_B` is the reliability of whoever
chose: 0 is a coin, infinity never errs. Each function returns the negative log-likelihood of each
item in nats, (B,), in the dtype of the scores; who calls it adds and divides. All are computed in
log space, so that scores hundreds apart give finite losses and gradients, and none multiplies
matrices, which autocast would round.

Codes of a comparison are `A`, `B`, `TIE` and `BOTH_BAD`; `CHOICES` maps the names of the records
to them. A code, level or index out of range, a shape that does not fit and a mask that is not bool
raise `ValueError`.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from backflip.losses.shapes import require, require_mask, require_shape

A, B, TIE, BOTH_BAD = range(4)
CHOICES: Mapping[str, int] = {"a": A, "b": B, "tie": TIE, "both_bad": BOTH_BAD}
MAX_RANKED = 8
"""Most samples in one ranking: its likelihood sums over the 2^K - 1 sets that could be chosen."""


def comparison_nll(
    *,
    scores_B2: Float[Tensor, "B 2"],
    choice_B: Int[Tensor, " B"],
    beta_B: Float[Tensor, " B"],
    log_tie: Tensor | float,
    margin_B: Float[Tensor, " B"] | None = None,
    threshold: Tensor | float | None = None,
    ties: Literal["davidson", "rao_kupper"] = "davidson",
) -> Float[Tensor, " B"]:
    """One of two over the other: Bradley-Terry (1952) with ties, a margin and "both bad".

    With u = beta * score and s the logistic function,

        davidson (1970):    P(a) : P(b) : P(tie) = e^u_a : e^u_b : e^(log_tie + (u_a + u_b) / 2)
        rao_kupper (1967):  P(a) = s(u_a - u_b - log t),  P(b) = s(u_b - u_a - log t),
                            P(tie) = (t^2 - 1) P(a) P(b),  t = 1 + e^log_tie

    `log_tie` = -inf forbids ties: both become Bradley-Terry. "Both bad" is a tie of two samples
    that each fall below a threshold in the logistic sense, one after the other:

        P(both bad) = P(no preference) q,  P(tie) = P(no preference) (1 - q),
        q = s(beta (threshold - score_a)) s(beta (threshold - score_b))

    so that the four probabilities sum to one.

    Args:
        scores_B2: scores of samples a and b.
        choice_B: `A`, `B`, `TIE` or `BOTH_BAD`.
        beta_B: reliability of the annotator.
        log_tie: prevalence of ties; one number, or (B,).
        margin_B: by how much the preferred score must be ahead (Llama 2, Touvron et al. 2023,
            eq. 2), in units of the score; taken from the preferred score only, never with a tie.
        threshold: score under which a sample is bad; one number, or (B,). None, or -inf in a row:
            "both bad" was not offered there, and a tie is any tie.
        ties: which model of ties.
    """
    num_rows = len(scores_B2)
    require_shape((num_rows, 2), scores_B2=scores_B2)
    require_shape((num_rows,), choice_B=choice_B, beta_B=beta_B, margin_B=margin_B)
    last = TIE if threshold is None else BOTH_BAD
    require(
        (choice_B >= A) & (choice_B <= last),
        f"choice_B holds a code outside 0 to {last}"
        + (": both_bad needs a threshold" if threshold is None else ""),
    )
    log_tie_B = _per_row(log_tie, scores_B2)
    utility_B2 = beta_B[:, None] * _behind(scores_B2, choice_B, margin_B)
    if ties == "davidson":
        log_probs = _davidson(utility_B2, log_tie_B)
    elif ties == "rao_kupper":
        log_probs = _rao_kupper(utility_B2, log_tie_B)
    else:
        raise ValueError(f"ties is {ties!r}, not 'davidson' or 'rao_kupper'")
    if threshold is not None:
        split_B2 = _both_bad(scores_B2, beta_B, _per_row(threshold, scores_B2))
        log_probs = torch.cat([log_probs[:, :TIE], log_probs[:, TIE:] + split_B2], 1)
    return -log_probs.gather(1, choice_B.long()[:, None]).squeeze(1)


def _behind(scores_B2: Tensor, choice_B: Tensor, margin_B: Tensor | None) -> Tensor:
    """(B, 2) the scores, the preferred one less its margin."""
    if margin_B is None:
        return scores_B2
    preferred_B2 = torch.stack([choice_B == A, choice_B == B], 1)
    return scores_B2 - torch.where(preferred_B2, margin_B[:, None], 0.0)


def _davidson(utility_B2: Tensor, log_tie_B: Tensor) -> Tensor:
    """(B, 3) log-probabilities of a, b and no preference."""
    tie_B = log_tie_B + utility_B2.mean(1)
    return torch.cat([utility_B2, tie_B[:, None]], 1).log_softmax(1)


def _rao_kupper(utility_B2: Tensor, log_tie_B: Tensor) -> Tensor:
    """(B, 3) log-probabilities of a, b and no preference."""
    # t - 1 = e^log_tie and t + 1 = 2 + e^log_tie, each without leaving log space. (softplus would
    # do for the first, but it switches to the identity at 20 and is wrong by 2e-9 there.)
    log_t_B = torch.logaddexp(log_tie_B, torch.zeros_like(log_tie_B))
    log_t_plus_1_B = torch.logaddexp(log_tie_B, torch.full_like(log_tie_B, math.log(2)))
    ahead_B = utility_B2[:, 0] - utility_B2[:, 1]
    a_B = logsigmoid(ahead_B - log_t_B)
    b_B = logsigmoid(-ahead_B - log_t_B)
    return torch.stack([a_B, b_B, log_tie_B + log_t_plus_1_B + a_B + b_B], 1)


def _both_bad(scores_B2: Tensor, beta_B: Tensor, threshold_B: Tensor) -> Tensor:
    """(B, 2) log(1 - q) and log q of the docstring above; 0 and -inf where not offered."""
    offered_B = threshold_B > -math.inf
    # An infinity must not reach the arithmetic: its gradient would be 0 * inf.
    finite_B = torch.where(offered_B, threshold_B, 0.0)
    below_B2 = beta_B[:, None] * (finite_B[:, None] - scores_B2)
    log_bad_B2, log_fine_B2 = logsigmoid(below_B2), logsigmoid(-below_B2)
    # 1 - q = (a is fine) + (a is bad, b is fine): no difference of near equals.
    not_both_B = torch.logaddexp(log_fine_B2[:, 0], log_bad_B2[:, 0] + log_fine_B2[:, 1])
    both_B = torch.where(offered_B, log_bad_B2.sum(1), -math.inf)
    return torch.stack([torch.where(offered_B, not_both_B, 0.0), both_B], 1)


def ranking_nll(
    *,
    scores_BK: Float[Tensor, "B K"],
    ranks_BK: Int[Tensor, "B K"],
    beta_B: Float[Tensor, " B"],
    log_tie: Tensor | float,
    mask_BK: Bool[Tensor, "B K"] | None = None,
) -> Float[Tensor, " B"]:
    """An order of K samples with ties: Plackett-Luce as chosen set by set (Davidson-Luce).

    The best set is chosen from all samples, the next from those left, and so on (Firth,
    Kosmidis, Turner 2019, "Davidson-Luce model for multi-item choice with ties"). A set S is
    chosen from those left with probability in proportion to

        w(S) = e^((|S| - 1) log_tie) * (product of e^u_i over i in S)^(1 / |S|),  u = beta * score

    The paper gives each size of set a prevalence of its own; here they are powers of one, which is
    what a handful of ranked samples can teach. Two samples are Davidson's comparison;
    `log_tie` = -inf is Plackett-Luce. The K samples are one item: their order is one choice, not
    K (K - 1) / 2 independent ones.

    Args:
        scores_BK: scores; K of at most `MAX_RANKED`.
        ranks_BK: place of each sample, the least is the best, equal ones are tied; only their
            order counts.
        beta_B: reliability of the annotator.
        log_tie: prevalence of ties; one number, or (B,).
        mask_BK: True where there is a sample; None: everywhere. Anything may stand elsewhere.
    """
    num_rows, K = scores_BK.shape
    require_shape((num_rows, K), ranks_BK=ranks_BK)
    require_shape((num_rows,), beta_B=beta_B)
    require_mask((num_rows, K), mask_BK=mask_BK)
    require(K <= MAX_RANKED, f"scores_BK ranks {K} samples; at most {MAX_RANKED} can be ranked")
    there_BK = torch.ones_like(ranks_BK, dtype=torch.bool) if mask_BK is None else mask_BK
    utility_BK = beta_B[:, None] * torch.where(there_BK, scores_BK, 0.0)

    # A set of samples is a number whose bit i says whether sample i is in it.
    bit_K = 1 << torch.arange(K, device=scores_BK.device)
    set_S = torch.arange(1, 1 << K, device=scores_BK.device)
    weight_BS = _set_weights(utility_BK, _per_row(log_tie, scores_BK), (set_S[:, None] & bit_K) > 0)

    # Sample i stands for the choice of the set it is tied in; of a tied set, the first one does.
    place_BK1, place_B1K = ranks_BK[:, :, None], ranks_BK[:, None, :]
    chosen_BK = (((place_B1K == place_BK1) & there_BK[:, None, :]) * bit_K).sum(2)
    left_BK = (((place_B1K >= place_BK1) & there_BK[:, None, :]) * bit_K).sum(2)
    counts_BK = there_BK & ((chosen_BK & -chosen_BK) == bit_K)

    possible_BKS = (set_S & ~left_BK[:, :, None]) == 0
    total_BK = weight_BS[:, None, :].masked_fill(~possible_BKS, -math.inf).logsumexp(2)
    taken_BK = weight_BS.gather(1, (chosen_BK - 1).clamp_min(0))
    return torch.where(counts_BK, total_BK - taken_BK, 0.0).sum(1)


def _set_weights(utility_BK: Tensor, log_tie_B: Tensor, member_SK: Tensor) -> Tensor:
    """(B, S) log w of every set: mean utility of its members, and the price of its ties."""
    size_S = member_SK.sum(1)
    mean_BS = (utility_BK[:, None, :] * member_SK).sum(2) / size_S
    # A set of one pays nothing even when ties are forbidden, where 0 * -inf would be NaN.
    price_BS = torch.where(size_S > 1, (size_S - 1) * log_tie_B[:, None], 0.0)
    return mean_BS + price_BS


def rating_nll(
    *,
    scores_B: Float[Tensor, " B"],
    level_B: Int[Tensor, " B"],
    cutpoints_BC: Float[Tensor, "B C"],
    beta_B: Float[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """A level on an ordinal scale: cumulative link, logistic (McCullagh 1980).

        P(level <= c) = s(cutpoint_c - beta * score),  levels 1 to C + 1

    Cut points are on the scale of beta * score: a rater with beta 0 uses the levels as often as
    ever, whatever the sample.

    Args:
        scores_B: scores.
        level_B: levels from 1, the worst, to C + 1.
        cutpoints_BC: ascending; a row with fewer levels than others ends in +inf.
        beta_B: reliability of the annotator.
    """
    num_rows, C = cutpoints_BC.shape
    require_shape((num_rows,), scores_B=scores_B, level_B=level_B, beta_B=beta_B)
    require((level_B >= 1) & (level_B <= C + 1), f"level_B holds a level outside 1 to {C + 1}")
    require(~(cutpoints_BC.diff(dim=1) < 0), "cutpoints_BC descends within a row")
    level_B1 = level_B.long()[:, None]
    upper_B = cutpoints_BC.gather(1, (level_B1 - 1).clamp_max(C - 1)).squeeze(1)
    lower_B = cutpoints_BC.gather(1, (level_B1 - 2).clamp_min(0)).squeeze(1)
    has_upper_B, has_lower_B = level_B <= C, level_B >= 2
    require(
        ~(has_lower_B & (lower_B == math.inf)), "level_B holds a level above its row's cutpoints"
    )
    # s(x) - s(y) = s(x) s(-y) (1 - e^(y - x)): the difference of near equals is only in the gap.
    inside_B = has_upper_B & has_lower_B
    gap_B = torch.where(inside_B, upper_B - lower_B, 1.0)
    utility_B = beta_B * scores_B
    return -(
        torch.where(has_upper_B, logsigmoid(upper_B - utility_B), 0.0)
        + torch.where(has_lower_B, logsigmoid(utility_B - lower_B), 0.0)
        + torch.where(inside_B, torch.log(-torch.expm1(-gap_B)), 0.0)
    )


def ordered_cutpoints(
    first: Float[Tensor, " *rows"], log_gaps: Float[Tensor, "*rows gaps"]
) -> Float[Tensor, "*rows gaps+1"]:
    """Ascending cut points from free parameters: the first one, and the logs of the gaps."""
    require_shape(log_gaps.shape[:-1], first=first)
    return first[..., None] + pad(log_gaps.exp().cumsum(-1), (1, 0))


def binary_nll(
    *,
    scores_B: Float[Tensor, " B"],
    positive_B: Bool[Tensor, " B"],
    threshold_B: Float[Tensor, " B"],
    beta_B: Float[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """Good or bad: a choice between the sample and a threshold.

        P(positive) = s(beta (score - threshold))

    Args:
        scores_B: scores.
        positive_B: True where the sample was found good.
        threshold_B: score at which an annotator is undecided.
        beta_B: reliability of the annotator.
    """
    rows = (len(scores_B),)
    require_shape(rows, scores_B=scores_B, threshold_B=threshold_B, beta_B=beta_B)
    require_mask(rows, positive_B=positive_B)
    above_B = beta_B * (scores_B - threshold_B)
    return -logsigmoid(torch.where(positive_B, above_B, -above_B))


def choice_nll(
    *,
    scores_BK: Float[Tensor, "B K"],
    chosen_B: Int[Tensor, " B"],
    beta_B: Float[Tensor, " B"],
    mask_BK: Bool[Tensor, "B K"] | None = None,
) -> Float[Tensor, " B"]:
    """One option of K (Luce 1959): corrections, demonstrations, states, actions.

        P(i) = e^(beta * score_i) / sum over j of e^(beta * score_j)

    Args:
        scores_BK: scores of the options; K may be of any size.
        chosen_B: index of the option that was chosen.
        beta_B: reliability of whoever chose.
        mask_BK: True where there is an option; None: everywhere. Anything may stand elsewhere.
    """
    num_rows, K = scores_BK.shape
    require_shape((num_rows,), chosen_B=chosen_B, beta_B=beta_B)
    require_mask((num_rows, K), mask_BK=mask_BK)
    require((chosen_B >= 0) & (chosen_B < K), f"chosen_B holds an index outside 0 to {K - 1}")
    chosen_B1 = chosen_B.long()[:, None]
    if mask_BK is None:
        utility_BK = beta_B[:, None] * scores_BK
    else:
        require(mask_BK.gather(1, chosen_B1), "chosen_B points at an option that is masked out")
        utility_BK = beta_B[:, None] * torch.where(mask_BK, scores_BK, 0.0)
        utility_BK = utility_BK.masked_fill(~mask_BK, -math.inf)
    return -utility_BK.log_softmax(1).gather(1, chosen_B1).squeeze(1)


def _per_row(value: Tensor | float, scores: Tensor) -> Tensor:
    """(B,) of one number, or of a number a row, in the dtype and place of the scores."""
    tensor = torch.as_tensor(value, dtype=scores.dtype, device=scores.device)
    if tensor.dim():
        require_shape((len(scores),), log_tie_or_threshold=tensor)
    return tensor.expand(len(scores))

"""Losses and likelihoods: pure functions of tensors."""

from backflip.losses.choice import (
    BOTH_BAD,
    CHOICES,
    MAX_RANKED,
    TIE,
    A,
    B,
    binary_nll,
    choice_nll,
    comparison_nll,
    ordered_cutpoints,
    ranking_nll,
    rating_nll,
)
from backflip.losses.language import next_token_loss, token_logprobs
from backflip.losses.policy import (
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    kl_estimate,
    whiten,
)
from backflip.losses.preference import dpo_loss

__all__ = [
    "BOTH_BAD",
    "CHOICES",
    "MAX_RANKED",
    "TIE",
    "A",
    "B",
    "binary_nll",
    "choice_nll",
    "clipped_policy_loss",
    "clipped_value_loss",
    "comparison_nll",
    "dpo_loss",
    "gae",
    "kl_estimate",
    "next_token_loss",
    "ordered_cutpoints",
    "ranking_nll",
    "rating_nll",
    "token_logprobs",
    "whiten",
]

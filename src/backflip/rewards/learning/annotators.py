"""What is learned of the annotators beside the reward: how reliable each is, and their scales."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from backflip.config import RewardSettings
from backflip.losses import ordered_cutpoints
from backflip.records.feedback import Comparison, FeedbackBase, Ranking

Scale = Literal["rating", "critique"]
Threshold = Literal["acceptable", "safe", "kept", "copied"]

OPPOSITES: tuple[tuple[Threshold, str], ...] = (("kept", "regenerated"), ("copied", "abandoned"))
"""Implicit signals, each beside what the same person might have done instead."""
SCALE_LEVELS = range(2, 11)
SIGNAL_BETA = 0.3
"""Where the reliability of an implicit signal starts: unasked signs are weak ones."""

_WIDE = 3.0
"""Standard deviation, in logits, of the priors that only keep unused parameters in place."""


class AnnotatorModel(nn.Module):
    """Everything in the likelihood of feedback that is not the reward itself.

    An annotator j answers with inverse temperature beta_j = exp(l_j - mean(l)). The l_j have a
    normal prior of standard deviation `reliability_prior` (a maximum a posteriori estimate, so an
    annotator with few answers stays near the others), and their mean is taken out: it could not
    be told apart from the scale of the reward. Answers of annotators that are not in the model
    (seen only in held-out feedback) count with beta 1 and no offset.

    Ratings and critiques are ordinal, each scale with cut points that all share, moved for each
    annotator by an offset: a strict rater has a positive one. Thumbs and safety flags each have a
    threshold; a comparison's "both bad" and the "unacceptable" line of a ranking are the threshold
    of thumbs. An implicit signal is a choice between it and its opposite (`OPPOSITES`), with a
    small beta and a threshold that both share: were they each signal's own, the two choices would
    not sum to one, and a threshold could run away. Pairs and rankings differ in how easily their
    forms make a tie, so each has a propensity of its own.

    A record does not say whether "both bad" could be answered; it is taken to have been on offer
    wherever somebody asked in the same way (of the same `origin`) answered it.

    Args:
        names: the annotators; order and repetition do not matter.
        learn_reliability: False holds every beta_j at 1.
        reliability_prior: standard deviation of l_j, above 0.
        both_bad_origins: origins of comparisons where "both bad" was on offer.
        dtype: of the parameters; scores are converted to it before a likelihood is taken.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        learn_reliability: bool = True,
        reliability_prior: float = 0.5,
        both_bad_origins: Iterable[str] = (),
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.names = tuple(sorted(set(names)))
        self.reliability_prior = reliability_prior
        self._both_bad_origins = frozenset(both_bad_origins)
        self._places = {name: i for i, name in enumerate(self.names)}
        num = len(self.names)
        self.log_beta = nn.Parameter(torch.zeros(num, dtype=dtype), requires_grad=learn_reliability)
        self.rating_offset = nn.Parameter(torch.zeros(num, dtype=dtype))
        self.signal_log_beta = nn.Parameter(
            torch.full((len(OPPOSITES),), math.log(SIGNAL_BETA), dtype=dtype)
        )
        self.log_tie = nn.Parameter(torch.zeros((), dtype=dtype))
        self.ranking_log_tie = nn.Parameter(torch.zeros((), dtype=dtype))
        self.thresholds = nn.ParameterDict(
            {name: torch.zeros((), dtype=dtype) for name in get_args(Threshold)}
        )
        # Cut points of every scale that a record can have, so that the parameters depend on the
        # annotators alone: those of scales nobody used stay at their prior.
        self.scales = nn.ParameterDict(
            {
                f"{scale}_{levels}": _even_scale(levels).to(dtype)
                for scale in ("rating", "critique")
                for levels in SCALE_LEVELS
            }
        )

    @classmethod
    def of(
        cls,
        entries: Sequence[FeedbackBase],
        settings: RewardSettings,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """The model for the annotators of these entries, ties starting at their share of them."""
        comparisons = [e for e in entries if isinstance(e, Comparison)]
        model = cls(
            (e.annotator for e in entries),
            both_bad_origins=(e.origin for e in comparisons if e.choice == "both_bad"),
            learn_reliability=settings.reliability,
            reliability_prior=settings.reliability_prior,
            dtype=dtype,
        )
        with torch.no_grad():
            model.log_tie.fill_(_log_tie([e.choice in ("tie", "both_bad") for e in comparisons]))
            neighbours = [t for e in entries if isinstance(e, Ranking) for t in _tied(e.ranks)]
            model.ranking_log_tie.fill_(_log_tie(neighbours))
        return model

    def log_betas(self) -> Tensor:
        """(A,) log reliability of each annotator in `names`; their mean is 0."""
        return self.log_beta - self.log_beta.mean() if self.names else self.log_beta

    def beta(self, entries: Sequence[FeedbackBase]) -> Tensor:
        """(B,) reliability of the annotator of each entry; 1 where unknown."""
        return self._pick(self.log_betas(), entries).exp()

    def offset(self, entries: Sequence[FeedbackBase]) -> Tensor:
        """(B,) what the annotator of each entry adds to the cut points of every scale."""
        return self._pick(self.rating_offset, entries)

    def signal_beta(self, signals: Sequence[str]) -> Tensor:
        """(B,) reliability of each implicit signal, beside that of the person."""
        places = {signal: i for i, pair in enumerate(OPPOSITES) for signal in pair}
        return self.signal_log_beta[self._long([places[signal] for signal in signals])].exp()

    def offers_both_bad(self, entry: Comparison) -> bool:
        """Whether "both bad" could be answered to this comparison."""
        return entry.choice == "both_bad" or entry.origin in self._both_bad_origins

    def threshold(self, name: Threshold) -> Tensor:
        """The score, a scalar, above which a sample is more likely called good than bad."""
        return self.thresholds[name]

    def cutpoints(self, scale: Scale, num_levels: int) -> Tensor:
        """(num_levels - 1,) values of beta * score at which a level passes into the next."""
        raw = self.scales[f"{scale}_{num_levels}"]
        return ordered_cutpoints(raw[0], raw[1:])

    def penalty(self) -> Tensor:
        """Minus the log density of the priors, up to a constant: a scalar, in nats.

        It belongs to a whole data set of feedback once, not to each entry of it.
        """
        total = _normal(self.log_betas(), 0.0, self.reliability_prior)
        total = total + _normal(self.rating_offset, 0.0, 1.0)
        total = total + _normal(self.signal_log_beta, math.log(SIGNAL_BETA), 1.0)
        for value in (self.log_tie, self.ranking_log_tie, *self.thresholds.values()):
            total = total + _normal(value, 0.0, _WIDE)
        for name, value in self.scales.items():
            start = _even_scale(int(name.rsplit("_", 1)[1])).to(value)
            total = total + _normal(value[:1], start[:1], _WIDE)
            total = total + _normal(value[1:], start[1:], 1.0)
        return total

    def reliabilities(self) -> dict[str, float]:
        """The beta of every annotator by name, for a report."""
        return dict(zip(self.names, self.log_betas().detach().exp().tolist(), strict=True))

    def _pick(self, values_A: Tensor, entries: Sequence[FeedbackBase]) -> Tensor:
        """(B,) the annotators' values, 0 for one that is not in the model."""
        padded = torch.cat([values_A, values_A.new_zeros(1)])
        return padded[self._long([self._places.get(e.annotator, -1) for e in entries])]

    def _long(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.log_beta.device)


def signal_threshold(signal: str) -> Threshold:
    """Whose threshold decides between an implicit signal and its opposite."""
    return next(pair[0] for pair in OPPOSITES if signal in pair)


def _even_scale(levels: int) -> Tensor:
    """First cut point and log gaps that make every level as likely as the others at score 0."""
    shares = torch.arange(1, levels, dtype=torch.float64) / levels
    cuts = torch.logit(shares)
    return torch.cat([cuts[:1], cuts.diff().log()])


def _tied(ranks: Sequence[int]) -> list[bool]:
    ordered = sorted(ranks)
    return [a == b for a, b in pairwise(ordered)]


def _log_tie(ties: Sequence[bool]) -> float:
    """The propensity of ties that gives equal samples this share of them.

    Davidson's model and Rao and Kupper's agree there. One of each answer is added, so that nothing
    seen is a propensity of 1.
    """
    share = (sum(ties) + 1) / (len(ties) + 3)
    return math.log(2 * share / (1 - share))


def _normal(value: Tensor, mean: Tensor | float, std: float) -> Tensor:
    return 0.5 * ((value - mean) / std).square().sum()

"""From entries of any kind and scores of their samples to how likely the entries were.

Every kind of feedback is a choice, and each has one function that hands its choice to the
likelihood in `losses.choice`: those of the kinds that come with the program stand here. A test
walks `KINDS`: a kind without a likelihood fails it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from backflip.errors import TrainingError
from backflip.losses import (
    CHOICES,
    binary_nll,
    choice_nll,
    comparison_nll,
    ranking_nll,
    rating_nll,
)
from backflip.records.feedback import (
    Comparison,
    Correction,
    Critique,
    Demonstration,
    FeedbackBase,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
)
from backflip.rewards.learning.annotators import AnnotatorModel, Scale, Threshold, signal_threshold

Ties = Literal["davidson", "rao_kupper"]
NO_MARGIN = (0.0, 0.0, 0.0, 0.0)


Likelihood = Callable[["Table", Sequence[Any]], Tensor]
Alike = Callable[[Any], tuple[Any, ...]]
LIKELIHOODS: dict[str, Likelihood] = {}
"""By kind, how likely entries of it are; filled by `likelihood`."""
_ALIKE: dict[str, Alike] = {}


def likelihood(
    kind: type[FeedbackBase], *, alike: Alike | None = None
) -> Callable[[Likelihood], Likelihood]:
    """Register what is decorated as the likelihood of a kind.

    It takes a `Table` of scores and B entries of the kind and returns their negative
    log-likelihoods, (B,) in nats.

    Args:
        kind: whose likelihood it is.
        alike: of an entry; entries that differ in it are never handed over together, since a
            scale, or a shape, has to be the same for all of a call.
    """

    def register(function: Likelihood) -> Likelihood:
        LIKELIHOODS[kind.kind_name()] = function
        if alike is not None:
            _ALIKE[kind.kind_name()] = alike
        return function

    return register


class Choices:
    """The entries of a batch that chose among options, ready to be compared with scores.

    Args:
        entries: of any kinds; those that are no choice are left out.
        ties: model of ties in comparisons, Davidson's (1970) or Rao and Kupper's (1967).
        margin: taken off the preferred score of a comparison of strength 0 to 3 (Llama 2,
            equation 2); zero when a likelihood is measured rather than trained on.

    Attributes:
        entries: those with a likelihood, in the order given.
        sample_ids: every sample they speak of, once, in the order of first mention.
    """

    def __init__(
        self,
        entries: Sequence[FeedbackBase],
        *,
        ties: Ties = "davidson",
        margin: Sequence[float] = NO_MARGIN,
    ):
        self.entries = tuple(e for e in entries if e.is_choice)
        self.sample_ids = tuple(dict.fromkeys(i for e in self.entries for i in e.sample_ids))
        self._ties: Ties = ties
        self._margin = tuple(margin)

    def nll(self, scores_S: Tensor, annotators: AnnotatorModel) -> Tensor:
        """Negative log-likelihood of each entry.

        Args:
            scores_S: (S,) raw score of each sample in `sample_ids`.
            annotators: reliabilities, scales and thresholds; its dtype is computed in.

        Returns:
            (E,) nats, one for each of `entries`, in their order.
        """
        if scores_S.shape != (len(self.sample_ids),):
            raise ValueError(f"{len(self.sample_ids)} samples, scores {tuple(scores_S.shape)}")
        scores_S = scores_S.to(annotators.log_beta)
        if not self.entries:
            return scores_S.new_zeros(0)
        rows = {sample_id: row for row, sample_id in enumerate(self.sample_ids)}
        table = Table(scores_S, rows, annotators, self._ties, self._margin)
        groups: dict[Any, list[int]] = {}
        for place, entry in enumerate(self.entries):
            groups.setdefault(_group(entry), []).append(place)
        parts = [
            _of_kind(key[0])(table, [self.entries[place] for place in places])
            for key, places in groups.items()
        ]
        order = torch.tensor([p for places in groups.values() for p in places])
        return torch.cat(parts)[torch.argsort(order).to(scores_S.device)]


@dataclass(frozen=True)
class Table:
    """Scores by sample id, and what stands beside them in a likelihood."""

    scores: Tensor
    rows: Mapping[str, int]
    annotators: AnnotatorModel
    ties: Ties
    margin: Sequence[float]

    def one(self, ids: Sequence[str]) -> Tensor:
        """(B,) scores of these samples."""
        return self.scores[self.long([self.rows[i] for i in ids])]

    def many(self, ids: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """(B, K) scores of lists of samples, right-padded with 0, and their mask."""
        width = max(map(len, ids))
        rows = [[*(self.rows[i] for i in row), *[-1] * (width - len(row))] for row in ids]
        rows_BK = self.long(rows)
        mask_BK = rows_BK >= 0
        return torch.where(mask_BK, self.scores[rows_BK], 0.0), mask_BK

    def long(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.scores.device)

    def bool(self, values: Sequence[bool]) -> Tensor:
        return torch.tensor(values, dtype=torch.bool, device=self.scores.device)


def _group(entry: FeedbackBase) -> tuple[Any, ...]:
    """Entries with equal groups are one call."""
    kind = entry.kind_name()
    return (kind, *_ALIKE[kind](entry)) if kind in _ALIKE else (kind,)


def _of_kind(kind: str) -> Likelihood:
    if kind not in LIKELIHOODS:
        raise TrainingError(
            f"no reward can be learned from the kind {kind!r}: it has no likelihood",
            hint="Register one with `backflip.rewards.likelihood` in the module of the kind.",
        )
    return LIKELIHOODS[kind]


@likelihood(Comparison)
def _comparison(table: Table, entries: Sequence[Comparison]) -> Tensor:
    people = table.annotators
    threshold = people.threshold("acceptable")
    offered = [people.offers_both_bad(e) for e in entries]
    return comparison_nll(
        scores_B2=table.many([e.samples for e in entries])[0],
        choice_B=table.long([CHOICES[e.choice] for e in entries]),
        beta_B=people.beta(entries),
        log_tie=people.log_tie,
        margin_B=table.scores.new_tensor([table.margin[e.strength] for e in entries]),
        threshold=torch.where(table.bool(offered), threshold, -math.inf),
        ties=table.ties,
    )


@likelihood(Ranking)
def _ranking(table: Table, entries: Sequence[Ranking]) -> Tensor:
    """Plackett-Luce with ties, and where a line was drawn, its place in the order."""
    people = table.annotators
    scores_BK, mask_BK = table.many([e.samples for e in entries])
    width = scores_BK.shape[1]
    beta_B = people.beta(entries)
    order_B = ranking_nll(
        scores_BK=scores_BK,
        ranks_BK=table.long([[*e.ranks, *[0] * (width - len(e.ranks))] for e in entries]),
        beta_B=beta_B,
        log_tie=people.ranking_log_tie,
        mask_BK=mask_BK,
    )
    steps = [(row, *step) for row, e in enumerate(entries) for step in _line_steps(e)]
    if not steps:
        return order_B
    owner_N = table.long([row for row, _, _ in steps])
    scores_NK, mask_NK = table.many([ids for _, ids, _ in steps])
    line_N = binary_nll(
        scores_B=scores_NK.sum(1) / mask_NK.sum(1),
        positive_B=table.bool([above for _, _, above in steps]),
        threshold_B=people.threshold("acceptable").expand(len(steps)),
        beta_B=beta_B[owner_N],
    )
    return order_B.index_add(0, owner_N, line_N)


def _line_steps(entry: Ranking) -> list[tuple[list[str], bool]]:
    """The choices that led to an entry's "unacceptable" line: samples, and whether acceptable.

    The line is found by going down the order, place by place, until the samples there are no
    longer acceptable; samples that share a place count with their mean score. So the possible
    lines of an order have probabilities that sum to one. A place that the line cuts in two says
    nothing.
    """
    if entry.num_acceptable is None:
        return []
    steps: list[tuple[list[str], bool]] = []
    above = 0
    for rank in sorted(set(entry.ranks)):
        ids = [i for i, r in zip(entry.samples, entry.ranks, strict=True) if r == rank]
        if above < entry.num_acceptable < above + len(ids):
            break
        steps.append((ids, above < entry.num_acceptable))
        if above >= entry.num_acceptable:
            break
        above += len(ids)
    return steps


@likelihood(Rating, alike=lambda entry: (entry.num_levels,))
def _rating(table: Table, entries: Sequence[Rating]) -> Tensor:
    return _level(table, entries, "rating")


@likelihood(Critique, alike=lambda entry: (entry.num_levels,))
def _critique(table: Table, entries: Sequence[Critique]) -> Tensor:
    return _level(table, entries, "critique")


def _level(table: Table, entries: Sequence[Rating] | Sequence[Critique], scale: Scale) -> Tensor:
    people = table.annotators
    cuts_C = people.cutpoints(scale, entries[0].num_levels)
    return rating_nll(
        scores_B=table.one([e.sample for e in entries]),
        level_B=table.long([e.level for e in entries]),
        cutpoints_BC=cuts_C + people.offset(entries)[:, None],
        beta_B=people.beta(entries),
    )


@likelihood(GoodBad)
def _good_bad(table: Table, entries: Sequence[GoodBad]) -> Tensor:
    beta_B = table.annotators.beta(entries)
    return _sign(table, entries, [e.good for e in entries], beta_B, "acceptable")


@likelihood(SafetyFlag)
def _safety_flag(table: Table, entries: Sequence[SafetyFlag]) -> Tensor:
    beta_B = table.annotators.beta(entries)
    return _sign(table, entries, [e.safe for e in entries], beta_B, "safe")


def _sign(
    table: Table,
    entries: Sequence[GoodBad] | Sequence[SafetyFlag] | Sequence[Implicit],
    positive: Sequence[bool],
    beta_B: Tensor,
    threshold: Threshold,
) -> Tensor:
    return binary_nll(
        scores_B=table.one([e.sample for e in entries]),
        positive_B=table.bool(positive),
        threshold_B=table.annotators.threshold(threshold).expand(len(entries)),
        beta_B=beta_B,
    )


@likelihood(Correction)
def _correction(table: Table, entries: Sequence[Correction]) -> Tensor:
    beta_B = table.annotators.beta(entries)
    return _first_of(table, [(e.corrected, e.sample) for e in entries], beta_B)


@likelihood(Demonstration)
def _demonstration(table: Table, entries: Sequence[Demonstration]) -> Tensor:
    beta_B = table.annotators.beta(entries)
    return _first_of(table, [(e.sample, *e.over) for e in entries], beta_B)


def _same_signs(entry: Implicit) -> tuple[Any, ...]:
    return (entry.over is None, signal_threshold(entry.signal))


@likelihood(Implicit, alike=_same_signs)
def _implicit(table: Table, entries: Sequence[Implicit]) -> Tensor:
    people = table.annotators
    beta_B = people.beta(entries) * people.signal_beta([e.signal for e in entries])
    if entries[0].over is None:
        threshold = signal_threshold(entries[0].signal)
        return _sign(table, entries, [e.positive for e in entries], beta_B, threshold)
    pairs = [(e.sample, str(e.over)) for e in entries]
    chosen = [p if e.positive else p[::-1] for p, e in zip(pairs, entries, strict=True)]
    return _first_of(table, chosen, beta_B)


def _first_of(table: Table, options: Sequence[Sequence[str]], beta_B: Tensor) -> Tensor:
    """The first of each list of samples was chosen over the others."""
    scores_BK, mask_BK = table.many(options)
    return choice_nll(
        scores_BK=scores_BK,
        chosen_B=table.long([0] * len(options)),
        beta_B=beta_B,
        mask_BK=mask_BK,
    )

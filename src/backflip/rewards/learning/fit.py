"""Fitting a reward to feedback: which entries a step learns from, and their gradient.

The optimiser, its schedule and checkpoints are the trainer's. A step is

    fit.backward(fit.batch(step))       # adds to the gradients of scorer and annotators
    optimizer.step()

and what it does follows from the parameters before it, the seed and its number alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from backflip.config import RewardSettings
from backflip.errors import SettingsError, TrainingError
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase
from backflip.rewards.base import Inputs, Scorer
from backflip.rewards.batching import chunks, pack, row_lengths, score_rows, score_samples
from backflip.rewards.learning.annotators import AnnotatorModel
from backflip.rewards.learning.likelihood import NO_MARGIN, Choices
from backflip.rewards.learning.pairs import preferred_pairs
from backflip.rewards.learning.split import places_by_prompt

Samples = Mapping[str, Sample]


@dataclass(frozen=True)
class FitReport:
    """How likely a reward model makes a set of entries.

    Attributes:
        scores: raw score of every sample the entries speak of, by id.
        nll: mean negative log-likelihood of an entry, in nats, without margins.
        nll_by_kind: the same for each kind of feedback.
        num_entries: entries with a likelihood.
        accuracy: share of decided pairs that the scores order like the annotator; all pairs of
            an entry weigh 1 together, equal scores count half. None without decided pairs.
        num_decided: entries that decide a pair.
    """

    scores: dict[str, float]
    nll: float
    nll_by_kind: dict[str, float]
    num_entries: int
    accuracy: float | None
    num_decided: int


class RewardFit:
    """A scorer, the annotators and the entries of one axis that both are fitted to.

    The loss is the mean negative log-likelihood of an entry plus the annotators' prior penalty
    divided by the number of all entries: over an epoch, a maximum a posteriori estimate.

    Args:
        scorer: the network to train, with its parameters; float64 works.
        annotators: of the same dtype; see `AnnotatorModel.of`.
        entries: feedback of one axis; entries that chose nothing are left out.
        samples: every sample that these entries, and those given to `evaluate`, speak of.
        settings: batch size, margins, ties, `max_tokens` and `optimizer.micro_batch_tokens`.
        seed: of the order of the entries.

    Raises:
        TrainingError: nothing to learn from, several axes, or a sample that is missing.
        SettingsError: a sample is longer than `settings.max_tokens`.
    """

    def __init__(
        self,
        scorer: Scorer,
        annotators: AnnotatorModel,
        entries: Sequence[FeedbackBase],
        samples: Samples,
        settings: RewardSettings,
        seed: int,
    ):
        self.scorer = scorer
        self.annotators = annotators
        self.entries = tuple(e for e in entries if e.is_choice)
        self.samples = samples
        self.settings = settings
        self._seed = seed
        _check(self.entries, samples, num_given=len(entries))
        _check_lengths(scorer, self.entries, samples, settings.max_tokens)
        self._prompts = places_by_prompt(self.entries, samples)
        self._order: tuple[int, list[int]] = (-1, [])

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.entries) / self.settings.batch_size)

    @property
    def num_steps(self) -> int:
        return self.settings.epochs * self.steps_per_epoch

    def parameters(self) -> dict[str, dict[str, nn.Parameter]]:
        """What is trained, by group ("reward", "annotators") and name."""
        networks = {"reward": self.scorer, "annotators": self.annotators}
        return {
            group: {name: p for name, p in network.named_parameters() if p.requires_grad}
            for group, network in networks.items()
            if isinstance(network, nn.Module)
        }

    def batch(self, step: int) -> list[FeedbackBase]:
        """The entries of a step, counted from 0: the same for the same seed and number.

        Each epoch goes once through all entries, prompts in a new order and the entries of a
        prompt together, so that a sample that several of them speak of is read once.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, self._shuffled(epoch))
        size = self.settings.batch_size
        return [self.entries[i] for i in self._order[1][place * size : (place + 1) * size]]

    def backward(self, batch: Sequence[FeedbackBase]) -> dict[str, float]:
        """Add the gradient of the loss of a batch to scorer and annotators.

        Each sample is read once, however many entries speak of it. Entries that share samples
        stand in one micro-batch; where such a group alone is above `micro_batch_tokens`, its
        samples are scored in pieces first and read a second time for their gradients. Neither
        changes the result.

        Returns:
            "loss", "nll" and "penalty" in nats an entry; "accuracy" on decided pairs, where there
            are any; "score_mean" and "score_std" of raw scores; "entries", "samples" and "tokens"
            of the batch.

        Raises:
            TrainingError: an entry's likelihood is not finite; it is named. Gradients of other
                entries may have been added: do not step.
        """
        choices = self._choices(batch, self.settings.margin)
        if not choices.entries:
            raise ValueError("the batch has no entry that chose anything")
        inputs = self.scorer.collate([self.samples[i] for i in choices.sample_ids])
        lengths = row_lengths(inputs)
        rows = {sample_id: row for row, sample_id in enumerate(choices.sample_ids)}
        scores: dict[str, float] = {}
        total = 0.0
        for part in self._micro_batches(choices, rows, lengths):
            picked = torch.tensor([rows[i] for i in part.sample_ids])
            scores_S, nll_E = self._backward_part(
                part, inputs.select(picked), 1.0 / len(choices.entries)
            )
            scores |= dict(zip(part.sample_ids, scores_S.tolist(), strict=True))
            total += float(nll_E.sum())
        nll = total / len(choices.entries)
        penalty = self._backward_penalty()
        metrics = {"loss": nll + penalty, "nll": nll, "penalty": penalty}
        accuracy, num_decided = _accuracy(choices.entries, scores)
        if num_decided:
            metrics["accuracy"] = accuracy
        values = np.array(list(scores.values()))
        return metrics | {
            "score_mean": float(values.mean()),
            "score_std": float(values.std()),
            "entries": float(len(choices.entries)),
            "samples": float(len(scores)),
            "tokens": float(sum(lengths)),
        }

    def evaluate(self, entries: Sequence[FeedbackBase]) -> FitReport:
        """Measure entries, held-out ones as a rule, without gradients.

        Raises:
            TrainingError: none of the entries chose anything, or a sample is missing.
        """
        choices = self._choices(entries, NO_MARGIN)
        _check(choices.entries, self.samples, num_given=len(entries))
        samples = [self.samples[i] for i in choices.sample_ids]
        limit = self.settings.optimizer.micro_batch_tokens
        with torch.no_grad():
            scores_S = score_samples(self.scorer, samples, max_tokens=limit)
            nll_E = choices.nll(scores_S, self.annotators).double().cpu()
        by_kind: dict[str, list[float]] = {}
        for entry, nll in zip(choices.entries, nll_E.tolist(), strict=True):
            by_kind.setdefault(entry.kind_name(), []).append(nll)
        scores = dict(zip(choices.sample_ids, scores_S.tolist(), strict=True))
        accuracy, num_decided = _accuracy(choices.entries, scores)
        return FitReport(
            scores=scores,
            nll=float(nll_E.mean()),
            nll_by_kind={kind: math.fsum(v) / len(v) for kind, v in sorted(by_kind.items())},
            num_entries=len(choices.entries),
            accuracy=accuracy if num_decided else None,
            num_decided=num_decided,
        )

    def _choices(self, entries: Sequence[FeedbackBase], margin: Sequence[float]) -> Choices:
        return Choices(entries, ties=self.settings.ties, margin=margin)

    def _shuffled(self, epoch: int) -> list[int]:
        """Places of all entries in the order of an epoch."""
        source = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, epoch])))
        order = source.permutation(len(self._prompts))
        return [place for prompt in order for place in self._prompts[prompt]]

    def _micro_batches(
        self, choices: Choices, rows: Mapping[str, int], lengths: Sequence[int]
    ) -> list[Choices]:
        groups = _linked(choices.entries)
        ids = [{i for entry in group for i in entry.sample_ids} for group in groups]
        packed = pack(
            [max(lengths[rows[i]] for i in members) for members in ids],
            self.settings.optimizer.micro_batch_tokens,
            [len(members) for members in ids],
        )
        return [
            self._choices([entry for g in part for entry in groups[g]], self.settings.margin)
            for part in packed
        ]

    def _backward_part(self, part: Choices, inputs: Inputs, share: float) -> tuple[Tensor, Tensor]:
        """Gradients of `share` times the part's likelihood; its scores (S,) and nll (E,)."""
        lengths = row_lengths(inputs)
        limit = self.settings.optimizer.micro_batch_tokens
        fits = max(lengths) * len(lengths) <= limit or len(lengths) == 1
        if fits:
            scores_S = self.scorer(inputs)
        else:
            scores_S = score_rows(self.scorer, inputs, max_tokens=limit).requires_grad_()
        nll_E = part.nll(scores_S, self.annotators)
        _check_finite(part, nll_E)
        (nll_E.sum() * share).backward()
        if not fits and scores_S.grad is not None:
            for piece in map(torch.tensor, pack(lengths, limit)):
                again = self.scorer(inputs.select(piece))
                again.backward(scores_S.grad[piece.to(again.device)])
        return scores_S.detach(), nll_E.detach()

    def _backward_penalty(self) -> float:
        penalty = self.annotators.penalty() / len(self.entries)
        penalty.backward()
        return penalty.item()


def _check(entries: Sequence[FeedbackBase], samples: Samples, *, num_given: int) -> None:
    if not entries:
        raise TrainingError(
            f"none of {num_given} feedback entries says anything to learn a reward from",
            hint="Critiques need a level, demonstrations samples that they stand above.",
        )
    axes = sorted({e.axis for e in entries})
    if len(axes) > 1:
        raise TrainingError(
            f"feedback of {len(axes)} axes for one reward model: {', '.join(axes)}",
            hint="Fit one model for each axis and mix their rewards.",
        )
    for entry in entries:
        for sample_id in entry.sample_ids:
            if sample_id not in samples:
                raise TrainingError(f"sample {sample_id!r} is missing", where=entry.id)


def _check_lengths(
    scorer: Scorer, entries: Sequence[FeedbackBase], samples: Samples, limit: int
) -> None:
    """Refuse long samples before training starts rather than in the middle of it."""
    ids = list(dict.fromkeys(i for e in entries for i in e.sample_ids))
    lengths = [
        n for part in chunks([samples[i] for i in ids]) for n in row_lengths(scorer.collate(part))
    ]
    long = [(n, i) for n, i in zip(lengths, ids, strict=True) if n > limit]
    if long:
        raise SettingsError(
            f"{len(long)} of {len(ids)} samples are longer than max_tokens {limit}, "
            f"the longest with {max(long)[0]} tokens is {samples[max(long)[1]].place}",
            where="reward.max_tokens",
            hint=f'Set it to {max(long)[0]}, or say reward.too_long = "drop".',
        )


def _check_finite(choices: Choices, nll_E: Tensor) -> None:
    bad = torch.nonzero(~torch.isfinite(nll_E.detach())).flatten().tolist()
    if bad:
        entry = choices.entries[bad[0]]
        raise TrainingError(
            f"the likelihood of {len(bad)} feedback entries is not finite, the first on "
            f"{', '.join(entry.sample_ids)}",
            where=entry.id,
            hint="Lower reward.optimizer.learning_rate.",
        )


def _linked(entries: Sequence[FeedbackBase]) -> list[list[FeedbackBase]]:
    """Entries in groups that share no sample with each other, in order of first mention."""
    parent: dict[str, str] = {}

    def root(sample_id: str) -> str:
        parent.setdefault(sample_id, sample_id)
        while parent[sample_id] != sample_id:
            parent[sample_id] = parent[parent[sample_id]]
            sample_id = parent[sample_id]
        return sample_id

    for entry in entries:
        first, *others = entry.sample_ids
        for other in others:
            parent[root(other)] = root(first)
    groups: dict[str, list[FeedbackBase]] = {}
    for entry in entries:
        groups.setdefault(root(entry.sample_ids[0]), []).append(entry)
    return list(groups.values())


def _accuracy(entries: Sequence[FeedbackBase], scores: Mapping[str, float]) -> tuple[float, int]:
    """Share of decided pairs in the order of the scores, each entry weighing 1; their number."""
    shares: list[float] = []
    for entry in entries:
        pairs = preferred_pairs(entry)
        if pairs:
            right = [0.5 + 0.5 * float(np.sign(scores[a] - scores[b])) for a, b in pairs]
            shares.append(sum(right) / len(right))
    return (sum(shares) / len(shares) if shares else math.nan), len(shares)

"""What a crowd says of each unit: the majority, and the consensus of Dawid and Skene.

A majority counts every annotator alike. Dawid & Skene (1979), "Maximum likelihood estimation of
observer error-rates using the EM algorithm", estimate at once what is true of each unit and how
each annotator answers where a value is true, so that who guesses counts for little:

    P(answers) = product over units of  sum over true values c of
                     prior[c] * product over its answers of confusion[annotator, c, answer]

with answers independent given the true value. EM raises this likelihood in every step.

One departure: an annotator starts with a few answers that nobody gave, mostly right ones (a
Dirichlet prior on each row of the confusion). Without them an annotator with a dozen answers gets
a confusion that fits noise, and the consensus of a small crowd is worse than its majority.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backflip.quality.answers import UNKNOWN, Answers, Indices, Value

Floats = NDArray[np.float64]

MAX_ITERATIONS = 100
PRESUMED_RIGHT = 4.0
PRESUMED_WRONG = 1.0
"""Presumed answers for each true value: to that value, and to each of the others."""
_SAME = 1e-9


@dataclass(frozen=True)
class Consensus:
    """What is likely true of each unit, and how each annotator answers.

    Attributes:
        answers: what it was estimated from; it names the units, annotators and values.
        posterior: (U, C) probability that a value is true of a unit.
        prior: (C,) share of units that a value is true of.
        confusion: (A, C, C) probability that an annotator answers k where c is true, at
            [annotator, c, k]; 0 throughout where nothing tells.
        log_likelihoods: one for each iteration, in nats, with the presumed answers; it never falls.
        converged: whether the last iteration raised it by less than the tolerance.
    """

    answers: Answers
    posterior: Floats
    prior: Floats
    confusion: Floats
    log_likelihoods: tuple[float, ...]
    converged: bool

    def values(self) -> list[Value | None]:
        """The likeliest value of each unit; None where two are equally likely."""
        return _decode(self.answers, _best(self.posterior))

    def accuracies(self) -> Floats:
        """(A,) probability that an annotator answers what is true, over the prior."""
        return np.einsum("acc,c->a", self.confusion, self.prior)


def majority(answers: Answers) -> list[Value | None]:
    """The value that most annotators gave to each unit; None where two values are level."""
    return _decode(answers, majority_codes(answers.counts()))


def majority_codes(counts: Indices) -> Indices:
    """(U,) index of the most frequent value in (U, C) counts; -1 where no value is ahead."""
    return _best(counts.astype(np.float64))


def _best(scores: Floats) -> Indices:
    top = scores.max(1, keepdims=True)
    alone = (scores >= top - _SAME).sum(1) == 1
    return np.where(alone, scores.argmax(1), UNKNOWN)


def _decode(answers: Answers, codes: Indices) -> list[Value | None]:
    return [None if code == UNKNOWN else answers.scale[code] for code in codes.tolist()]


def dawid_skene(
    answers: Answers,
    *,
    presume: float = 1.0,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = 1e-7,
) -> Consensus:
    """Estimate the consensus by EM, from the shares of votes (Dawid & Skene 1979, section 3).

    Values are taken as names without order.

    Args:
        answers: of one kind on one axis.
        presume: weight of the presumed answers; 0 for the maximum of the likelihood alone.
        max_iterations: at most this many.
        tolerance: rise of the log-likelihood per answer, in nats, below which EM has converged.
    """
    num_values = len(answers.scale)
    right = np.eye(num_values)[:, None, :]
    presumed = presume * (PRESUMED_WRONG + (PRESUMED_RIGHT - PRESUMED_WRONG) * right)
    counts = answers.counts()
    posterior = (counts / counts.sum(1, keepdims=True)).T
    log_likelihoods: list[float] = []
    while True:
        prior = posterior.mean(1)
        confusion = _maximise(answers, posterior, presumed)
        posterior, likelihood = _expect(answers, prior, confusion)
        with np.errstate(divide="ignore"):
            bonus = presumed * np.where(presumed > 0, np.log(confusion), 0.0)
        log_likelihoods.append(likelihood + float(bonus.sum()))
        rise = np.diff(log_likelihoods[-2:])
        converged = bool((rise < tolerance * len(answers)).any())
        if converged or len(log_likelihoods) >= max_iterations:
            break
    return Consensus(
        answers=answers,
        posterior=posterior.T,
        prior=prior,
        confusion=confusion.swapaxes(0, 1),
        log_likelihoods=tuple(log_likelihoods),
        converged=converged,
    )


def _maximise(answers: Answers, posterior: Floats, presumed: Floats) -> Floats:
    """(C true, A, C answered) confusion that is likeliest under a (C, U) posterior."""
    num_values = len(answers.scale)
    pairs = answers.annotator * num_values + answers.value
    size = len(answers.names) * num_values
    given = [np.bincount(pairs, row[answers.unit], size) for row in posterior]
    table = np.stack(given).reshape(num_values, -1, num_values) + presumed
    met = table.sum(2, keepdims=True)
    return table / np.where(met > 0, met, 1.0)


def _expect(answers: Answers, prior: Floats, confusion: Floats) -> tuple[Floats, float]:
    """(C, U) posterior under a prior and a confusion, and the log-likelihood of the answers."""
    pairs = answers.annotator * len(answers.scale) + answers.value
    with np.errstate(divide="ignore"):
        logs = np.log(confusion).reshape(len(prior), -1)
        start = np.log(prior)
    told = [np.bincount(answers.unit, row[pairs], len(answers.units)) for row in logs]
    joint = np.stack(told) + start[:, None]
    top = joint.max(0)
    likelihood = np.exp(joint - top)
    total = likelihood.sum(0)
    return likelihood / total, float((top + np.log(total)).sum())

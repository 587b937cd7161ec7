"""Query selection: which of many candidates people are asked about.

A candidate is a set of samples of one prompt: a pair, or the K samples that are put up together.
Of those in the pool, a share is always drawn by lot, and first; a strategy picks the rest:

    random         by lot too
    disagreement   where the members of an ensemble of reward models expect different answers
    margin         where the mean of the members is nearest to a tie
    diverse        so that every candidate has one near it that is asked about

Disagreement is the mutual information between the answer and the member that is right, in nats
(BALD; Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning",
eq. 2). With p_m the probability that member m gives to a over b, over M members,

    I = H(mean_m p_m) - mean_m H(p_m),      H(p) = -p log p - (1 - p) log(1 - p)

Christiano et al. 2017, "Deep reinforcement learning from human preferences", section 2.2.4, take
the variance of p_m over the members instead. Near p = 1/2 the two agree, as I is then 2 Var(p_m).
They part where an answer is nearly certain: the variance there is small by itself, while the
information is what the answer is expected to tell, whatever its probability. The second is taken,
as it has a meaning and a unit. Both take the noise of the answer off: a pair on which all members
say 1/2 is a coin to be tossed, and no member is told from another by it. Margin asks for just
those pairs, and is here to be compared.

What a strategy picks is no fair sample of anything. A reward model is therefore held out on what
was drawn by lot alone, which `select` keeps apart.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from backflip.config import SelectionSettings

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """Samples of one prompt that may be asked about together.

    Attributes:
        prompt: id of their prompt.
        places: which of the S samples of the pool they are.
    """

    prompt: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """What is to be asked, as indices into the candidates, both in rising order.

    Attributes:
        drawn: by lot.
        picked: by the strategy.
    """

    drawn: tuple[int, ...]
    picked: tuple[int, ...]

    @property
    def asked(self) -> tuple[int, ...]:
        """Both, in rising order."""
        return tuple(sorted((*self.drawn, *self.picked)))


def select(
    candidates: Sequence[Candidate],
    number: int,
    settings: SelectionSettings,
    generator: Generator,
    *,
    scores: Sequence[Floats] = (),
    embeddings: Floats | None = None,
    known: Floats | None = None,
    heldout: Collection[str] = (),
    heldout_share: float = 0.0,
) -> Selection:
    """Choose what to ask about.

    First ceil(random_share * number) candidates are drawn by lot; of these, ceil(heldout_share *
    number) on the prompts that are held out, as far as there are so many. The strategy picks the
    rest, and only on other prompts: what it picked is not held out, and what is held out is not
    trained on, so an answer that is both would be lost.

    Args:
        candidates: the pool.
        number: how many to ask about; fewer come back where the pool is too small.
        settings: the strategy and the share that is drawn.
        generator: of every random decision.
        scores: an (M, S) array for each axis: what each of M members gives to each sample, in
            log odds, so that member m gives a over b the probability
            1 / (1 + exp(scores[m, b] - scores[m, a])). For "disagreement" and "margin".
        embeddings: (S, D) for "diverse"; see `set_embeddings`.
        known: (C, D) embeddings of what was asked before, for "diverse".
        heldout: ids of prompts that are held out.
        heldout_share: share of the questions that belong to them.

    Raises:
        ValueError: the strategy lacks what it goes by, or that is not finite.
    """
    sides = [candidate.prompt in heldout for candidate in candidates]
    held = [place for place, side in enumerate(sides) if side]
    free = [place for place, side in enumerate(sides) if not side]
    num_drawn = min(number, _rounded_up(settings.random_share * number))
    num_held = min(num_drawn, _rounded_up(heldout_share * number), len(held))
    drawn = [*_draw(held, num_held, generator), *_draw(free, num_drawn - num_held, generator)]
    left = sorted(set(free) - set(drawn))
    wanted = min(number - len(drawn), len(left))
    if settings.strategy == "random":
        picked = _draw(left, wanted, generator)
    elif settings.strategy == "diverse":
        points = set_embeddings(candidates, _present(embeddings, "embeddings"))
        centres = points[drawn] if known is None else np.concatenate([known, points[drawn]])
        picked = [left[i] for i in k_centre_greedy(points[left], wanted, generator, centres)]
    else:
        measure = {"disagreement": disagreement, "margin": closeness}[settings.strategy]
        if not scores:
            raise ValueError(f"{settings.strategy} goes by scores; none were given")
        values = np.mean([measure(candidates, _present(axis, "scores")) for axis in scores], 0)
        # Equal values in an order by lot: in that of the pool, the first prompts would be favoured.
        lot = generator.permutation(len(left))
        order = lot[np.argsort(-values[left][lot], kind="stable")]
        picked = [left[i] for i in order[:wanted]]
    return Selection(tuple(sorted(drawn)), tuple(sorted(picked)))


def disagreement(candidates: Sequence[Candidate], scores_MS: Floats) -> Floats:
    """(C,) nats that an answer is expected to tell of which member is right.

    The mean over the pairs of each candidate's samples; 0 with a single member.

    Raises:
        ValueError: a candidate has fewer than two samples.
    """
    gaps_MP, owners = _gaps(candidates, scores_MS)
    over_MP, under_MP = _sigmoid(gaps_MP), _sigmoid(-gaps_MP)
    whole_P = _entropy(over_MP.mean(0), under_MP.mean(0))
    # Rounding must not make a certain answer tell less than nothing.
    information_P = np.maximum(whole_P - _entropy(over_MP, under_MP).mean(0), 0.0)
    return _mean_by_owner(information_P, owners, len(candidates))


def closeness(candidates: Sequence[Candidate], scores_MS: Floats) -> Floats:
    """(C,) minus the distance of the members' mean from a tie, in log odds: at most 0.

    The mean over the pairs of each candidate's samples.

    Raises:
        ValueError: a candidate has fewer than two samples.
    """
    gaps_MP, owners = _gaps(candidates, scores_MS)
    return _mean_by_owner(-np.abs(gaps_MP.mean(0)), owners, len(candidates))


def set_embeddings(candidates: Sequence[Candidate], embeddings_SD: Floats) -> Floats:
    """(C, D) a candidate's embedding: the mean of its samples'."""
    return np.array([embeddings_SD[list(c.places)].mean(0) for c in candidates])


def k_centre_greedy(
    points_ND: Floats, number: int, generator: Generator, centres_CD: Floats | None = None
) -> list[int]:
    """Pick points so that none is far from a picked one: each time the one that is farthest.

    Sener & Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach", algorithm 1 (farthest-first traversal, Gonzalez 1985). The largest distance of a
    point from its centre is at most twice the smallest that as many picks could make it.

    Args:
        points_ND: the points; distances are Euclidean.
        number: how many to pick, at most N.
        generator: draws the first point where there are no centres.
        centres_CD: centres that are there already.

    Returns:
        Indices in the order they were picked.
    """
    if number < 1:
        return []
    far_N = np.full(len(points_ND), np.inf)
    for centre_D in () if centres_CD is None else centres_CD:
        far_N = np.minimum(far_N, _squares(points_ND, centre_D))
    picked: list[int] = []
    while len(picked) < number:
        first = bool(np.isinf(far_N).all())
        place = int(generator.integers(len(points_ND))) if first else int(far_N.argmax())
        picked.append(place)
        far_N = np.minimum(far_N, _squares(points_ND, points_ND[place]))
        far_N[picked] = -1.0  # of equal points, each is picked once
    return picked


def _rounded_up(number: float) -> int:
    """The next whole number; 0.14 of 50 are 7, though their product lies a bit above."""
    return math.ceil(round(number, 9))


def _draw(places: Sequence[int], number: int, generator: Generator) -> list[int]:
    """So many of the places, each as likely as any other; all of them where there are fewer."""
    order = generator.permutation(len(places))[: max(number, 0)]
    return [places[i] for i in order]


def _present(values: Floats | None, name: str) -> Floats:
    if values is None:
        raise ValueError(f"the strategy goes by {name}; none were given")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} are not finite")
    return values


def _gaps(candidates: Sequence[Candidate], scores_MS: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """(M, P) differences of all pairs within the candidates; (P,) the candidate of each pair."""
    pairs = [(*pair, i) for i, c in enumerate(candidates) for pair in combinations(c.places, 2)]
    if len({owner for *_, owner in pairs}) < len(candidates):
        raise ValueError("a candidate has fewer than two samples: there is nothing to compare")
    first, second, owners = np.array(pairs, np.int64).reshape(-1, 3).T
    return scores_MS[:, first] - scores_MS[:, second], owners


def _mean_by_owner(values_P: Floats, owners_P: NDArray[np.int64], number: int) -> Floats:
    counts = np.bincount(owners_P, minlength=number)
    return np.bincount(owners_P, values_P, minlength=number) / counts


def _sigmoid(logits: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -logits))


def _entropy(chance: Floats, other: Floats) -> Floats:
    """Entropy in nats of a choice between two options of these probabilities, which sum to 1."""
    return -_times_log(chance) - _times_log(other)


def _times_log(chance: Floats) -> Floats:
    return chance * np.log(np.maximum(chance, np.finfo(np.float64).tiny))


def _squares(points_ND: Floats, centre_D: Floats) -> Floats:
    return np.square(points_ND - centre_D).sum(1)

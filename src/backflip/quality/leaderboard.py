"""A leaderboard of models from people's votes: Bradley-Terry strengths and how sure they are.

The model i has a strength s_i, and is preferred to the model j with probability

    P(i over j) = 1 / (1 + exp(s_j - s_i))                     (Bradley & Terry 1952)

A tie is half a win for each. Strengths are maximum likelihood with mean 0; only differences mean
something.

**When strengths exist.** Draw an arrow from each model to every model that it won or tied against.
Finite strengths exist, and are unique, exactly where arrows lead from every model to every other
(Ford 1957). A model that never lost would be infinitely strong, one that never won infinitely
weak, and between two sets of models that never met no distance is known at all. The models then
fall into groups within which arrows do lead everywhere. Votes between two groups all went one way
(or there are none), so they say nothing of distances within a group: the largest group is placed
by its own votes, and `Leaderboard.groups` and `Leaderboard.notice` say which models are left
unplaced and why. A `ridge` above 0 places every model: it is a normal prior of variance 1 / ridge
on each strength, and between groups the distances are then the prior's and not the votes'. It
draws all strengths together, so intervals with a ridge are about what is drawn together too.

**How sure.** Votes on one prompt are not independent, nor are those of one annotator, so intervals
are clustered both ways (`strengths.clustered_spread`). Quantiles are Student's t with as many
degrees of freedom as the fewer of prompts and annotators, less one (Cameron & Miller 2015, "A
Practitioner's Guide to Cluster-Robust Inference"). With a single annotator only prompts are
clusters, and the intervals speak of that annotator alone; likewise with a single prompt. They are
of what such votes would give in the long run, whether or not the model above holds exactly.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from backflip.errors import SettingsError
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase
from backflip.statistics.bradley_terry import (
    Ballots,
    Floats,
    Ints,
    chance,
    clustered_spread,
    connected_groups,
    fit_strengths,
)

Outcome = Literal["a", "b", "tie"]
Outside = Literal["none", "won", "lost", "won and lost"]

HUMAN = "human"
"""The model of samples that a person wrote."""
ELO_MEAN = 1000
ELO_SCALE = 400 / float(np.log(10))
_POINTS = {"a": 1.0, "b": 0.0, "tie": 0.5}
_OUTSIDE: dict[Outside, str] = {
    "none": "never met the others",
    "won": "won every vote against the others",
    "lost": "lost every vote against the others",
    "won and lost": "won every vote against some of the others and lost every one against the rest",
}


class Vote(NamedTuple):
    """One annotator's answer to which of two models did better on a prompt."""

    a: str
    b: str
    outcome: Outcome
    prompt: str
    annotator: str


@dataclass(frozen=True)
class Standing:
    """Where a model stands; what is None cannot be told from the votes.

    Attributes:
        wins, losses, ties: its votes.
        rank: 1 the best.
        rank_best, rank_worst: bounds that hold the rank with the leaderboard's confidence: the
            models surely better and surely worse are counted, at Bonferroni's level for its K - 1
            differences (after Mogstad, Romano, Shaikh & Wilhelm 2024, "Inference for Ranks").
        strength: in logits, mean 0 over the placed models.
        low, high: bounds of its interval.
        win_rate: predicted share of votes, ties counting half, against the reference model.
        win_rate_low, win_rate_high: bounds of its interval; None for the reference itself.
    """

    model: str
    wins: int
    losses: int
    ties: int
    rank: int | None = None
    rank_best: int | None = None
    rank_worst: int | None = None
    strength: float | None = None
    low: float | None = None
    high: float | None = None
    win_rate: float | None = None
    win_rate_low: float | None = None
    win_rate_high: float | None = None

    @property
    def num_votes(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def elo(self) -> float | None:
        """The strength on the scale of chess: 400 points for odds of 10 to 1, mean 1000."""
        return _elo(self.strength)

    @property
    def elo_low(self) -> float | None:
        return _elo(self.low)

    @property
    def elo_high(self) -> float | None:
        return _elo(self.high)


@dataclass(frozen=True)
class Group:
    """Models between which votes tell the distances, and how their votes outside it went."""

    models: tuple[str, ...]
    outside: Outside


@dataclass(frozen=True)
class Leaderboard:
    """The standings, and what they rest on.

    Attributes:
        standings: the placed models from the strongest, then the others by name.
        groups: one where strengths exist (see above); else the largest first, and without a
            ridge only that one is placed, and none where it is a single model.
        reference: the model that win rates are against.
        confidence: of the intervals.
        ridge: of the prior; 0 for none.
        num_prompts, num_annotators: clusters among the votes that placed models. With fewer than
            two of both there are no intervals.
    """

    standings: tuple[Standing, ...]
    groups: tuple[Group, ...]
    reference: str | None
    confidence: float
    ridge: float
    num_prompts: int
    num_annotators: int

    @property
    def connected(self) -> bool:
        """Whether the votes alone give every model a finite strength."""
        return len(self.groups) < 2

    @property
    def notice(self) -> str | None:
        """What a reader must be told where the votes do not connect all models."""
        if self.connected:
            return None
        parts = [f"{', '.join(g.models)}: {_OUTSIDE[g.outside]}" for g in self.groups]
        told = "; ".join(parts[1:] if len(self.groups[0].models) > 1 else parts)
        if self.ridge:
            return f"Only the prior says how far these models stand from the rest. {told}."
        return (
            f"These models have no finite strength relative to the rest. {told}. "
            "More votes may connect them; a ridge above 0 places them by a prior."
        )


def votes_of(entries: Iterable[FeedbackBase], samples: Mapping[str, Sample]) -> list[Vote]:
    """The votes that entries are, as comparisons; those that are none are passed over.

    "Both bad" is a tie, a vote between two samples of one model is left out, and a sample that no
    model made stands for the model "human".

    Args:
        entries: of one axis, as a rule: votes on what is helpful and on what is safe do not mix.
        samples: those that the votes speak of, by id.

    Raises:
        KeyError: a compared sample is missing.
    """
    votes = []
    for entry in entries:
        said = entry.vote()
        if said is None:
            continue
        a, b = samples[said[0]], samples[said[1]]
        models = (a.model or HUMAN, b.model or HUMAN)
        if models[0] != models[1]:
            votes.append(Vote(*models, said[2], a.prompt_id, entry.annotator))
    return votes


def leaderboard(
    votes: Iterable[Vote],
    *,
    reference: str | None = None,
    confidence: float = 0.95,
    ridge: float = 0.0,
) -> Leaderboard:
    """Place models by people's votes; see the top of this file for the model and the intervals.

    Args:
        votes: in any order, either way round; every vote counts.
        reference: model to predict win rates against; None for no win rates.
        confidence: of each interval on its own, above 0 and below 1.
        ridge: inverse variance of a normal prior on each strength, in logits; 0 for none.

    Raises:
        SettingsError: the reference is in no vote.
        ValueError: a vote is between a model and itself or has an unknown outcome, or a number
            is outside its range.
    """
    if not (0 < confidence < 1 and 0 <= ridge < np.inf):
        raise ValueError(f"confidence {confidence}, ridge {ridge}")
    models, ballots = _read(list(votes))
    if reference is not None and reference not in models:
        raise SettingsError(
            f"no vote is on the model {reference!r}",
            where="reference",
            hint=f"Models with votes: {', '.join(models) or 'none'}.",
        )
    wins = ballots.wins()
    groups = connected_groups(wins)
    placed = _placed(groups, len(models), ridge)
    names = [models[k] for k in placed]
    chosen = ballots if len(placed) == len(models) else ballots.among(placed)
    rows = _rows(chosen, names.index(reference) if reference in names else None, confidence, ridge)
    found = dict(zip(names, rows, strict=True))
    standings = [
        Standing(model, *counts, **found.get(model, {}))
        for model, counts in zip(models, ballots.counts().tolist(), strict=True)
    ]
    return Leaderboard(
        standings=tuple(sorted(standings, key=lambda s: s.rank or len(models) + 1)),
        groups=tuple(Group(tuple(models[k] for k in g), _outside(wins, g)) for g in groups),
        reference=reference,
        confidence=confidence,
        ridge=ridge,
        num_prompts=chosen.num_prompts,
        num_annotators=chosen.num_annotators,
    )


def _read(votes: Sequence[Vote]) -> tuple[list[str], Ballots]:
    """The models in order of their names, and the votes by their places there."""
    a, b, outcomes, prompts, annotators = ([v[i] for v in votes] for i in range(len(Vote._fields)))
    if unknown := set(outcomes) - _POINTS.keys():
        raise ValueError(f"a vote has the outcome {unknown.pop()!r}")
    models = sorted({*a, *b})
    ballots = Ballots(
        num_models=len(models),
        a=_numbers(a, models),
        b=_numbers(b, models),
        points=np.fromiter(map(_POINTS.__getitem__, outcomes), np.float64, len(outcomes)),
        prompts=_numbers(prompts, dict.fromkeys(prompts)),
        annotators=_numbers(annotators, dict.fromkeys(annotators)),
    )
    if (same := ballots.a == ballots.b).any():
        raise ValueError(f"a vote compares a model with itself: {votes[same.argmax()]}")
    return models, ballots


def _numbers(column: Sequence[Hashable], names: Iterable[Hashable]) -> Ints:
    """(N,) the place of each entry of the column among these different names."""
    places = {name: i for i, name in enumerate(names)}
    return np.fromiter(map(places.__getitem__, column), np.int64, len(column))


def _placed(groups: list[Ints], num_models: int, ridge: float) -> Ints:
    """Models that can be given a strength, in order: all with a ridge, else the largest group."""
    if ridge:
        return np.arange(num_models)
    return groups[0] if groups and len(groups[0]) > 1 else np.arange(0)


def _outside(wins: Floats, group: Ints) -> Outside:
    others = np.setdiff1d(np.arange(len(wins)), group)
    won, lost = wins[np.ix_(group, others)].any(), wins[np.ix_(others, group)].any()
    if won and lost:
        return "won and lost"
    return "won" if won else "lost" if lost else "none"


def _rows(
    ballots: Ballots, reference: int | None, confidence: float, ridge: float
) -> list[dict[str, Any]]:
    """What a standing says of each placed model beside its votes."""
    from scipy.special import stdtrit

    size = ballots.num_models
    if not size:
        return []
    strengths, inverse = fit_strengths(ballots.wins(), ridge)
    spread = clustered_spread(ballots, strengths, inverse, ridge)
    tail = (1 - confidence) / 2
    half = -stdtrit(spread.freedom, tail) * np.sqrt(spread.own)
    columns = {
        "rank": np.argsort(np.argsort(-strengths, kind="stable")) + 1,
        "strength": strengths,
        "low": strengths - half,
        "high": strengths + half,
    }
    errors = np.sqrt(spread.between)
    above = strengths - strengths[:, None]  # how far the column's model stands above the row's
    sure = -stdtrit(spread.freedom, tail / (size - 1)) * errors
    columns["rank_best"] = 1 + (above > sure).sum(1)
    columns["rank_worst"] = size - (-above > sure).sum(1)
    if reference is not None:
        ahead = -above[:, reference]
        half = -stdtrit(spread.freedom, tail) * errors[:, reference]
        columns["win_rate"] = chance(ahead)
        columns["win_rate_low"] = chance(ahead - half)
        columns["win_rate_high"] = chance(ahead + half)
    known = {name: _known(values) for name, values in columns.items()}
    return [dict(zip(known, row, strict=True)) for row in zip(*known.values(), strict=True)]


def _known(values: Floats | Ints) -> list[Any]:
    """Plain numbers, None for NaN."""
    return [None if np.isnan(value) else value for value in values.tolist()]


def _elo(strength: float | None) -> float | None:
    return None if strength is None else ELO_MEAN + ELO_SCALE * strength

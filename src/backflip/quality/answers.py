"""Entries of feedback as columns of numbers: who answered which unit with which value.

Statistics count the same answers many times over. They are read once, into arrays, so that half a
million of them can be counted in the time a page takes to load.

A *unit* is what two annotators can give the same answer to: a pair of samples, or a sample on a
scale. A *question* is what an annotator is asked at once. For most kinds the two are the same; a
ranking is one question and a unit for each pair of its samples, so its units are not independent.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from backflip.records.feedback import (
    KINDS,
    Comparison,
    Critique,
    FeedbackBase,
    GoodBad,
    Ranking,
    Rating,
    SafetyFlag,
)

Indices = NDArray[np.int64]
Value = str | bool | int
"""An answer: "a", "b", "tie" or "both_bad" for a pair; a level; True or False."""

UNKNOWN = -1
_CHOICES = ("a", "b", "tie", "both_bad")


class Unit(NamedTuple):
    """What an answer is about: the same for all who answer it, whatever order they saw.

    The samples of a pair stand in the order of their ids, and "a" is the first of them.
    `context` holds what else makes it the same question: the number of levels of the scale, or
    all samples that were ranked together.
    """

    kind: str
    axis: str
    samples: tuple[str, ...]
    context: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Answers:
    """N answers to U units by A annotators, all of one kind on one axis; one a unit and annotator.

    Attributes:
        kind, axis: what was judged.
        scale: the C values that could be given, in order.
        names: the A annotators.
        units: the U units.
        question: (U,) index of the question that each unit belongs to.
        unit, annotator, value: (N,) indices into `units`, `names` and `scale`.
        first: (N,) which sample of a compared pair was shown first, 0 or 1; -1 where unknown.
    """

    kind: str
    axis: str
    scale: tuple[Value, ...]
    names: tuple[str, ...]
    units: tuple[Unit, ...]
    question: Indices
    unit: Indices
    annotator: Indices
    value: Indices
    first: Indices

    def __len__(self) -> int:
        return len(self.value)

    @property
    def level(self) -> Literal["nominal", "ordinal"]:
        """Whether the values have an order."""
        return "ordinal" if self.kind in ("rating", "critique") else "nominal"

    @property
    def num_questions(self) -> int:
        """Questions that the units belong to; U but for rankings."""
        return int(self.question.max()) + 1

    def counts(self) -> Indices:
        """(U, C) how many annotators gave each value to each unit."""
        shape = (len(self.units), len(self.scale))
        cells = self.unit * shape[1] + self.value
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

    def code(self, value: Value) -> int:
        """Index of a value in the scale; -1 when nobody could give it."""
        return self.scale.index(value) if value in self.scale else UNKNOWN

    def weights(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(N,) 0 where not `chosen` (N,); else 1 / chosen answers of the annotator to the question.

        The pairs of a ranking thus weigh as the one answer that they are.
        """
        if len(self.units) == self.num_questions:
            return chosen.astype(np.float64)
        places = self.question[self.unit] * len(self.names) + self.annotator
        _, place = np.unique(places, return_inverse=True)
        number = np.bincount(place, chosen)
        return np.where(chosen, 1 / np.maximum(number[place], 1), 0.0)


class _Columns(NamedTuple):
    """N entries of one kind: what makes each one's unit, its answer, and what stood first.

    `samples` are in the order of their ids and answers are meant in that order.
    """

    samples: list[tuple[str, ...]]
    context: list[tuple[Any, ...]]
    values: Sequence[Any]
    first: Indices


def read_answers(entries: Iterable[FeedbackBase]) -> dict[tuple[str, str], Answers]:
    """Collect the answers that annotators could share, by kind and axis.

    Comparisons, rankings, ratings, critiques with a level, thumbs and safety flags are read; the
    other kinds give no such answer. Ratings on scales of different length are different units,
    and so are pairs that were ranked among different samples. Of several answers of one annotator
    to a unit, the last counts.
    """
    groups: dict[tuple[str, str], list[Any]] = {}
    for entry in entries:
        name = _NAMES.get(type(entry))
        if name is not None and (name != "critique" or cast(Critique, entry).level is not None):
            groups.setdefault((name, entry.axis), []).append(entry)
    return {key: _table(*key, groups[key]) for key in sorted(groups)}


def _read_comparisons(entries: Sequence[Comparison]) -> _Columns:
    samples = [entry.samples for entry in entries]
    swapped = np.array([a > b for a, b in samples])
    first = np.array([_FIRST.get(entry.shown, UNKNOWN) for entry in entries])
    return _Columns(
        samples=[pair if pair[0] < pair[1] else pair[::-1] for pair in samples],
        context=[()] * len(entries),
        values=[
            _SWAPPED.get(entry.choice, entry.choice) if swap else entry.choice
            for entry, swap in zip(entries, swapped.tolist(), strict=True)
        ],
        first=np.where(swapped & (first != UNKNOWN), 1 - first, first),
    )


def _read_rankings(entries: Sequence[Ranking]) -> _Columns:
    orders = [sorted(range(len(e.samples)), key=e.samples.__getitem__) for e in entries]
    ordered = list(zip(entries, orders, strict=True))
    samples = [tuple(entry.samples[i] for i in order) for entry, order in ordered]
    ranks = [tuple(entry.ranks[i] for i in order) for entry, order in ordered]
    return _alone(samples, samples, ranks)


def _read_levels(entries: Sequence[Rating | Critique]) -> _Columns:
    samples = [(entry.sample,) for entry in entries]
    levels = [entry.level for entry in entries]
    return _alone(samples, [(entry.num_levels,) for entry in entries], levels)


def _read_thumbs(entries: Sequence[GoodBad]) -> _Columns:
    samples = [(entry.sample,) for entry in entries]
    return _alone(samples, [()] * len(entries), [entry.good for entry in entries])


def _read_flags(entries: Sequence[SafetyFlag]) -> _Columns:
    samples = [(entry.sample,) for entry in entries]
    return _alone(samples, [()] * len(entries), [entry.safe for entry in entries])


def _alone(samples: list[Any], context: list[Any], values: Sequence[Any]) -> _Columns:
    return _Columns(samples, context, values, np.full(len(values), UNKNOWN))


_FIRST: dict[Any, int] = {(0, 1): 0, (1, 0): 1}
_SWAPPED = {"a": "b", "b": "a"}
_READERS: dict[str, Callable[[Sequence[Any]], _Columns]] = {
    "comparison": _read_comparisons,
    "ranking": _read_rankings,
    "rating": _read_levels,
    "critique": _read_levels,
    "good_bad": _read_thumbs,
    "safety_flag": _read_flags,
}
_NAMES = {KINDS[name]: name for name in _READERS}


def _table(kind: str, axis: str, entries: Sequence[FeedbackBase]) -> Answers:
    columns = _READERS[kind](entries)
    keys = list(zip(columns.samples, columns.context, strict=True))
    asked, places = _number(keys)
    who, names = _number([entry.annotator for entry in entries])
    # The last answer of each annotator to each question: the first from behind.
    _, behind = np.unique((asked * len(names) + who)[::-1], return_index=True)
    kept = np.sort(len(entries) - 1 - behind)
    values = [columns.values[i] for i in kept.tolist()]
    if kind == "ranking":
        return _expand(
            axis, [key[0] for key in places], tuple(names), asked[kept], who[kept], values
        )
    scale = _scale(kind, columns)
    codes = {value: i for i, value in enumerate(scale)}
    return Answers(
        kind=kind,
        axis=axis,
        scale=scale,
        names=tuple(names),
        units=tuple(Unit(kind, axis, *key) for key in places),
        question=np.arange(len(places)),
        unit=asked[kept],
        annotator=who[kept],
        value=np.array([codes[value] for value in values], np.int64),
        first=columns.first[kept],
    )


def _number(keys: Iterable[Any]) -> tuple[Indices, dict[Any, int]]:
    """Number the different keys as they come: the number of each, and the numbers by key."""
    numbers: dict[Any, int] = {}
    found = [numbers.setdefault(key, len(numbers)) for key in keys]
    return np.array(found, np.int64), numbers


def _scale(kind: str, columns: _Columns) -> tuple[Value, ...]:
    """The values that could be given, as far as the entries tell.

    A form may offer no tie or no "both bad": these count as offered once somebody used them.
    """
    if kind in ("rating", "critique"):
        return tuple(range(1, max(num_levels for (num_levels,) in columns.context) + 1))
    if kind == "comparison":
        used = {"a", "b", *columns.values}
        return tuple(choice for choice in _CHOICES if choice in used)
    return (False, True)


def _expand(
    axis: str,
    questions: Sequence[tuple[str, ...]],
    names: tuple[str, ...],
    asked: Indices,
    who: Indices,
    ranks: Sequence[tuple[int, ...]],
) -> Answers:
    """Rankings as answers: each pair of the samples is a unit, answered "a", "b" or "tie".

    `questions` are the samples that were ranked together, `asked` and `who` (N,) the question and
    the annotator of each ranking, and `ranks` the N tuples of places of its samples, 1 the best.
    """
    sizes = np.array([len(samples) for samples in questions])
    num_pairs = sizes * (sizes - 1) // 2
    start = np.cumsum(num_pairs) - num_pairs
    columns: list[tuple[Indices, Indices, Indices]] = []
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes[asked] == size)
        places = np.array([ranks[i] for i in chosen.tolist()], np.int64)
        one, other = np.triu_indices(size, 1)
        ahead = np.sign(places[:, other] - places[:, one])
        unit = start[asked[chosen]][:, None] + np.arange(len(one))
        value = np.array([1, 2, 0])[ahead + 1]
        columns.append((unit.ravel(), np.repeat(who[chosen], len(one)), value.ravel()))
    unit, annotator, value = (np.concatenate(column) for column in zip(*columns, strict=True))
    return Answers(
        kind="ranking",
        axis=axis,
        scale=_CHOICES[: 3 if (value == 2).any() else 2],
        names=names,
        units=tuple(
            Unit("ranking", axis, pair, samples)
            for samples in questions
            for pair in combinations(samples, 2)
        ),
        question=np.repeat(np.arange(len(questions)), num_pairs),
        unit=unit,
        annotator=annotator,
        value=value,
        first=np.full(len(unit), UNKNOWN),
    )

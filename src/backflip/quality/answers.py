"""Entries of feedback as columns of numbers: who answered which unit with which value.

Statistics count the same answers many times over. They are read once, into arrays, so that half a
million of them can be counted in the time a page takes to load.

A *unit* is what two annotators can give the same answer to: a pair of samples, or a sample on a
scale. A *question* is what an annotator is asked at once. For most kinds the two are the same; a
ranking is one question and a unit for each pair of its samples, so its units are not independent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backflip.records.feedback import KINDS, UNKNOWN, FeedbackBase, Judgement, Value, Values

Indices = NDArray[np.int64]
_OF_RANKS = ("a", "b", "tie")


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
        return "ordinal" if self.values == "ordinal" else "nominal"

    @property
    def values(self) -> Values:
        """What annotators agree on, as the kind says."""
        return KINDS[self.kind].values

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


def read_answers(entries: Iterable[FeedbackBase]) -> dict[tuple[str, str], Answers]:
    """Collect the answers that annotators could share, by kind and axis.

    Kinds, and entries, that say nothing which others could say as well give no such answer.
    Ratings on scales of different length are different units, and so are pairs that were ranked
    among different samples. Of several answers of one annotator to a unit, the last counts.
    """
    groups: dict[tuple[type[FeedbackBase], str], list[tuple[str, Judgement]]] = {}
    for entry in entries:
        if (said := entry.judgement()) is not None:
            groups.setdefault((type(entry), entry.axis), []).append((entry.annotator, said))
    named = {(kind.kind_name(), axis): said for (kind, axis), said in groups.items()}
    return {key: _table(*key, named[key]) for key in sorted(named)}


def _table(kind: str, axis: str, said: Sequence[tuple[str, Judgement]]) -> Answers:
    asked, places = _number((each.samples, each.context) for _, each in said)
    who, names = _number(annotator for annotator, _ in said)
    # The last answer of each annotator to each question: the first from behind.
    _, behind = np.unique((asked * len(names) + who)[::-1], return_index=True)
    kept = np.sort(len(said) - 1 - behind)
    last = [said[i][1] for i in kept.tolist()]
    if KINDS[kind].values == "ranks":
        ranks = [each.value for each in last]
        questions = [samples for samples, _ in places]
        return _expand(kind, axis, questions, tuple(names), asked[kept], who[kept], ranks)
    scale = KINDS[kind].scale(each for _, each in said)
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
        value=np.array([codes[each.value] for each in last], np.int64),
        first=np.array([each.first for each in last], np.int64),
    )


def _number(keys: Iterable[Any]) -> tuple[Indices, dict[Any, int]]:
    """Number the different keys as they come: the number of each, and the numbers by key."""
    numbers: dict[Any, int] = {}
    found = [numbers.setdefault(key, len(numbers)) for key in keys]
    return np.array(found, np.int64), numbers


def _expand(
    kind: str,
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
        kind=kind,
        axis=axis,
        scale=_OF_RANKS[: 3 if (value == 2).any() else 2],
        names=names,
        units=tuple(
            Unit(kind, axis, pair, samples)
            for samples in questions
            for pair in combinations(samples, 2)
        ),
        question=np.repeat(np.arange(len(questions)), num_pairs),
        unit=unit,
        annotator=annotator,
        value=value,
        first=np.full(len(unit), UNKNOWN),
    )

"""Small crowds for the tests of the quality figures."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backflip.quality.answers import Answers, Value, read_answers
from backflip.records.feedback import Comparison, FeedbackBase, GoodBad, Ranking, Rating


def pair(i: int) -> tuple[str, str]:
    """The samples of pair i, in the order of their ids."""
    return f"s{i:05d}a", f"s{i:05d}b"


def compare(who: str, i: int, choice: str, *, seen: int | None = None, **more: Any) -> Comparison:
    """A comparison of pair i; `seen` is which of its samples was shown first."""
    shown = None if seen is None else (seen, 1 - seen)
    return Comparison(annotator=who, samples=pair(i), choice=choice, shown=shown, **more)


def thumb(who: str, i: int, good: bool, **more: Any) -> GoodBad:
    return GoodBad(annotator=who, sample=f"s{i:05d}", good=bool(good), **more)


def rate(who: str, i: int, level: int, **more: Any) -> Rating:
    return Rating(annotator=who, sample=f"s{i:05d}", level=int(level), **more)


def rank(who: str, ranks: dict[str, int], **more: Any) -> Ranking:
    return Ranking(annotator=who, samples=tuple(ranks), ranks=tuple(ranks.values()), **more)


def only(entries: Iterable[FeedbackBase]) -> Answers:
    """The answers, where all are of one kind and axis."""
    (answers,) = read_answers(entries).values()
    return answers


def table(
    values: NDArray[np.int64], annotators: NDArray[np.int64], scale: Sequence[Value]
) -> Answers:
    """Answers from (U, M) indices of values and of the annotators who gave them, quickly made."""
    num_units, each = values.shape
    unit = np.repeat(np.arange(num_units), each)
    return Answers(
        kind="comparison",
        axis="overall",
        scale=tuple(scale),
        names=tuple(f"annotator-{i}" for i in range(annotators.max() + 1)),
        units=tuple(range(num_units)),
        question=np.arange(num_units),
        unit=unit,
        annotator=annotators.ravel(),
        value=values.ravel(),
        first=np.full(len(unit), -1),
    )


def crowd(
    rng: np.random.Generator,
    *,
    num_units: int,
    each: int,
    num_values: int,
    right: NDArray[np.float64],
) -> tuple[NDArray[np.int64], Answers]:
    """What is true, and the answers of annotators who are right so often and else err evenly."""
    true = rng.integers(0, num_values, num_units)
    who = np.argsort(rng.random((num_units, len(right))), axis=1)[:, :each]
    wrong = (true[:, None] + rng.integers(1, num_values, who.shape)) % num_values
    values = np.where(rng.random(who.shape) < right[who], true[:, None], wrong)
    return true, table(values, who, ("a", "b", "tie", "both_bad")[:num_values])

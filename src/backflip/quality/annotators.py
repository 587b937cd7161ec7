"""One row for each annotator: how much, how fast, how like the others, and how right."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backflip.quality.annotator_bias import Habits, comparison_habits
from backflip.quality.answers import Answers, Unit, Value, read_answers
from backflip.quality.peers import PeerAgreement, gold_counts, peer_agreement
from backflip.quality.times import SPEED_FLOOR, Times, measure_times
from backflip.records.feedback import FeedbackBase
from backflip.statistics.figures import MIN_GOLD, Figure, share_of


@dataclass(frozen=True)
class AnnotatorFigures:
    """What is known of one annotator.

    Attributes:
        annotator: the name.
        num_answers: entries of all kinds.
        times: how long they took.
        peers: agreement with the others, one for each kind and axis answered.
        habits: of comparisons, one for each axis.
        gold: share of gold questions, of all kinds and axes, answered as expected.
    """

    annotator: str
    num_answers: int
    times: Times
    peers: tuple[PeerAgreement, ...]
    habits: tuple[Habits, ...]
    gold: Figure


def expected_answers(entries: Iterable[FeedbackBase]) -> dict[Unit, Value]:
    """Gold as `measure_annotators` takes it, from entries that stand for the right answers.

    Of several entries on a unit by different annotators, the last read counts.
    """
    return {
        answers.units[unit]: answers.scale[value]
        for answers in read_answers(entries).values()
        for unit, value in zip(answers.unit.tolist(), answers.value.tolist(), strict=True)
    }


def measure_annotators(
    entries: Sequence[FeedbackBase],
    answers: Mapping[tuple[str, str], Answers],
    *,
    lengths: Mapping[str, float] | None = None,
    expected: Mapping[Unit, Value] | None = None,
    floor: float = SPEED_FLOOR,
    confidence: float = 0.95,
) -> list[AnnotatorFigures]:
    """A row for each annotator, by name.

    Args:
        entries: of any kinds.
        answers: `read_answers` of these entries.
        lengths: words by sample id, for the habit of choosing the longer.
        expected: the right answers of gold units; `expected_answers` makes them from entries.
        floor: seconds; an answer that took less is fast.
        confidence: of the intervals.
    """
    number = Counter(entry.annotator for entry in entries)
    times = measure_times(entries, floor=floor, confidence=confidence)
    peers: dict[str, list[PeerAgreement]] = {name: [] for name in number}
    habits: dict[str, list[Habits]] = {name: [] for name in number}
    right = dict.fromkeys(number, 0.0)
    asked = dict.fromkeys(number, 0.0)
    for table in answers.values():
        for name, found in peer_agreement(table, confidence=confidence).items():
            peers[name].append(found)
        if table.values == "pair":
            for name, habit in comparison_habits(table, lengths, confidence=confidence).items():
                habits[name].append(habit)
        for name, (successes, count) in gold_counts(table, expected or {}).items():
            right[name] += successes
            asked[name] += count
    return [
        AnnotatorFigures(
            annotator=name,
            num_answers=number[name],
            times=times[name],
            peers=tuple(peers[name]),
            habits=tuple(habits[name]),
            gold=share_of(
                right[name],
                asked[name],
                minimum=MIN_GOLD,
                of="gold questions answered",
                confidence=confidence,
            ),
        )
        for name in sorted(number)
    ]

"""Figures for a page on the quality of feedback: pure functions of entries, with intervals.

    answers = read_answers(entries)
    agreement_figures(answers["comparison", "overall"], generator)   # raw, alpha, AC
    measure_annotators(entries, answers, lengths=words, expected=gold)
    dawid_skene(answers["comparison", "overall"]).values()           # the consensus
    disagreements(answers["comparison", "overall"])
    measure_drift([first_round, second_round], generator)

A figure is an `Estimate` with its interval, or `Withheld` with the reason: small samples say so
instead of showing a number.
"""

from backflip.feedback.answers import Answers, Unit, Value, read_answers
from backflip.feedback.quality.agreement import AgreementFigures, agreement_figures
from backflip.feedback.quality.annotators import (
    AnnotatorFigures,
    expected_answers,
    measure_annotators,
)
from backflip.feedback.quality.conflicts import (
    CONFIDENT,
    Contradiction,
    Disagreement,
    contradictions,
    disagreements,
)
from backflip.feedback.quality.consensus import Consensus, dawid_skene, majority
from backflip.feedback.quality.drift import Drift, measure_drift
from backflip.feedback.quality.figures import (
    MIN_ANCHORS,
    MIN_ANSWERS,
    MIN_GOLD,
    MIN_ITEMS,
    MIN_TIMED,
    Figure,
    Withheld,
)
from backflip.feedback.quality.habits import Habit, Habits, comparison_habits
from backflip.feedback.quality.intervals import (
    Estimate,
    Share,
    paired_difference,
    sign_test,
    wilson,
)
from backflip.feedback.quality.peers import PeerAgreement, peer_agreement
from backflip.feedback.quality.times import SPEED_FLOOR, Quartiles, Times, measure_times

__all__ = [
    "CONFIDENT",
    "MIN_ANCHORS",
    "MIN_ANSWERS",
    "MIN_GOLD",
    "MIN_ITEMS",
    "MIN_TIMED",
    "SPEED_FLOOR",
    "AgreementFigures",
    "AnnotatorFigures",
    "Answers",
    "Consensus",
    "Contradiction",
    "Disagreement",
    "Drift",
    "Estimate",
    "Figure",
    "Habit",
    "Habits",
    "PeerAgreement",
    "Quartiles",
    "Share",
    "Times",
    "Unit",
    "Value",
    "Withheld",
    "agreement_figures",
    "comparison_habits",
    "contradictions",
    "dawid_skene",
    "disagreements",
    "expected_answers",
    "majority",
    "measure_annotators",
    "measure_drift",
    "measure_times",
    "paired_difference",
    "peer_agreement",
    "read_answers",
    "sign_test",
    "wilson",
]

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

from backflip.quality.agreement import AgreementFigures, agreement_figures
from backflip.quality.annotator_bias import Habit, Habits, comparison_habits
from backflip.quality.annotators import AnnotatorFigures, expected_answers, measure_annotators
from backflip.quality.answers import Answers, Unit, Value, read_answers
from backflip.quality.conflicts import (
    CONFIDENT,
    Contradiction,
    Disagreement,
    contradictions,
    disagreements,
)
from backflip.quality.consensus import Consensus, dawid_skene, majority
from backflip.quality.drift import Drift, measure_drift
from backflip.quality.peers import PeerAgreement, peer_agreement
from backflip.quality.reliability import (
    Agreement,
    krippendorff_alpha,
    measure_agreement,
    raw_agreement,
)
from backflip.quality.times import SPEED_FLOOR, Quartiles, Times, measure_times

__all__ = [
    "CONFIDENT",
    "SPEED_FLOOR",
    "Agreement",
    "AgreementFigures",
    "AnnotatorFigures",
    "Answers",
    "Consensus",
    "Contradiction",
    "Disagreement",
    "Drift",
    "Habit",
    "Habits",
    "PeerAgreement",
    "Quartiles",
    "Times",
    "Unit",
    "Value",
    "agreement_figures",
    "comparison_habits",
    "contradictions",
    "dawid_skene",
    "disagreements",
    "expected_answers",
    "krippendorff_alpha",
    "majority",
    "measure_agreement",
    "measure_annotators",
    "measure_drift",
    "measure_times",
    "peer_agreement",
    "raw_agreement",
    "read_answers",
]

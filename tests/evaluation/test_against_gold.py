"""What a reward model is held against where the truth is known: by hand."""

import pytest

from backflip.evaluation import reward_report
from backflip.evaluation.report.words import accuracy_line
from backflip.evaluation.summary import against_gold
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison
from backflip.records.figures import AgainstGold, RewardReport

PROMPT = Prompt.from_text("Which is it?")
A, B, C, D = (Sample.of(PROMPT, Completion(text=t), index=i) for i, t in enumerate("abcd"))
ALL = (A, B, C, D)


def prefers(better: Sample, worse: Sample) -> Comparison:
    return Comparison(annotator="ann", samples=(better.id, worse.id), choice="a")


def by_id(*values: float) -> dict[str, float]:
    return {sample.id: value for sample, value in zip(ALL, values, strict=True)}


# Gold puts them in the order a, b, c, d; the annotator errs on the last.
ENTRIES = [prefers(A, B), prefers(B, D), prefers(A, C), prefers(D, C)]
GOLD = by_id(0.9, 0.4, 0.3, -0.8)
# The scores exchange b and c: Spearman's 1 - 6 * (1 + 1) / (4 * 15) = 0.8.
SCORES = by_id(3.0, 1.0, 2.0, 0.0)


def test_gold_itself_is_right_where_the_annotators_are():
    found = against_gold(ENTRIES, SCORES, GOLD)
    assert found.accuracy.value == 0.75
    assert found.accuracy.count == 4
    assert found.correlation == pytest.approx(0.8)


def test_scores_the_other_way_round_correlate_the_other_way_round():
    turned = {name: -score for name, score in SCORES.items()}
    assert against_gold(ENTRIES, turned, GOLD).correlation == pytest.approx(-0.8)


def test_what_is_not_defined_is_not_given():
    same = dict.fromkeys(SCORES, 1.0)
    tie = Comparison(annotator="ann", samples=(A.id, B.id), choice="tie")
    assert against_gold([tie], same, GOLD) == AgainstGold(accuracy=None, correlation=None)


def test_it_is_said_beside_the_accuracy():
    samples = {sample.id: sample for sample in ALL}
    counts = {"trained_on": 4, "heldout": 4}
    with_gold, without = (
        RewardReport(**dict(reward_report(ENTRIES, SCORES, samples, {}, g)), **counts)
        for g in (GOLD, None)
    )
    assert without.gold is None
    assert "gold" not in accuracy_line(without)
    assert accuracy_line(with_gold).endswith(
        "; gold itself is right on 75.0% of them, rank correlation with it 0.80"
    )

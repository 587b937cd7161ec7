"""Scoring reward models on files of human judgements."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from backflip.errors import FormatError
from backflip.evaluation import decided_pairs, reward_accuracy, reward_report
from backflip.formats import Labelled, bench_subset, read
from backflip.loop.stage import Stage
from backflip.loop.stages.learning import load_reward
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase
from backflip.records.figures import BenchReport, KeptShare
from backflip.records.results import RewardModels

NUM_REASONS = 5


def score_file(stage: Stage, models: RewardModels, file: str) -> BenchReport:
    """Accuracy and calibration of the trained reward on a file of comparisons in any format.

    Raises:
        FormatError: no row of the file can be read.
    """
    rows = list(read(file))
    labelled = [row for row in rows if isinstance(row, Labelled)]
    rejected = [row for row in rows if not isinstance(row, Labelled)]
    if not labelled:
        reason = f": {rejected[0]}" if rejected else ""
        raise FormatError(f"has no row that can be scored{reason}", where=file)
    samples = {sample.id: sample for row in labelled for sample in row.samples}
    entries = [entry for row in labelled for entry in row.entries]
    values = load_reward(stage, models).score(list(samples.values()))
    scores = {name: v for name, v in zip(samples, values, strict=True) if v is not None}
    kept = [entry for entry in entries if all(name in scores for name in entry.sample_ids)]
    return BenchReport(
        **dict(reward_report(kept, scores, samples, {})),
        entries=len(kept),
        subsets=_by_subset(kept, scores, samples),
        rejected_rows=len(rejected),
        reasons=tuple(str(row) for row in rejected[:NUM_REASONS]),
    )


def _by_subset(
    entries: Sequence[FeedbackBase], scores: Mapping[str, float], samples: Mapping[str, Sample]
) -> dict[str, KeptShare]:
    """Accuracy on the entries of each subset of a benchmark; empty where no row names one."""
    parts: dict[str, list[FeedbackBase]] = {}
    for entry in entries:
        subset = bench_subset(samples[entry.sample_ids[0]].prompt.source)
        if subset is not None:
            parts.setdefault(subset, []).append(entry)
    found = {name: reward_accuracy(decided_pairs(part, scores)) for name, part in parts.items()}
    return {
        name: KeptShare(**asdict(a.overall)) for name, a in sorted(found.items()) if a is not None
    }

"""Scoring reward models on files of human judgements."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backflip.errors import FormatError
from backflip.evaluation import reward_report
from backflip.feedback.formats import Labelled, read
from backflip.loop.stages.learning import load_reward

if TYPE_CHECKING:
    from backflip.loop.run import Stage


def score_file(stage: "Stage", rewards: Mapping[str, Sequence[str]], file: str) -> dict[str, Any]:
    """Accuracy and calibration of the trained reward on a file of comparisons in any format.

    Raises:
        FormatError: no row of the file can be read.
    """
    rows = list(read(file))
    labelled = [row for row in rows if isinstance(row, Labelled)]
    if not labelled:
        raise FormatError("has no row that can be scored", where=file)
    samples = {sample.id: sample for row in labelled for sample in row.samples}
    entries = [entry for row in labelled for entry in row.entries]
    values = load_reward(stage, rewards).score(list(samples.values()))
    scores = {name: v for name, v in zip(samples, values, strict=True) if v is not None}
    kept = [entry for entry in entries if all(name in scores for name in entry.sample_ids)]
    return {
        **reward_report(kept, scores, samples, {}),
        "entries": len(kept),
        "rejected_rows": len(rows) - len(labelled),
    }

"""Having the judge say which of two policies answered better, on prompts that nothing learns from.

What it says is kept pair by pair as stages of the run and not in the journal: it is no feedback,
and no run may ever learn from it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from backflip.judging.pairwise import Judge
from backflip.judging.prompts import TURNED
from backflip.loop.stage import Stage
from backflip.loop.stages.acting import judging
from backflip.records import Completion, Sample, content_id
from backflip.records.feedback import Comparison
from backflip.records.plan import VERDICT
from backflip.records.results import JudgeCounts, Outcome, VerdictResult

_OUTCOMES: dict[str, Outcome] = {
    "a": "start",
    "b": "policy",
    "tie": "tie",
    "both_bad": "both_bad",
}
_POINTS = {"policy": 1.0, "start": 0.0}


@dataclass(frozen=True)
class Judged:
    """What the judge said of pairs of samples, the starting model's and the policy's.

    Attributes:
        told: how many pairs came out how.
        said: of each pair.
    """

    told: JudgeCounts
    said: tuple[VerdictResult, ...]

    @property
    def points(self) -> list[float]:
        """1 for each pair that the policy won, 0 for one it lost, 0.5 for all other answers."""
        answered = [said.outcome for said in self.said if said.outcome != "unanswered"]
        return [_POINTS.get(outcome, 0.5) for outcome in answered]

    @property
    def points_against(self) -> list[float]:
        """The starting model's points, likewise."""
        return [1 - points for points in self.points]


def ask_about_sides(
    stage: Stage, before: Sequence[Sample], after: Sequence[Sample]
) -> Judged | None:
    """Ask the recipe's judge about each pair; a stage that was cut off asks only what is missing.

    Of samples with the same text it is not asked: whatever it said would be of the order.

    Args:
        stage: the evaluation's.
        before: the starting model's samples.
        after: the policy's, of the same prompts in the same order.

    Returns:
        None where the recipe has no judge, or the samples are no text.

    Raises:
        JudgeError: it answered about none.
    """
    settings, axes = stage.recipe.feedback.the_judge, stage.recipe.reward.axes
    pairs = list(zip(before, after, strict=True))
    if settings is None or not all(isinstance(s.content, Completion) for s in (*before, *after)):
        return None
    known = {pair: _known(stage, *pair) for pair in pairs}
    waiting = [pair for pair, said in known.items() if said is None]
    with (
        Judge(judging(settings, axes[0] if len(axes) == 1 else "overall")) as judge,
        stage.reporter.bar("Asking the judge", len(waiting), "pairs") as advance,
    ):
        by_ids = {(old.id, new.id): (old, new) for old, new in waiting}

        def keep(entry: Comparison) -> None:
            pair = by_ids[entry.samples]
            known[pair] = _keep(stage, *pair, entry)
            advance(1)

        failures = judge.compare_all(waiting, on_entry=keep).failures
    if failures and len(failures) == len(pairs):
        raise failures[0]
    for failure in failures:
        stage.reporter.warn(f"{stage.key}: {failure}")
    unanswered = VerdictResult(outcome="unanswered", reason=None)
    said = tuple(known[pair] or unanswered for pair in pairs)
    return Judged(_counts(judge.annotator, pairs, said), said)


def _key(stage: Stage, old: Sample, new: Sample) -> str:
    return f"{stage.key}/judge/{content_id('pair', old.id, new.id)}"


def _known(stage: Stage, old: Sample, new: Sample) -> VerdictResult | None:
    """What is known of a pair without asking."""
    if old.text == new.text:
        return VerdictResult(outcome="same", reason=None)
    return stage.workspace.stages.result(stage.run.id, _key(stage, old, new), VERDICT)


def _keep(stage: Stage, old: Sample, new: Sample, entry: Comparison) -> VerdictResult:
    outcome: Outcome = "turned" if TURNED in entry.tags else _OUTCOMES[entry.choice]
    said = VerdictResult(outcome=outcome, reason=entry.reason)
    return stage.workspace.stages.finish(stage.run.id, _key(stage, old, new), said)


def _counts(
    name: str, pairs: Sequence[tuple[Sample, Sample]], said: Sequence[VerdictResult]
) -> JudgeCounts:
    answered = {
        old.prompt_id
        for (old, _), one in zip(pairs, said, strict=True)
        if one.outcome != "unanswered"
    }
    counts = Counter(one.outcome for one in said)
    return JudgeCounts(
        name=name,
        pairs=len(said),
        prompts=len(answered),
        **{outcome: counts[outcome] for outcome in get_args(Outcome)},
    )

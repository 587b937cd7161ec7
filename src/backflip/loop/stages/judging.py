"""Having the judge say which of two policies answered better, on prompts that nothing learns from.

What it says is kept pair by pair as stages of the run and not in the journal: it is no feedback,
and no run may ever learn from it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backflip.judging.pairwise import Judge
from backflip.judging.prompts import TURNED
from backflip.loop.stages.acting import judging
from backflip.records import Completion, Sample, content_id
from backflip.records.feedback import Comparison

if TYPE_CHECKING:
    from backflip.loop.run import Stage

Said = dict[str, Any]

_SIDES = {"a": "start", "b": "policy"}
_POINTS = {"policy": 1.0, "start": 0.0}


@dataclass(frozen=True)
class Sides:
    """What the judge said of pairs of samples, the starting model's and the policy's.

    Attributes:
        told: its "name", the number of "pairs", of "prompts" with an answer, and how many pairs
            came out for the "policy" or the "start", as a "tie" or "both_bad", "turned" with the
            order, were the "same" word for word, or stay "unanswered".
        said: of each pair its "outcome", one of these, and the "reason" that was given.
    """

    told: dict[str, Any]
    said: tuple[Said, ...]

    @property
    def points(self) -> list[float]:
        """1 for each pair that the policy won, 0 for one it lost, 0.5 for all other answers."""
        answered = [said["outcome"] for said in self.said if said["outcome"] != "unanswered"]
        return [_POINTS.get(outcome, 0.5) for outcome in answered]

    @property
    def points_against(self) -> list[float]:
        """The starting model's points, likewise."""
        return [1 - points for points in self.points]


def ask_about_sides(
    stage: "Stage", before: Sequence[Sample], after: Sequence[Sample]
) -> Sides | None:
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
    said = tuple(known[pair] or {"outcome": "unanswered", "reason": None} for pair in pairs)
    return Sides(_counts(judge.annotator, pairs, said), said)


def _key(stage: "Stage", old: Sample, new: Sample) -> str:
    return f"{stage.key}/judge/{content_id('pair', old.id, new.id)}"


def _known(stage: "Stage", old: Sample, new: Sample) -> Said | None:
    """What is known of a pair without asking."""
    if old.text == new.text:
        return {"outcome": "same", "reason": None}
    return stage.workspace.stages.result(stage.run.id, _key(stage, old, new))


def _keep(stage: "Stage", old: Sample, new: Sample, entry: Comparison) -> Said:
    outcome = "turned" if TURNED in entry.tags else _SIDES.get(entry.choice, entry.choice)
    said = {"outcome": outcome, "reason": entry.reason}
    stage.workspace.stages.finish(stage.run.id, _key(stage, old, new), said)
    return said


def _counts(
    name: str, pairs: Sequence[tuple[Sample, Sample]], said: Sequence[Said]
) -> dict[str, Any]:
    answered = {
        old.prompt_id
        for (old, _), one in zip(pairs, said, strict=True)
        if one["outcome"] != "unanswered"
    }
    counts = Counter(one["outcome"] for one in said)
    outcomes = ("policy", "start", "tie", "both_bad", "turned", "same", "unanswered")
    return {
        "name": name,
        "pairs": len(said),
        "prompts": len(answered),
        **{outcome: counts[outcome] for outcome in outcomes},
    }

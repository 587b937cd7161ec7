"""What a report tells, read from the workspace."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeVar

from backflip.evaluation.report.voting import with_votes
from backflip.feedback.gold import describe_gold
from backflip.records.feedback import FeedbackBase
from backflip.records.figures import RewardReport
from backflip.records.plan import EVALUATE, FEEDBACK, POLICY, REWARD, StageKind, round_of
from backflip.records.results import (
    EvaluationResult,
    FeedbackResult,
    PolicyResult,
    RewardResult,
    StageResult,
    VerdictResult,
)
from backflip.workspace import Series, Workspace, lineage

R = TypeVar("R", bound=StageResult)
Curves = dict[str, tuple[tuple[int, ...], tuple[float, ...]]]


@dataclass(frozen=True)
class Round:
    """One round of a run, as far as it went; one of which there is nothing to say is no round.

    Attributes:
        feedback, reward, policy, evaluation: results of its stages; None where not done. Where
            people compared the policy with the starting model since, the evaluation says so.
        curves: metrics of the policy's training by name: steps and values.
        flags: names of what was flagged while the policy was trained.
    """

    number: int
    feedback: FeedbackResult | None
    reward: RewardResult | None
    policy: PolicyResult | None
    evaluation: EvaluationResult | None
    curves: Curves
    flags: tuple[str, ...]

    @property
    def says_something(self) -> bool:
        """Whether a stage is done that a reader is told of, or training has begun."""
        done = (self.feedback, self.reward, self.policy, self.evaluation)
        return any(result is not None for result in done) or bool(self.curves)

    @property
    def reports(self) -> dict[str, RewardReport]:
        """What was measured of its reward models, by axis; of none there is nothing."""
        return self.reward.reports if self.reward else {}


@dataclass(frozen=True)
class Example:
    """A prompt and what the starting model and the last policy did with it.

    `judged` is what the judge said of the two; None where none did.
    """

    prompt: str
    before: str
    after: str
    before_scores: dict[str, float]
    after_scores: dict[str, float]
    judged: VerdictResult | None


@dataclass(frozen=True)
class Shaped:
    """A model, and the feedback that shaped it."""

    id: str
    name: str
    stage: str
    parents: tuple[str, ...]
    snapshot: str | None
    entries: int
    annotators: dict[str, int]


@dataclass(frozen=True)
class Facts:
    """All that a report tells of a run.

    Attributes:
        gold: what the gold measure is, in words; None where there is none.
        origins: where the feedback came from that the last round learned from, and how many
            entries each.
        groups: annotator to the group that it is of, in the workspace.
        version: of the program that made the run.
    """

    run: str
    name: str
    status: str
    version: str
    recipe: dict[str, Any]
    gold: str | None
    origins: dict[str, int]
    rounds: tuple[Round, ...]
    examples: tuple[Example, ...]
    models: tuple[Shaped, ...]
    groups: dict[str, str]

    @property
    def last(self) -> Round | None:
        """The last round that was evaluated."""
        done = [r for r in self.rounds if r.evaluation is not None]
        return done[-1] if done else None


def gather(workspace: Workspace, run_id: str) -> Facts:
    """Read what is known of a run.

    Raises:
        WorkspaceError: there is no such run.
    """
    run = workspace.runs.get(run_id)
    numbers = {n for stage in workspace.stages.all(run_id) if (n := round_of(stage.key))}
    # Single stages, as of `backflip sample`, have keys in a round too, and say nothing of it.
    rounds = tuple(
        found for n in sorted(numbers) if (found := _round(workspace, run_id, n)).says_something
    )
    done = [r.evaluation for r in rounds if r.evaluation is not None]
    teachers = run.recipe["feedback"]["source"] == "teachers"
    return Facts(
        run=run_id,
        name=run.name,
        status=run.status,
        version=run.version,
        recipe=run.recipe,
        gold=describe_gold(run.recipe["feedback"]["gold"]) if teachers else None,
        origins=_origins(workspace, rounds),
        rounds=rounds,
        examples=_examples(workspace, done[-1]) if done else (),
        models=_models(workspace, run_id),
        groups={a.name: a.group for a in workspace.annotators.all()},
    )


def _round(workspace: Workspace, run_id: str, number: int) -> Round:
    def result(kind: StageKind[R]) -> R | None:
        return workspace.stages.result(run_id, kind.key(number), kind)

    evaluation = result(EVALUATE)
    training = POLICY.key(number)
    series: list[Series] = workspace.metrics.series(run_id, stage=training)
    flags = workspace.metrics.series(run_id, stage=f"{training}/flags")
    return Round(
        number=number,
        feedback=result(FEEDBACK),
        reward=result(REWARD),
        policy=result(POLICY),
        evaluation=with_votes(workspace, evaluation) if evaluation else None,
        curves={s.name: (s.steps, s.values) for s in series},
        flags=tuple(s.name for s in flags),
    )


def _origins(workspace: Workspace, rounds: tuple[Round, ...]) -> dict[str, int]:
    """Where the entries of the last snapshot came from, most first."""
    told = [r.feedback.snapshot for r in rounds if r.feedback is not None]
    entries: list[FeedbackBase] = workspace.snapshots.rows(told[-1]) if told else []
    return dict(Counter(entry.origin for entry in entries).most_common())


def _examples(workspace: Workspace, evaluation: EvaluationResult) -> tuple[Example, ...]:
    rows = evaluation.examples
    samples = workspace.samples.get(side.sample for row in rows for side in (row.before, row.after))

    def told(sample_id: str) -> str:
        content = samples[sample_id].content
        return getattr(content, "text", f"a clip of {content.length} steps")

    return tuple(
        Example(
            prompt=row.prompt,
            before=told(row.before.sample),
            after=told(row.after.sample),
            before_scores=row.before.measures,
            after_scores=row.after.measures,
            judged=row.judge,
        )
        for row in rows
    )


def _models(workspace: Workspace, run_id: str) -> tuple[Shaped, ...]:
    shaped: list[Shaped] = []
    for model in workspace.models.all():
        if model.run != run_id:
            continue
        entries = lineage(workspace, model).all_entries
        shaped.append(
            Shaped(
                id=model.id,
                name=model.name,
                stage=model.stage,
                parents=model.parents,
                snapshot=model.snapshot,
                entries=len(entries),
                annotators=dict(Counter(entry.annotator for entry in entries).most_common()),
            )
        )
    return tuple(shaped)

"""What the stages of a run leave behind: a record for each kind, kept in the workspace as JSON.

    told = FeedbackResult(snapshot="snapshot-0f3a...", entries=48, new_entries=48, skipped=2,
                          annotators=("mia",), holds={"comparison": {"decides": 48}})
    told.kept()          # the JSON that the workspace keeps: what was given, and nothing else

A workspace outlives the version that made it. So a key that came later may be lacking: its default
says that it is not known, and `kept` leaves it out again. A key that is not known here stays where
it is. A key that every version wrote, and a value's type, are held to; which stage has which record
stands in `backflip.records.plan`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from backflip.errors import DamageError
from backflip.records.figures import KeptInterval, Many, Part, RewardReport, Some

Judge = Literal["gold", "judge", "people", "reward"]
Outcome = Literal["policy", "start", "tie", "both_bad", "turned", "same", "unanswered"]


class StageResult(Part):
    """What a stage leaves behind."""

    def kept(self) -> dict[str, Any]:
        """As the workspace keeps it: the keys that were given, in JSON."""
        return self.model_dump(mode="json", exclude_unset=True)


class CheckResult(StageResult):
    """What was seen before any work was done.

    Attributes:
        facts: figures of what was checked, by part.
        warnings: in words.
    """

    facts: dict[str, dict[str, Any]]
    warnings: Many[str]


class ModelResult(StageResult):
    """A model of the workspace: the one that a run starts from, or one that a stage made of it.

    Attributes:
        model: its id.
    """

    model: str


class SnapshotResult(StageResult):
    """Feedback that is learned from, fixed.

    Attributes:
        snapshot: its id.
    """

    snapshot: str


class RolloutResult(ModelResult):
    """What a model did with prompts.

    Attributes:
        samples: their ids, in the order of the prompts.
    """

    samples: Many[str]


class AskedSet(Part):
    """Samples of a prompt that are put up together.

    Attributes:
        samples: their ids.
        by_lot: whether they were drawn at random and not picked.
    """

    samples: Many[str]
    by_lot: bool


class SelectionResult(StageResult):
    """What a strategy chose to ask about.

    Attributes:
        strategy: its name.
        candidates: number of sets that there were to choose from.
        asked: those that were chosen.
    """

    strategy: str
    candidates: int
    asked: Many[AskedSet]


class ReadingOrder(Part):
    """How a judge that read each pair in one order went by it.

    Attributes:
        decided: number of pairs in which it chose a reply.
        first: number of those in which it chose the one that it read first.
    """

    decided: int
    first: int


class FeedbackResult(SnapshotResult):
    """What a round was told.

    Attributes:
        entries: number of entries of the snapshot.
        new_entries: number of those that came in this round.
        skipped: number of questions that nobody answered.
        annotators: names of who gave the entries.
        holds: number of the new entries by kind and by what they come to (see
            `backflip.evaluation.holdings`); None where not known.
        order: None where not known.
    """

    entries: int
    new_entries: int
    skipped: int
    annotators: Many[str]
    holds: dict[str, dict[str, int]] | None = None
    order: ReadingOrder | None = None


class RewardModels(StageResult):
    """The reward models that a policy is trained on.

    Attributes:
        rewards: ids of the members of each axis.
    """

    rewards: Annotated[dict[str, Some[str]], Field(min_length=1)]

    def of(self, axis: str) -> tuple[str, ...]:
        """The members of an axis.

        Raises:
            DamageError: there are none: the recipe names the axis, so there were some once.
        """
        if axis not in self.rewards:
            raise DamageError(
                f"the reward models hold none of axis {axis!r}: there was one once",
                hint="Run backflip doctor, or begin a new run.",
            )
        return self.rewards[axis]


class RewardResult(RewardModels):
    """The reward models of a round, and how good they are.

    Attributes:
        snapshot: id of the feedback that they were trained on.
        reports: by axis.
    """

    snapshot: str
    reports: dict[str, RewardReport]


class PolicyResult(ModelResult):
    """The policy of a round.

    Attributes:
        trained: the file of what was trained, from which the next round goes on; below artifacts/.
    """

    trained: str


class VerdictResult(StageResult):
    """What a judge said of two samples, the starting model's and the policy's.

    Attributes:
        outcome: who won, or why nobody did.
        reason: that was given.
    """

    outcome: Outcome
    reason: str | None = None


class KeptSides(Part):
    """The mean of a measure over the starting model's samples and over the policy's."""

    before: float
    after: float


class KeptSample(Part):
    """A sample, and what was measured of it, by name.

    Attributes:
        sample: its id.
    """

    __pydantic_extra__: dict[str, float]  # pyright: ignore[reportIncompatibleVariableOverride]

    sample: str

    @property
    def measures(self) -> dict[str, float]:
        """What was measured of it, by name."""
        return dict(self.__pydantic_extra__)


class KeptExample(Part):
    """What the starting model and the policy did with a prompt.

    Attributes:
        prompt: its text.
        judge: what a judge said of the two; None where none was asked.
    """

    prompt: str
    before: KeptSample
    after: KeptSample
    judge: VerdictResult | None = None


class JudgeCounts(Part):
    """What a judge said of how many pairs.

    Attributes:
        name: of the judge.
        pairs: that there were.
        prompts: on which it answered.
        policy, start, tie, both_bad, turned, same, unanswered: pairs that came to this outcome.
    """

    name: str
    pairs: int
    prompts: int
    policy: int
    start: int
    tie: int
    both_bad: int
    turned: int
    same: int
    unanswered: int


class PeopleCounts(Part):
    """How many people compared two models, in how many votes on how many prompts."""

    votes: int
    prompts: int
    annotators: int


class EvaluationResult(ModelResult):
    """A policy held against another model, on prompts that nothing was trained on.

    Attributes:
        against: id of the other model.
        prompts: number of them.
        judged_by: who decided; None where nobody did. In earlier versions "reward", which is no
            judge.
        means: of each measure, by name: "length" in actions, "gold", "reward", "truncated" as a
            share.
        kl: distance of the policy from the other model, in nats a sample.
        examples: the first prompts, with what both did.
        reward_prefers: share of samples of which the optimised reward prefers the policy's.
        win_rate: share that the policy won; None where nobody judged.
        judge: None where none was asked.
        people: None where none compared the two.
    """

    against: str
    prompts: int
    judged_by: Judge | None
    means: dict[str, KeptSides]
    kl: KeptInterval
    examples: Many[KeptExample]
    reward_prefers: KeptInterval | None = None
    win_rate: KeptInterval | None = None
    judge: JudgeCounts | None = None
    people: PeopleCounts | None = None

    @model_validator(mode="after")
    def _judged(self) -> Self:
        """Who judged has left a win rate, and a judge or people also say how often they did."""
        needed = [] if self.judged_by is None else ["win_rate"]
        needed += [self.judged_by] if self.judged_by in ("judge", "people") else []
        for name in needed:
            if getattr(self, name) is None:
                raise PydanticCustomError("lacking", "{key}", {"key": name})
        return self

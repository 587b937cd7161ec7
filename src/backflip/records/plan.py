"""The plan of a run: which stages there are, in which order, under which keys, and their results.

    check, start -> [pretrain] -> [sft] -> baseline
        -> [sample -> feedback -> [reward] -> policy -> evaluate] x rounds

A key says which stage of which round a row of the workspace is: "round-2/policy", or "baseline" of
no round. A stage that is done alone, with other models or feedback than the recipe's, has a key of
its own, which ends in a hash of what it was given: "policy-0f3a...". Parts of a stage that are kept
as soon as they are there have keys below its own: "round-2/feedback/selection".
"""

import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from backflip.records.results import (
    CheckResult,
    EvaluationResult,
    FeedbackResult,
    ModelResult,
    PolicyResult,
    RewardResult,
    RolloutResult,
    SelectionResult,
    SnapshotResult,
    StageResult,
    VerdictResult,
)

R = TypeVar("R", bound=StageResult)

_ROUND = re.compile(r"round-([0-9]{1,9})(?:/|$)")
_HASH = re.compile(r"-[0-9a-f]{20}(?=/|$)")


@dataclass(frozen=True)
class StageKind(Generic[R]):
    """A stage of the plan, whatever round it is done in.

    Attributes:
        name: its key without the round and without hashes.
        result: the class of its result.
    """

    name: str
    result: type[R]

    def key(self, number: int) -> str:
        """Its key in a round."""
        return f"round-{number}/{self.name}"

    def below(self, key: str) -> str:
        """Its key as a part of the stage that has `key`."""
        return f"{key}/{self.name.rpartition('/')[2]}"


CHECK = StageKind("check", CheckResult)
START = StageKind("start", ModelResult)
PRETRAIN = StageKind("pretrain", ModelResult)
SFT = StageKind("sft", ModelResult)
SHOWN = StageKind("sft/shown", SnapshotResult)
BASELINE = StageKind("baseline", RolloutResult)
SAMPLE = StageKind("sample", RolloutResult)
FEEDBACK = StageKind("feedback", FeedbackResult)
SELECTION = StageKind("feedback/selection", SelectionResult)
REWARD = StageKind("reward", RewardResult)
POLICY = StageKind("policy", PolicyResult)
EVALUATE = StageKind("evaluate", EvaluationResult)
VERDICT = StageKind("evaluate/judge/pair", VerdictResult)

PREPARING = (PRETRAIN, SFT)
"""What makes the model that the rounds begin with, where the recipe has a section of the name."""
ROUND: tuple[StageKind[Any], ...] = (SAMPLE, FEEDBACK, REWARD, POLICY, EVALUATE)
"""What a round consists of; there is no reward model where an algorithm learns from pairs."""
STAGES: dict[str, StageKind[Any]] = {
    kind.name: kind
    for kind in (CHECK, START, *PREPARING, SHOWN, BASELINE, *ROUND, SELECTION, VERDICT)
}
"""All of them, by name."""


def round_of(key: str) -> int | None:
    """The number of the round that a key is of; None where it is of none."""
    found = _ROUND.match(key)
    return int(found[1]) if found else None


def stage_of(key: str) -> StageKind[Any] | None:
    """The stage that a key is of; None for a key of a stage that is not known here."""
    return STAGES.get(_HASH.sub("", _ROUND.sub("", key, count=1)))

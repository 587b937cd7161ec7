"""The stages of a run: each takes the results of earlier ones and gives a result of its own.

A result is plain JSON with ids of what the workspace keeps: `model`, `samples`, `snapshot`,
`rewards`, and the figures of the report.
"""

from backflip.loop.stages.acting import baseline, feedback, sample
from backflip.loop.stages.learning import policy, reward
from backflip.loop.stages.measuring import evaluate
from backflip.loop.stages.model_registration import discard
from backflip.loop.stages.preparing import check, pretrain, sft, start

__all__ = [
    "baseline",
    "check",
    "discard",
    "evaluate",
    "feedback",
    "policy",
    "pretrain",
    "reward",
    "sample",
    "sft",
    "start",
]

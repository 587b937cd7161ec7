"""The stages of a run: each takes the results of earlier ones and gives a result of its own.

A result holds ids of what the workspace keeps and the figures of the report; see
`backflip.records.results`, and `backflip.records.plan` for the order of the stages.
"""

from backflip.loop.kept_files import discard
from backflip.loop.stages.acting import baseline, feedback, sample
from backflip.loop.stages.learning import policy, reward
from backflip.loop.stages.measuring import evaluate
from backflip.loop.stages.preparing import PREPARE, check, pretrain, sft, start

__all__ = [
    "PREPARE",
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

"""Agents in environments: situations to act in, clips of what they did, small networks."""

from backflip.agents.inputs import ClipInputs
from backflip.agents.networks import AgentPolicy, ClipScorer, ClipValue
from backflip.agents.reward import ClipReward
from backflip.agents.sampler import AgentSampler

__all__ = [
    "AgentPolicy",
    "AgentSampler",
    "ClipInputs",
    "ClipReward",
    "ClipScorer",
    "ClipValue",
]

"""Backflip: reinforcement learning from human feedback, whole, in one package."""

__version__ = "0.1.0"

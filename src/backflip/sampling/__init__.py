"""Letting a language model act: prompts in, samples out."""

from backflip.sampling.base import Advance, Sampler
from backflip.sampling.engine import TextSampler

__all__ = ["Advance", "Sampler", "TextSampler"]

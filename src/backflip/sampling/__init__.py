"""Letting a language model act: prompts in, samples out."""

from backflip.sampling.base import Advance, Sampler
from backflip.sampling.engine import TextSampler
from backflip.sampling.stream import Stream, streaming

__all__ = ["Advance", "Sampler", "Stream", "TextSampler", "streaming"]

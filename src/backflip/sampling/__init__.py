"""Letting a language model act: prompts in, samples out."""

from backflip.sampling.base import Advance, Sampler
from backflip.sampling.engine import TextSampler, model_end_tokens
from backflip.sampling.stream import Stream, streaming

__all__ = ["Advance", "Sampler", "Stream", "TextSampler", "model_end_tokens", "streaming"]

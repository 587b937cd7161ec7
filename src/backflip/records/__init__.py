"""Plain records that travel between the layers; no torch."""

from backflip.records.base import Record, content_id
from backflip.records.parts import ImagePart, Part, TextPart
from backflip.records.samples import (
    Clip,
    Completion,
    Content,
    Dialogue,
    Message,
    Prompt,
    Sample,
    Situation,
    ToolCall,
    content_from,
)
from backflip.records.seeds import Order, derive_seed, pick

__all__ = [
    "Clip",
    "Completion",
    "Content",
    "Dialogue",
    "ImagePart",
    "Message",
    "Order",
    "Part",
    "Prompt",
    "Record",
    "Sample",
    "Situation",
    "TextPart",
    "ToolCall",
    "content_from",
    "content_id",
    "derive_seed",
    "pick",
]

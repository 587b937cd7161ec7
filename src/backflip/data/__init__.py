"""Chat encoding, packing, prompts, texts, and the reading of rows from files."""

from backflip.data.chat import (
    Chat,
    Codec,
    decode_reply,
    encode_prompt,
    encode_reply,
    encode_sample,
    end_token,
    template_problems,
)
from backflip.data.files import read_rows
from backflip.data.packing import Packed, pack_dialogues, pack_texts
from backflip.data.prompts import builtin_prompts, heldout_ids, load_prompts
from backflip.data.rows import Rejected, Row
from backflip.data.text import Text, read_demonstrations, read_placed_texts, read_texts

__all__ = [
    "Chat",
    "Codec",
    "Packed",
    "Rejected",
    "Row",
    "Text",
    "builtin_prompts",
    "decode_reply",
    "encode_prompt",
    "encode_reply",
    "encode_sample",
    "end_token",
    "heldout_ids",
    "load_prompts",
    "pack_dialogues",
    "pack_texts",
    "read_demonstrations",
    "read_placed_texts",
    "read_rows",
    "read_texts",
    "template_problems",
]

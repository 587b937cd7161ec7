"""Language models: found by name, trained whole or through adapters, read as policy or scorer."""

from backflip.models.files import cache_folder, read_record
from backflip.models.inputs import TextInputs
from backflip.models.limits import position_limit
from backflip.models.load import BUILTIN_MODELS, find_model, load_causal_lm, load_tokenizer
from backflip.models.policy import TextPolicy, TextPolicyOutput
from backflip.models.precision import (
    has_fast_bfloat16,
    pick_device,
    pick_precision,
)
from backflip.models.scorer import TextScorer
from backflip.models.scratch import make_model, save_model, train_tokenizer

__all__ = [
    "BUILTIN_MODELS",
    "TextInputs",
    "TextPolicy",
    "TextPolicyOutput",
    "TextScorer",
    "cache_folder",
    "find_model",
    "has_fast_bfloat16",
    "load_causal_lm",
    "load_tokenizer",
    "make_model",
    "pick_device",
    "pick_precision",
    "position_limit",
    "read_record",
    "save_model",
    "train_tokenizer",
]

"""How many tokens a network reads, and which."""

from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len")


def position_limit(config: PretrainedConfig) -> int | None:
    """Tokens in the longest row that a network of these settings reads; None for any number.

    Families name it differently. ALiBi (Press et al. 2022) has no table of positions, so BLOOM and
    Falcon with `alibi` read rows of any length, whatever their settings carry along; MPT makes its
    own for `max_seq_len` tokens. OPT keeps two rows more than it has positions.
    """
    text = config.get_text_config()
    if getattr(text, "alibi", False):
        return None
    for name in _NAMES:
        found = getattr(text, name, None)
        if isinstance(found, int):
            return found
    return None


def vocabulary_size(model: PreTrainedModel) -> int:
    """Rows of the input embedding; there may be more than the tokenizer has tokens, or fewer."""
    embedding: Any = model.get_input_embeddings()
    return embedding.num_embeddings


def output_size(model: PreTrainedModel) -> int:
    """Tokens that the output layer tells apart: as many as it has rows, if it is a layer."""
    weight = getattr(model.get_output_embeddings(), "weight", None)
    return vocabulary_size(model) if weight is None else len(weight)

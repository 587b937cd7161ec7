"""The token that a saved scorer is padded with.

`AutoModelForSequenceClassification` takes the state of the last token of a row that is not
`config.pad_token_id`. So the padding must be a token that no row ends in: one that is nothing but
padding. Many tokenizers pad with the token that ends every reply; a scorer that was saved with
those would be read one token early in a batch, and rightly alone.
"""

import copy
from collections.abc import Iterable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

PADDING = "<|pad|>"

_ROLES = ("bos_token_id", "eos_token_id", "unk_token_id", "sep_token_id", "cls_token_id")


def with_own_padding(
    tokenizer: PreTrainedTokenizerBase, end_ids: Iterable[int]
) -> PreTrainedTokenizerBase:
    """The tokenizer, padding on the right with a token that stands nowhere else.

    Its own, where that has no other role, is not in its chat template and does not come out of
    plain text; a new one at the end of its vocabulary otherwise, which may be beyond the
    embeddings of its model. On the right, because networks that count positions from the start of
    a row (GPT-2) give other states behind padding on the left.

    Args:
        tokenizer: stays as it is.
        end_ids: tokens that may end a reply, beside the tokenizer's.
    """
    own = copy.deepcopy(tokenizer)
    own.padding_side = "right"
    own.init_kwargs["padding_side"] = "right"  # else a class whose default is left forgets it
    if not _is_padding_alone(own, set(end_ids)):
        known = own.get_vocab()
        names = (PADDING if n == 0 else f"<|pad_{n}|>" for n in range(len(known) + 1))
        own.add_special_tokens({"pad_token": next(name for name in names if name not in known)})
    return own


def _is_padding_alone(tokenizer: PreTrainedTokenizerBase, end_ids: set[int]) -> bool:
    pad = tokenizer.pad_token_id
    if not isinstance(pad, int) or pad in end_ids:
        return False
    if pad in {getattr(tokenizer, role, None) for role in _ROLES}:
        return False
    text = str(tokenizer.pad_token)
    if text in str(tokenizer.chat_template or ""):
        return False
    plain = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return pad not in plain


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers write the same tokens, paddings of their own left aside."""

    def written(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
        pad = tokenizer.pad_token_id
        used = {getattr(tokenizer, role, None) for role in _ROLES}
        tokens = tokenizer.get_vocab()
        return {token: i for token, i in tokens.items() if i != pad or i in used}

    return written(one) == written(other)


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that may end a reply, by the settings of the model or of the tokenizer."""
    ends: set[int] = set()
    for holder in (
        tokenizer,
        model.config.get_text_config(),
        getattr(model, "generation_config", None),
    ):
        found = getattr(holder, "eos_token_id", None)
        several = found if isinstance(found, list | tuple) else [found]
        ends |= {end for end in several if isinstance(end, int)}
    return ends

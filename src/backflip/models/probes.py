"""What a network is found to do when it is asked, whatever its settings claim.

A probe compares readings that should agree, and takes as its measure what a mistaken reading of the
same tokens changes. So no answer depends on how large the weights are: where they are small, a
mistake changes little and as little is allowed. Where even a mistake changes nothing that could be
told from rounding, the answer is no, and the network is read the slower way, which is always right.
"""

import inspect

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from backflip.models.inputs import TextInputs
from backflip.models.limits import vocabulary_size
from backflip.models.shared import SharedRows

_DOCUMENTS = ((5, 3, 4), (2, 6, 4))
"""Tokens of the documents in each row that packing is tried on."""

_LEAK = 0.01
"""Most that a token which is out of sight may change, as a share of what it changes in sight.

It changes nothing, but for networks of experts, which round by how many tokens an expert is given.
"""


@torch.no_grad()
def is_causal(model: PreTrainedModel) -> bool:
    """Whether a token's state is the same whatever comes after it."""
    tokens_L = torch.arange(1, 9) * 7
    first, last = torch.arange(8) < 4, torch.arange(8) >= 4
    rows_BL = torch.stack([tokens_L, tokens_L + 3 * last, tokens_L + 3 * first])
    states, other_end, other_start = _states(model, rows_BL)
    leak, seen = (states - other_end)[first], (states - other_start)[last]
    return not leak.any() or _within(_LEAK, leak, seen)


@torch.no_grad()
def reads_packed_rows(model: PreTrainedModel) -> bool:
    """Whether documents in one row, told apart by their positions alone, do not see one another.

    It takes a network that places tokens by `position_ids` and makes its mask from them. Those
    with ALiBi (BLOOM, MPT), with positions that are counted from a mask (OPT) or with masks of
    their own (Falcon) do not, nor do those that keep a state from token to token.
    """
    if not _takes_positions(model):
        return False
    tokens_BL = (torch.arange(2 * sum(_DOCUMENTS[0])) * 5 + 1).view(2, -1)
    positions_BL = torch.stack(
        [torch.cat([torch.arange(n) for n in lengths]) for lengths in _DOCUMENTS]
    )
    documents = [
        document
        for row, lengths in zip(tokens_BL, _DOCUMENTS, strict=True)
        for document in row.split(lengths)
    ]
    read = _states(model, pad_sequence(documents, batch_first=True))
    alone_ND = torch.cat([row[: len(d)] for row, d in zip(read, documents, strict=True)])
    packed_BLD = _states(model, tokens_BL, position_ids=positions_BL)
    as_one_BLD = _states(model, tokens_BL)
    if not _alike(packed_BLD.flatten(0, 1), alone_ND, mistaken=as_one_BLD.flatten(0, 1)):
        return False
    first_BL = torch.arange(tokens_BL.shape[1]) < torch.tensor(_DOCUMENTS)[:, :1]
    others_BL = tokens_BL + 3 * first_BL
    leak_BLD = packed_BLD - _states(model, others_BL, position_ids=positions_BL)
    seen_BLD = as_one_BLD - _states(model, others_BL)
    return _within(_LEAK, leak_BLD[~first_BL], seen_BLD[~first_BL])


@torch.no_grad()
def reads_shared_rows(model: PreTrainedModel) -> bool:
    """Whether a network reads `SharedRows` as it reads the rows they are made of.

    A layer that looks through a window would reach into another reply, which the few tokens here
    may be too few to show, so the settings are asked for one. Nor does every implementation of
    attention take a mask of this form; such a network reads each row by itself.
    """
    config = model.config.get_text_config()
    if _has_window(model) or getattr(config, "alibi", False) or not _takes_positions(model):
        return False
    if config._attn_implementation != "sdpa":
        return False
    ids = torch.arange(1, 11).numpy()
    inputs = TextInputs.of([ids[:4]] * 2, [ids[4:7], ids[7:]], pad_id=0)
    shared = SharedRows.of(inputs)
    if shared is None:
        return False
    how = {"position_ids": shared.positions_GL, "attention_mask": shared.mask_G1LL}
    alone_BLD = _states(model, inputs.input_ids_BL)
    shared_GLD = _states(model, shared.tokens_GL, **how)
    as_one_GLD = _states(model, shared.tokens_GL)
    rows_N = torch.arange(2).repeat_interleave(7)
    places_N = torch.arange(7).repeat(2)
    at = shared.row_B[rows_N], shared.columns(rows_N, places_N)
    if not _alike(shared_GLD[at], alone_BLD[rows_N, places_N], mistaken=as_one_GLD[at]):
        return False
    others_GL = shared.tokens_GL + 3 * (shared.segments_GL == 1)
    second_GL = shared.segments_GL == 2
    leak_GLD = shared_GLD - _states(model, others_GL, **how)
    seen_GLD = as_one_GLD - _states(model, others_GL)
    return _within(_LEAK, leak_GLD[second_GL], seen_GLD[second_GL])


def _states(model: PreTrainedModel, tokens_BL: Tensor, **how: Tensor) -> Tensor:
    """(B, L, D) float64 last hidden states, on the processor."""
    tokens_BL = (tokens_BL % vocabulary_size(model)).to(model.device)
    given = {name: tensor.to(model.device) for name, tensor in how.items()}
    output = model.base_model(input_ids=tokens_BL, use_cache=False, **given)
    return output.last_hidden_state.double().cpu()


def _takes_positions(model: PreTrainedModel) -> bool:
    return "position_ids" in inspect.signature(model.base_model.forward).parameters


def _has_window(model: PreTrainedModel) -> bool:
    """Whether any layer sees only so many tokens back, by the settings of the model."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds) != {"full_attention"}
    named = (value for name, value in vars(config).items() if "window" in name or "chunk" in name)
    return any(isinstance(value, int) and value > 0 for value in named)


def _alike(states_ND: Tensor, others_ND: Tensor, *, mistaken: Tensor) -> bool:
    """Whether states differ by rounding, next to what reading the tokens as one row changes.

    Rows of another length are rounded otherwise, in bfloat16 by some hundredths of a state.
    """
    return _within(0.25, states_ND - others_ND, mistaken - others_ND)


def _within(share: float, apart: Tensor, mistake: Tensor) -> bool:
    return bool(apart.norm() < share * mistake.norm())

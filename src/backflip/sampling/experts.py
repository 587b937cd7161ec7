"""Mixtures of experts whose result for a row does not depend on the rows beside it.

How many rows an expert is given depends on all rows of a step, and a product with few rows may be
rounded differently from one with many. Here every expert is given whole units of rows, the free
ones being copies, and what a row's experts say is added up in the row's own order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

NAME = "backflip_rows"
_UNIT: ContextVar[int] = ContextVar("unit")


@contextmanager
def in_place(model: PreTrainedModel, unit: int | None) -> Iterator[None]:
    """Let the experts of `model`, if it has any, be given whole units of rows inside the block.

    None: they are computed by the model's own code, one after the other.
    """
    own = getattr(model.config, "_experts_implementation", None)
    if own is None:
        yield
        return
    model.config._experts_implementation = NAME if unit else "eager"
    token = _UNIT.set(unit or 1)
    try:
        yield
    finally:
        _UNIT.reset(token)
        model.config._experts_implementation = own


def by_rows(experts: Any, hidden_ND: Tensor, chosen_NK: Tensor, weights_NK: Tensor) -> Tensor:
    """(N, D) weighted sums of what each row's K experts say; as transformers calls it.

    Args:
        experts: module that holds the experts' weights, (E, out, in) or transposed.
        hidden_ND: the rows.
        chosen_NK: ids of each row's experts.
        weights_NK: their weights.
    """
    unit = _UNIT.get()
    said_NKD = hidden_ND.new_zeros(*chosen_NK.shape, hidden_ND.shape[-1])
    for expert in chosen_NK.unique().tolist():
        rows, places = (chosen_NK == expert).nonzero(as_tuple=True)
        padded = torch.cat([rows, rows[:1].expand(-len(rows) % unit)])
        said_NKD[rows, places] = _say(experts, expert, hidden_ND[padded])[: len(rows)]
    return (said_NKD * weights_NK[..., None]).sum(1).to(hidden_ND.dtype)


def _say(experts: Any, expert: int, rows_ND: Tensor) -> Tensor:
    first = "gate_up_proj" if getattr(experts, "has_gate", True) else "up_proj"
    inner = _product(experts, first, expert, rows_ND)
    inner = experts._apply_gate(inner) if first == "gate_up_proj" else experts.act_fn(inner)
    said = _product(experts, "down_proj", expert, inner)
    if getattr(experts, "has_post_expert_norm", False):
        said = experts.post_expert_norm(said)
    return said


def _product(experts: Any, name: str, expert: int, rows_ND: Tensor) -> Tensor:
    weight = getattr(experts, name)[expert]
    bias = getattr(experts, f"{name}_bias")[expert] if experts.has_bias else None
    return linear(rows_ND, weight.T if experts.is_transposed else weight, bias)


ALL_EXPERTS_FUNCTIONS.register(NAME, by_rows)

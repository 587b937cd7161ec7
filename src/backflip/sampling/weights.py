"""New weights into a model that is already there."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from backflip.errors import ModelError


def copy_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy a plain state dict into `model` in place, in the model's own precision.

    A tensor that the model ties to another one may be missing.

    Raises:
        ModelError: a name or shape that is not the model's, or a name that is missing; nothing has
            been changed then.
    """
    own = model.state_dict()
    unknown = sorted(set(weights) - set(own))
    if unknown:
        raise ModelError(f"weights for a tensor the model has not: {_names(unknown)}")
    given = {own[name].data_ptr() for name in weights}
    missing = sorted(n for n, t in own.items() if n not in weights and t.data_ptr() not in given)
    if missing:
        raise ModelError(f"weights are missing: {_names(missing)}")
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"{name} has shape {tuple(tensor.shape)}, the model's has {tuple(own[name].shape)}"
            )
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more

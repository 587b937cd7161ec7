"""Checks of shapes and masks: broadcasting turns a wrong shape into a wrong number silently."""

from collections.abc import Sequence

import torch
from torch import Tensor


def require_shape(shape: Sequence[int | None], **tensors: Tensor | None) -> None:
    """Raise `ValueError` for the first tensor of another shape; None in `shape` fits any size.

    Tensors that are None (arguments left out) pass.
    """
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        fits = tensor.dim() == len(shape) and all(
            want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not ({wanted})")


def require_mask(shape: Sequence[int | None], **masks: Tensor | None) -> None:
    """Raise `ValueError` for a mask that is not bool or has another shape."""
    require_shape(shape, **masks)
    for name, mask in masks.items():
        if mask is not None and mask.dtype != torch.bool:
            raise ValueError(f"{name} is {mask.dtype}, not torch.bool (True = counts)")


def require(holds: Tensor | bool, message: str) -> None:
    """Raise `ValueError(message)` unless it holds (everywhere)."""
    if not bool(holds.all() if isinstance(holds, Tensor) else holds):
        raise ValueError(message)

"""Weights of linear layers laid out for the processor, while the engine samples.

A step multiplies few rows with many weights, and the library under torch (oneDNN) spends a good
part of it on bringing the weights into the order it wants; torch's own float32 products do without
and take over twice as long on some processors. Kept in that order, weights are only read. It costs
the memory of a second copy, so large models go without.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# Bytes of weights up to which a second copy is kept.
LARGEST = 2 * 2**30
PRECISIONS = (torch.float32, torch.bfloat16)


class PackedLinears:
    """Second copies of a model's linear layers, made by `pack`."""

    def __init__(self, model: nn.Module):
        self._model = model
        self._forwards: dict[nn.Linear, Callable[[Tensor], Tensor]] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the layers multiply with the weights they had when they were packed."""
        for layer, forward in self._forwards.items():
            layer.__dict__["forward"] = forward
        try:
            yield
        finally:
            for layer in self._forwards:
                del layer.__dict__["forward"]

    def pack(self) -> None:
        """Copy the weights as they are now; nothing is packed where that is not possible."""
        self._forwards.clear()
        # Only plain layers: a subclass, or a layer with hooks of its own, may do something else.
        layers = [m for m in self._model.modules() if type(m) is nn.Linear and _fits(m.weight)]
        if sum(layer.weight.nbytes for layer in layers) > LARGEST:
            return
        for layer in layers:
            forward = _packed_forward(layer)
            if forward is None:
                return
            self._forwards[layer] = forward


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype in PRECISIONS and weight.is_contiguous()


def _packed_forward(layer: nn.Linear) -> Callable[[Tensor], Tensor] | None:
    """The layer's forward pass on packed weights; None where torch cannot pack them."""
    if not torch.backends.mkldnn.is_available():
        return None
    # These operators serve torch's compiler and carry no promise: without them nothing is packed.
    operators = torch.ops.mkldnn
    try:
        multiply = operators._linear_pointwise.default
        with torch.no_grad():
            packed = operators._reorder_linear_weight(layer.weight.detach(), None)
            bias = None if layer.bias is None else layer.bias.detach()
            probe = layer.weight.new_zeros(2, layer.in_features)
            multiply(probe, packed, bias, "none", [], "")
    except (AttributeError, RuntimeError):
        return None

    def forward(hidden: Tensor) -> Tensor:
        return multiply(hidden, packed, bias, "none", [], "")

    return forward

"""Weights of linear layers laid out for the processor, while the engine samples.

A step multiplies few rows with many weights, and the library under torch (oneDNN) spends a good
part of it on bringing the weights into the order it wants; torch's own float32 products do without
and take over twice as long on some processors. Kept in that order, weights are only read. It costs
the memory of a second copy, so large models go without.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from backflip.sampling.rounding import Multiplier, Product, by_parts, swapped

# Bytes of weights up to which a second copy is kept.
LARGEST = 2 * 2**30
PRECISIONS = (torch.float32, torch.bfloat16)


class PackedLinears:
    """Second copies of a model's linear layers, made by `pack`."""

    def __init__(self, model: nn.Module):
        self._model = model
        self._forwards: dict[nn.Linear, Product] = {}

    @property
    def layers(self) -> list[nn.Linear]:
        """Those that are packed where torch can."""
        # Only plain layers: a subclass, or a layer with hooks of its own, may do something else.
        layers = [m for m in self._model.modules() if type(m) is nn.Linear and _fits(m.weight)]
        return layers if sum(layer.weight.nbytes for layer in layers) <= LARGEST else []

    def in_place(self) -> AbstractContextManager[None]:
        """Inside the block the layers multiply with the weights they had when they were packed."""
        return swapped(self._forwards)

    def pack(self, most: int | None = None) -> None:
        """Copy the weights as they are now; nothing is packed where that is not possible.

        Args:
            most: rows that may share a product; None for any number.
        """
        self._forwards.clear()
        forwards: dict[nn.Linear, Product] = {}
        for layer in self.layers:
            forward = _packed_forward(layer)
            if forward is None:
                return
            forwards[layer] = by_parts(forward, most)
        self._forwards.update(forwards)


def multiplier(layer: nn.Linear) -> Multiplier:
    """The product of a packed layer."""
    key = ("packed", tuple(layer.weight.shape), layer.bias is None)
    return Multiplier(key, layer.in_features, lambda: _packed_forward(layer) or layer.forward)


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype in PRECISIONS and weight.is_contiguous()


def _packed_forward(layer: nn.Linear) -> Product | None:
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

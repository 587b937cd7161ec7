"""What rounding may make of a network's results, measured on the network itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def shaken(layer: nn.Module, precision: torch.dtype, seed: int) -> Iterator[None]:
    """Let each number that a layer gives be larger or smaller by half its last bit.

    All that is computed of them is then rounded otherwise, and comes out as different as from two
    ways to compute the same in this precision: little where a network is smooth, much where it
    chooses, as among experts.

    Args:
        layer: the first of a network, as its embeddings.
        precision: that the network is computed in.
        seed: of the signs.
    """
    generator = torch.Generator().manual_seed(seed)
    unit = torch.finfo(precision).eps / 2

    def shake(_layer: nn.Module, _given: Any, given: Tensor) -> Tensor:
        up = torch.randint(0, 2, given.shape, generator=generator).to(given)
        return given + given * unit * (2 * up - 1)

    hook = layer.register_forward_hook(shake)
    try:
        yield
    finally:
        hook.remove()

"""How many rows may share a product so that each of them is rounded as if it were alone.

A library that multiplies matrices picks one of several ways by the number of rows, and these ways
round differently. Where they change depends on the processor, the library and the matrix: so it is
found out by trying, with the matrices of the model itself.

Functions of single numbers, such as SiLU, are computed on whole vector registers, and in another
way on what is left over at the end of a tensor. No number may be among those in one step and not in
the next, so rows fill whole registers together.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

Product = Callable[[Tensor], Tensor]

# Bytes in two vector registers of the widest kind.
_REGISTERS = 128
# Below so many rows some libraries multiply in another way (MKL).
_LEAST = 8
# Rows that are tried together; a way that is kept up to here is taken to be kept beyond.
_TRIED = 128
# Units that are tried, as multiples of the smallest one.
_MULTIPLES = (1, 2, 4)

_known: dict[tuple[Any, ...], int | None] = {}


class Rounding(NamedTuple):
    """Rows come in multiples of `unit`, and at most `most` of them share a product.

    `most` is a multiple of `unit`, or None where products may have any size.
    """

    unit: int
    most: int | None = None

    def whole(self, number: int) -> int:
        """So many rows, filled up to whole units."""
        return -(-number // self.unit) * self.unit


class Multiplier(NamedTuple):
    """A product of rows of `width` numbers with a matrix; equal keys are computed alike."""

    key: tuple[Any, ...]
    width: int
    make: Callable[[], Product]


def untried(model: PreTrainedModel) -> Rounding:
    """What follows from the widths of the layers alone."""
    last = model.get_output_embeddings()  # nothing is computed of its numbers one by one
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not last]
    features = {(_REGISTERS // m.weight.dtype.itemsize, m.out_features) for m in layers}
    return Rounding(max([_LEAST, *(n // math.gcd(n, wide) for n, wide in features)]))


def find_rounding(model: PreTrainedModel, multipliers: Iterable[Multiplier]) -> Rounding:
    """The rounding that suits all these products, with as many rows in one as can be.

    On graphics processors, and in narrower formats than float32, nothing is tried and equal bits
    are not promised: the quick ways depend on the number of rows throughout.
    """
    least = untried(model).unit
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return Rounding(least)
    distinct = {m.key: m for m in multipliers}
    best, most = least, 0
    with torch.inference_mode():
        for unit in (least * multiple for multiple in _MULTIPLES):
            sizes = [_most(m, unit) for m in distinct.values()]
            bounded = [size for size in sizes if size is not None]
            if not bounded:
                return Rounding(unit)
            if min(bounded) > most:
                best, most = unit, min(bounded)
    # Where no way is kept, products of one and the same size are still computed in one way.
    return Rounding(best, most or best)


def _most(multiplier: Multiplier, unit: int) -> int | None:
    """Rows in the largest product in which every row keeps its bits; None if that is any."""
    key = (*multiplier.key, unit, torch.get_num_threads())
    if key not in _known:
        generator = torch.Generator().manual_seed(0)
        number = max(_TRIED // unit, 2) * unit
        rows_ND = torch.randn(number, multiplier.width, generator=generator)
        _known[key] = _try(multiplier.make(), rows_ND, unit)
    return _known[key]


def _try(product: Product, rows_ND: Tensor, unit: int) -> int | None:
    alone = torch.cat([product(part) for part in rows_ND.split(unit)])
    if not torch.equal(product(rows_ND[:unit].flip(0)).flip(0), alone[:unit]):
        return 0
    for number in range(2 * unit, len(rows_ND) + 1, unit):
        if not torch.equal(product(rows_ND[:number]), alone[:number]):
            return number - unit
    return None


def plain(module: nn.Module) -> Iterator[Multiplier]:
    """The products with a module's own matrices, as the module computes them."""
    if isinstance(module, nn.Linear | Conv1D):
        key = (type(module), tuple(module.weight.shape), module.bias is None)
        width = module.weight.shape[1 if isinstance(module, nn.Linear) else 0]
        yield Multiplier(key, width, lambda: module.forward)
        return
    for weight in _matrices(module):
        matrix = weight if weight.ndim == 2 else weight[0]
        for form in (matrix, matrix.T) if weight.ndim == 3 else (matrix,):
            key = ("linear", tuple(form.shape), form.stride())
            yield Multiplier(key, form.shape[1], partial(partial, linear, weight=form))


def owners(model: nn.Module) -> list[nn.Module]:
    """Modules with matrices of their own that rows are multiplied with."""
    return [m for m in model.modules() if not isinstance(m, nn.Embedding) and _matrices(m)]


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """Those of a router, of a layer, or of experts, which are several in one."""
    own = module._parameters.values()
    return [w for w in own if w is not None and w.ndim in (2, 3) and w.is_floating_point()]


@contextmanager
def swapped(forwards: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Inside the block these modules compute their forward pass like this."""
    before = {module: module.__dict__.get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


def in_parts(model: nn.Module, most: int | None) -> dict[nn.Module, Callable[..., Any]]:
    """Forward passes for the model's modules in which no more than `most` rows share a product."""
    if most is None:
        return {}
    return {module: _in_parts(module, most) for module in owners(model)}


def _in_parts(module: nn.Module, most: int) -> Callable[..., Any]:
    if isinstance(module, nn.Linear | Conv1D):
        return by_parts(module.forward, most)
    forward = module.forward

    def divided(*args: Any, **kwargs: Any) -> Any:
        with _Divided(most):
            return forward(*args, **kwargs)

    return divided


def by_parts(product: Product, most: int | None) -> Product:
    """`product` of (..., D) rows, made of products of at most `most` rows."""
    if most is None:
        return product

    def of_parts(rows: Tensor) -> Tensor:
        if rows.numel() <= most * rows.shape[-1]:
            return product(rows)
        parts = rows.reshape(-1, rows.shape[-1]).split(most)
        return torch.cat([product(part) for part in parts]).unflatten(0, rows.shape[:-1])

    return of_parts


class _Divided(TorchFunctionMode):
    """Divides the products in code that is not a layer of its own, such as a router's."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def product(*rows: Tensor) -> Any:
            return func(*rows, *args[len(rows) :], **(kwargs or {}))

        return by_parts(product, self._most)(args[0]) if func is linear else product()

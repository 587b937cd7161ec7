"""Low-rank adapters (Hu et al. 2021, "LoRA"): W' = W + (alpha / rank) B A, only A and B trained."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from backflip.config import LoraSettings
from backflip.errors import ModelError
from backflip.models.limits import vocabulary_size
from backflip.models.quiet import isolated_rng

_ADAPTER = "default"
_BASE = ".base_layer."


def add_adapters(model: PreTrainedModel, settings: LoraSettings, *, seed: int) -> None:
    """Put adapters on every linear layer of the trunk's blocks, in place.

    Experts that are held as one tensor, (experts, outputs, inputs), get one each. What chooses
    among experts is left as it is, and so are norms, biases, embeddings and layers whose weights a
    block reads past them (in Jamba's state space): an adapter would not be seen there.

    A is drawn from `seed` with the bounds of `nn.Linear` (uniform in +-1/sqrt(width), as in the
    authors' code), B is zero, so the model starts as it was. Adapters are float32 whatever the
    base is; everything else is frozen. Blocks below the first adapted one get no adapters, and so
    nothing in them or before them needs a gradient: they run without autograd's bookkeeping.

    Raises:
        ModelError: `last_layers` is more than there are, the architecture has no stack of blocks
            with linear layers, or peft cannot adapt them (Mamba).
    """
    stack, blocks = _stack(model)
    if settings.last_layers is not None and settings.last_layers > len(blocks):
        raise ModelError(
            f"lora.last_layers is {settings.last_layers}, but the model has {len(blocks)} layers"
        )
    first = len(blocks) - (settings.last_layers or len(blocks))
    adapted = [(f"{stack}.{first + n}", block) for n, block in enumerate(blocks[first:])]
    linears = _linear_layers(model, adapted)
    experts = [
        f"{at}.{name}"
        for at, block in adapted
        for name, parameter in block.named_parameters()
        if parameter.ndim == 3
        and min(parameter.shape) > 1
        and not isinstance(block.get_submodule(name.rpartition(".")[0]), nn.Conv1d)
    ]
    if not linears and not experts:
        raise ModelError(f"{type(model).__name__} has no linear layers to adapt")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType] - a float works
        lora_dropout=0.0,
        target_modules=linears,
        target_parameters=experts or None,
        # Conv1D keeps its weight transposed; peft warns when the flag is wrong.
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in blocks.modules()),
    )
    model.requires_grad_(False)
    try:
        with isolated_rng(seed):
            inject_adapter_in_model(config, model, _ADAPTER)
    except ValueError as error:
        raise ModelError(
            f"{type(model).__name__} cannot be trained through adapters: {error}",
            hint="Train it whole: leave lora out.",
        ) from error
    generator = torch.Generator().manual_seed(seed)
    for layer in adapted_layers(model):
        _initialise(layer, generator)


@torch.no_grad()
def _linear_layers(model: PreTrainedModel, blocks: list[tuple[str, nn.Module]]) -> list[str]:
    """Names of the linear layers in some blocks that the blocks call when they run.

    A layer that was not called though the module it is part of was is read past it; one that gives
    more than a tensor, as routers do, is no linear layer.
    """
    called: dict[nn.Module, bool] = {}

    def note(module: nn.Module, _args: Any, output: Any) -> None:
        called[module] = isinstance(output, Tensor)

    hooks = [
        module.register_forward_hook(note) for _, block in blocks for module in block.modules()
    ]
    tokens = torch.arange(8, device=model.device)[None] % vocabulary_size(model)
    try:
        model.base_model(input_ids=tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        f"{at}.{name}"
        for at, block in blocks
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and called.get(module, block.get_submodule(name.rpartition(".")[0]) not in called)
    ]


def _stack(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """Name in the model, and blocks, of the trunk: its outermost list of modules."""
    trunk = next(name for name, module in model.named_modules() if module is model.base_model)
    lists = [
        (f"{trunk}.{name}".removeprefix("."), module)
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    ]
    if not lists:
        raise ModelError(f"{type(model).__name__} has no stack of layers to adapt")
    # Lists further in are parts of one block: experts, for instance.
    return min(lists, key=lambda item: (item[0].count("."), -len(item[1])))


def _initialise(layer: Any, generator: torch.Generator) -> None:
    a, b = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
    weight = getattr(layer.get_base_layer(), _adapted(layer))
    dtype = torch.promote_types(weight.dtype, torch.float32)
    bound = 1 / math.sqrt(a.shape[1])
    drawn = torch.empty(a.shape).uniform_(-bound, bound, generator=generator)
    a.data = drawn.to(a.device, dtype)
    b.data = torch.zeros(b.shape, device=b.device, dtype=dtype)
    # Autocast brings both operands to one format; peft's own cast would first copy the input
    # of every layer to float32, once for each of the layers that share it.
    layer.cast_input_dtype_enabled = False


def _adapted(layer: Any) -> str:
    """Which parameter of its base a layer adapts."""
    return layer.parameter_name if isinstance(layer, ParamWrapper) else "weight"


def adapted_layers(model: nn.Module) -> Iterator[Any]:
    """The layers that carry adapters, from the bottom up."""
    return (module for module in model.modules() if isinstance(module, LoraLayer))


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before its adapters, within the block."""
    layers = list(adapted_layers(model))
    # Switching an adapter on makes it trainable, which it may not have been.
    trained = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
            layer.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the model without adapters, those folded into the weights.

    The product is added in the adapters' float32 and rounded once to the format of the weight.
    Tensors without an adapter are the model's own, not copies.
    """
    adapters: dict[str, Any] = {
        name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)
    }
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        if key.partition(".lora_")[0] in adapters:
            continue
        name, leaf = key, key.rpartition(".")[2]
        # Experts have an adapter around an adapter: one for each of their parameters.
        while _BASE in name and (owner := name.rpartition(_BASE)[0]) in adapters:
            if _adapted(adapters[owner]) == leaf:
                tensor = _fold(adapters[owner], tensor)
            name = f"{owner}.{leaf}"
        state[name] = tensor
    return state


def _fold(layer: Any, weight: Tensor) -> Tensor:
    a, b = layer.lora_A[_ADAPTER].weight.detach(), layer.lora_B[_ADAPTER].weight.detach()
    base = layer.get_base_layer()
    if weight.ndim == 3:
        # As peft lays them out: the experts' A below one another, the columns of their B in turn.
        count = len(weight)
        a_ERI, b_ORE = a.view(count, -1, a.shape[1]), b.view(len(b), -1, count)
        product = torch.einsum("ore,eri->eoi", b_ORE, a_ERI)
        if getattr(base, "is_transposed", False):
            product = product.transpose(1, 2)
    else:
        product = b @ a
        if isinstance(base, Conv1D):
            product = product.T
    product = product * layer.scaling[_ADAPTER]
    return (weight.to(product.dtype) + product).to(weight.dtype)

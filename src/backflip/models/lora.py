"""Low-rank adapters (Hu et al. 2021, "LoRA"): W' = W + (alpha / rank) B A, only A and B trained."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from backflip.config import LoraSettings
from backflip.errors import ModelError
from backflip.models.quiet import isolated_rng

_ADAPTER = "default"


def add_adapters(model: PreTrainedModel, settings: LoraSettings, *, seed: int) -> None:
    """Put adapters on every linear layer of the trunk's blocks, in place.

    A is drawn from `seed` with the bounds of `nn.Linear` (uniform in +-1/sqrt(width), as in the
    authors' code), B is zero, so the model starts as it was. Adapters are float32 whatever the
    base is; everything else is frozen. Blocks below the first adapted one get no adapters, and so
    nothing in them or before them needs a gradient: they run without autograd's bookkeeping.

    Raises:
        ModelError: `last_layers` is more than there are, or the architecture has no stack of
            blocks with linear layers.
    """
    pattern, blocks = _stack(model)
    if settings.last_layers is not None and settings.last_layers > len(blocks):
        raise ModelError(
            f"lora.last_layers is {settings.last_layers}, but the model has {len(blocks)} layers"
        )
    first = len(blocks) - (settings.last_layers or len(blocks))
    linears = {
        name for name, module in blocks.named_modules() if isinstance(module, nn.Linear | Conv1D)
    }
    if not linears:
        raise ModelError(f"{type(model).__name__} has no linear layers to adapt")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType] - a float works
        lora_dropout=0.0,
        target_modules=sorted({name.rsplit(".", 1)[-1] for name in linears}),
        layers_to_transform=list(range(first, len(blocks))),
        layers_pattern=pattern,
        # Conv1D keeps its weight transposed; peft warns when the flag is wrong.
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in blocks.modules()),
    )
    model.requires_grad_(False)
    with isolated_rng(seed):
        inject_adapter_in_model(config, model, _ADAPTER)
    generator = torch.Generator().manual_seed(seed)
    for layer in adapted_layers(model):
        _initialise(layer, generator)


def _stack(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """Name and blocks of the trunk: its outermost list of modules."""
    lists = [
        (name, module)
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    ]
    if not lists:
        raise ModelError(f"{type(model).__name__} has no stack of layers to adapt")
    # Lists further in are parts of one block: experts, for instance.
    name, blocks = min(lists, key=lambda item: (item[0].count("."), -len(item[1])))
    return name.rsplit(".", 1)[-1], blocks


def _initialise(layer: Any, generator: torch.Generator) -> None:
    a, b = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
    dtype = torch.promote_types(layer.get_base_layer().weight.dtype, torch.float32)
    bound = 1 / math.sqrt(a.shape[1])
    drawn = torch.empty(a.shape).uniform_(-bound, bound, generator=generator)
    a.data = drawn.to(a.device, dtype)
    b.data = torch.zeros(b.shape, device=b.device, dtype=dtype)
    # Autocast brings both operands to one format; peft's own cast would first copy the input
    # of every layer to float32, once for each of the layers that share it.
    layer.cast_input_dtype_enabled = False


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
        owner, base, leaf = key.partition(".base_layer.")
        if base and owner in adapters:
            folded = _fold(adapters[owner], tensor) if leaf == "weight" else tensor
            state[f"{owner}.{leaf}"] = folded
        elif key.partition(".lora_")[0] not in adapters:
            state[key] = tensor
    return state


def _fold(layer: Any, weight: Tensor) -> Tensor:
    a, b = layer.lora_A[_ADAPTER].weight.detach(), layer.lora_B[_ADAPTER].weight.detach()
    product = (b @ a) * layer.scaling[_ADAPTER]
    if isinstance(layer.get_base_layer(), Conv1D):
        product = product.T
    return (weight.to(product.dtype) + product).to(weight.dtype)

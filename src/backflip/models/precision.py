"""Where a model is computed, and in which number format."""

import torch

from backflip.config import Device, Precision
from backflip.errors import ModelError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_CPU_FEATURES = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")


def pick_device(device: Device = "cpu") -> torch.device:
    """The device of this name.

    Raises:
        ModelError: there is no such device here.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "there is no graphics processor here, or this torch was built without it",
            where="model.device",
            hint="Set it to cpu.",
        )
    return torch.device(device)


def has_fast_bfloat16(device: torch.device | None = None) -> bool:
    """Whether the device (None: the processor) multiplies bfloat16 natively."""
    return _is_fast(device or pick_device())


def pick_precision(
    precision: Precision = "auto", device: torch.device | None = None
) -> torch.dtype:
    """The number format to compute in.

    Args:
        precision: "auto" takes bfloat16 where the device multiplies it natively, else float32.
        device: where the model will run; None for the processor.

    Raises:
        ModelError: bfloat16 was asked for on a graphics processor that has none.
    """
    device = device or pick_device()
    if precision == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if precision == "bfloat16" and device.type == "cuda" and not has_fast_bfloat16(device):
        raise ModelError(
            "this graphics processor has no bfloat16", hint="Set precision to float32 or auto."
        )
    return _DTYPES[precision]


def _is_fast(device: torch.device) -> bool:
    if device.type == "cuda":
        # Emulated bfloat16 is slower than float32, hence the argument.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(feature) for feature in _CPU_FEATURES)

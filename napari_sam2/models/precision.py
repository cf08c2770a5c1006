"""The number format a network computes in.

It is chosen by name. A format that the device has no instructions for is refused because emulating
it is slow. PyTorch's autocast computes matrix products, convolutions and attention in it, and sums
and norms in float32. Weights keep their own format; position encodings and the model's output are
always float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, get_args

import torch

from napari_sam2.core.errors import DeviceError, ModelError
from napari_sam2.core.inference_options import Precision

# Instructions of processors as `torch.cpu.get_capabilities` names them. Without one of these, a
# format is many times slower than float32.
_INSTRUCTIONS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
# The first NVIDIA generation with bfloat16.
_AMPERE = 8
# The first macOS whose Metal has bfloat16.
_MACOS = 14


def check_precision(precision: str, device: str) -> None:
    """Raise an error unless a device, see `choose_device`, can compute in this precision.

    Raises
    ------
    ModelError
        There is no such precision.
    DeviceError
        The device does not have it; the text lists those it has.
    """
    if precision not in get_args(Precision):
        raise ModelError(f"precision {precision!r}: expected one of {get_args(Precision)!r}")
    available = list_precisions(device)
    if precision not in available:
        raise DeviceError(
            f"precision {precision!r}: device {device!r} computes in {', '.join(available)}; "
            "choose one of these"
        )


def list_precisions(device: str) -> list[Precision]:
    """The precisions that a device has instructions for."""
    kind = torch.device(device).type
    checks: dict[Precision, Callable[[], bool]] = {
        "float32": lambda: True,
        "bfloat16": {
            "cpu": lambda: _has_cpu_instructions("bfloat16"),
            "cuda": lambda: _is_ampere(device),
            "mps": _is_new_macos,
        }[kind],
        "float16": lambda: kind != "cpu" or _has_cpu_instructions("float16"),
    }
    return [name for name, is_available in checks.items() if is_available()]


def use_precision(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """A context in which networks compute in this precision."""
    kind = torch.device(device).type
    return (
        nullcontext()
        if precision == "float32"
        else torch.autocast(kind, dtype=getattr(torch, precision))
    )


def use_float32(device: torch.device) -> AbstractContextManager[Any]:
    """A context that computes in float32, because bfloat16 rounds positions to 1/256 of a frame."""
    return torch.autocast(device.type, enabled=False)


def _has_cpu_instructions(precision: str) -> bool:
    # Old versions of PyTorch do not report capabilities; then only float32 is certain.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in _INSTRUCTIONS[precision])


def _is_ampere(device: str) -> bool:
    return bool(torch.cuda.get_device_capability(torch.device(device))[0] >= _AMPERE)


def _is_new_macos() -> bool:
    return bool(torch.backends.mps.is_macos_or_newer(_MACOS, 0))

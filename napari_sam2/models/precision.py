"""Precision: the numbers a network computes in.

Asked for by name; what a device has no instructions for is refused, not imitated.

Matrix products, convolutions and attention are computed in it (PyTorch's autocast), sums and norms
in float32; weights stay as they were read. Constants of position and what leaves a model are
float32 always.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, get_args

import torch

from napari_sam2.core.errors import DeviceError, ModelError
from napari_sam2.core.inference_options import Precision

# of processors, as `torch.cpu.get_capabilities` calls them; without them it is many times slower
# than float32
_INSTRUCTIONS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
_AMPERE = 8  # the first of NVIDIA's generations that has bfloat16
_MACOS = 14  # the first whose Metal has bfloat16


def check_precision(precision: str, device: str) -> None:
    """Raise ModelError for a word that is no precision, DeviceError for one that a device (see `device.choose`) does not have."""
    if precision not in get_args(Precision):
        raise ModelError(f"precision {precision!r}: expected one of {get_args(Precision)!r}")
    there = list_precisions(device)
    if precision not in there:
        raise DeviceError(
            f"precision {precision!r}: device {device!r} computes in {', '.join(there)}; choose "
            "one of these"
        )


def list_precisions(device: str) -> list[Precision]:
    """What a device has instructions for."""
    kind = torch.device(device).type
    there: dict[Precision, Callable[[], bool]] = {
        "float32": lambda: True,
        "bfloat16": {
            "cpu": lambda: _has_cpu_instructions("bfloat16"),
            "cuda": lambda: _is_ampere(device),
            "mps": _is_new_macos,
        }[kind],
        "float16": lambda: kind != "cpu" or _has_cpu_instructions("float16"),
    }
    return [name for name, has in there.items() if has()]


def use_precision(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """Whatever is computed within is computed in that precision."""
    kind = torch.device(device).type
    return (
        nullcontext()
        if precision == "float32"
        else torch.autocast(kind, dtype=getattr(torch, precision))
    )


def use_float32(device: torch.device) -> AbstractContextManager[Any]:
    """Whatever is computed within is computed in float32: where things are must not be rounded to 1/256 of a frame."""
    return torch.autocast(device.type, enabled=False)


def _has_cpu_instructions(precision: str) -> bool:
    known: Mapping[str, Any] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # not in all versions of PyTorch: nothing is known there
    return any(known.get(name, False) for name in _INSTRUCTIONS[precision])


def _is_ampere(device: str) -> bool:
    return bool(torch.cuda.get_device_capability(torch.device(device))[0] >= _AMPERE)


def _is_new_macos() -> bool:
    return bool(torch.backends.mps.is_macos_or_newer(_MACOS, 0))

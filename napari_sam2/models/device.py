"""Device: where a model computes. Asked for by name, never exchanged for another one silently."""

from __future__ import annotations

import os
import re

from napari_sam2.core.errors import DeviceError

_GIB = 2**30


def choose_device(device: str = "auto") -> str:
    """The name of a device that is there: `device` itself, or the best one (cuda, mps, cpu) for "auto".

    Takes "auto", "cpu", "cuda", "cuda:1", "mps". Raises DeviceError, saying what is there, for all
    others.
    """
    there = list_devices()
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if name in there)
    if device in there:
        return device
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise DeviceError(
            f"device {device!r} is not there: this machine has {', '.join(there)}{_explain_missing_device(device)}"
        )
    raise DeviceError(
        f"device {device!r}: expected auto or one of what this machine has: {', '.join(there)}"
    )


def list_devices() -> list[str]:
    """Names of the devices that are there; "cuda" is the first of the CUDA devices, "cuda:0"."""
    import torch

    cuda = (
        [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*(["cuda"] if cuda else []), *cuda, *mps, "cpu"]


def reserve_core(cores: int | None = None) -> int:
    """Have this thread compute on all cores but one, at least one: for work beside a window.

    How many that are.

    Fewer where PyTorch was told to use fewer.
    """
    import torch

    threads = max(1, min((cores or os.cpu_count() or 1) - 1, torch.get_num_threads()))
    torch.set_num_threads(threads)
    return threads


def describe_device(device: str) -> str:
    """One line for people: what the device is and what memory it has.

    `device` as `choose_device` returns it, or that of a model elsewhere.
    """
    if "://" in device:
        return device
    import torch

    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(torch.device(device))
        return f"{properties.name}, {properties.total_memory / _GIB:.0f} GiB ({device})"
    if device == "mps":
        return "Apple GPU, memory shared with the processor (mps)"
    threads = torch.get_num_threads()
    return f"processor, {threads} thread{'' if threads == 1 else 's'} (cpu)"


def _explain_missing_device(device: str) -> str:
    import torch

    if device.startswith("cuda") and torch.version.cuda is None:
        return f"; this PyTorch ({torch.__version__}) was built without CUDA"
    return ""

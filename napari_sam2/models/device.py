"""The device a model runs on. It is chosen by name and never replaced silently by another."""

from __future__ import annotations

import os
import re

from napari_sam2.core.errors import DeviceError

_GIB = 2**30


def choose_device(device: str = "auto") -> str:
    """The name of an available device; "auto" chooses the best of "cuda", "mps" and "cpu".

    Parameters
    ----------
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises
    ------
    DeviceError
        This machine does not have the device; the text lists its devices.
    """
    available = list_devices()
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if name in available)
    if device in available:
        return device
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise DeviceError(
            f"device {device!r} is not available: this machine has {', '.join(available)}"
            f"{_explain_missing_device(device)}"
        )
    raise DeviceError(
        f"device {device!r}: expected auto or one of this machine's devices: {', '.join(available)}"
    )


def list_devices() -> list[str]:
    """Names of the available devices; "cuda" is the first CUDA device, "cuda:0"."""
    import torch

    cuda = (
        [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*(["cuda"] if cuda else []), *cuda, *mps, "cpu"]


def reserve_core(cores: int | None = None) -> int:
    """Let this thread compute on all cores but one, which stays free for a window.

    It keeps at least one, and never more than PyTorch was set to use.

    Parameters
    ----------
    cores
        Of the machine; by default as many as it has.

    Returns
    -------
    int
        The number of cores that this thread uses now.
    """
    import torch

    threads = max(1, min((cores or os.cpu_count() or 1) - 1, torch.get_num_threads()))
    torch.set_num_threads(threads)
    return threads


def describe_device(device: str) -> str:
    """The device and its memory in one line for people.

    `device` is a result of `choose_device`, or the address of a model on another machine.
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

"""The machine and the versions that something was measured with."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("napari-sam2", "torch", "transformers", "numpy", "scikit-image")


def describe_machine() -> dict[str, Any]:
    """Describe the machine, the versions, the time, the threads, and the load before measuring.

    The threads are those that OMP_NUM_THREADS allows, for PyTorch and NumPy alike.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _read_cpu_name(),
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": [round(value, 2) for value in os.getloadavg()],
        **{name: _get_version(name) for name in _PACKAGES},
    }


def set_threads(options: argparse.Namespace) -> argparse.Namespace:
    """Set torch's number of threads if `options.threads` says it. Returns the options."""
    if options.threads:
        import torch  # takes seconds, and benchmarks without a network do not need it

        torch.set_num_threads(options.threads)
    return options


def _read_cpu_name() -> str:
    """Read the name of the processor; Linux says more than `platform` does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _get_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # a checkout, or a package that is not needed here
        return None

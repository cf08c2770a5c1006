"""Where and with what something was measured, and how results are shown and kept."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_sam2.models.weights.files import replace_atomically

_PACKAGES = ("napari-sam2", "torch", "transformers", "numpy", "scikit-image")


def describe_machine() -> dict[str, Any]:
    """The machine, the versions, the time, the threads, and the load before the measurement.

    Threads are those that OMP_NUM_THREADS allows: it holds for PyTorch and for NumPy's matrix
    products alike.
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
    """The same options, torch computing with as many threads as they say; as many as it takes by itself where they do not."""
    if options.threads:
        import torch  # seconds, which those that measure no network need not wait

        torch.set_num_threads(options.threads)
    return options


def format_markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as Markdown; floats with three digits."""
    lines = [
        [str(cell) for cell in header],
        ["---"] * len(header),
        *([_format_cell(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_results(results: Any, path: Path | None) -> None:
    """Write results as JSON where a path was given; the file is complete when it appears."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


def _read_cpu_name() -> str:
    """The processor's name; Linux tells more than `platform` does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _get_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout, or not needed here
        return None


def _format_cell(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )

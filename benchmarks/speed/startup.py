"""Start-up: seconds to import the package, and to run ``napari-sam2 demo``.

    python -m benchmarks.speed.startup --out results.json

Each is a new process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results

MAX_IMPORT_S, DEMO_S = 0.3, 90.0
"""Seconds that both may take, on two cores without a GPU."""

_HEAVY = ("torch", "transformers", "napari", "qtpy", "PyQt6", "pandas", "skimage", "zarr")
_IMPORT_SCRIPT = f"""
import sys, time
began = time.perf_counter()
import napari_sam2
print(time.perf_counter() - began, *(name for name in {_HEAVY} if name in sys.modules))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if all requirements are reached."""
    options = _parse_options(arguments)
    about = describe_machine()
    imports = [_run_python("-c", _IMPORT_SCRIPT).split() for _ in range(options.repeats)]
    seconds, heavy = median(float(found[0]) for found in imports), imports[0][1:]
    rows: list[tuple[str, float, float]] = [("import napari_sam2", seconds, MAX_IMPORT_S)]
    if not options.no_demo:
        rows.append(("napari-sam2 demo", _time_demo(), DEMO_S))
    print(format_markdown(["", "s", "may take, s"], rows))
    print(f"loaded by the import: {', '.join(heavy) or 'none'} of {', '.join(_HEAVY)}")
    results = {what: taken for what, taken, _ in rows}
    write_results({"machine": about, "seconds": results, "loaded": heavy}, options.out)
    checks = [(f"{what} within {most} s", taken < most) for what, taken, most in rows]
    return report_checks([*checks, ("the import loads no heavy package", not heavy)])


def _time_demo() -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        print(_run_python("-m", "napari_sam2.cli", "demo", "--out", str(Path(folder) / "demo")))
        return time.perf_counter() - began


def _run_python(*arguments: str) -> str:
    """Run a new Python, and return its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.startup",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("--repeats", type=int, default=5, help="imports; their median counts")
    parser.add_argument("--no-demo", action="store_true", help="measure the import only")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())

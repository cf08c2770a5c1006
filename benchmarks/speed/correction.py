"""Correction: seconds to correct one of many objects in a long stack, and peak memory.

    python -m benchmarks.speed.correction --out results.json
    python -m benchmarks.speed.correction --side 2048 --objects 300 --corrections 1

The embedded model. The stack is written to a file first, and read from there as a user's is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.crowd_case import OBJECT_WIDTH_PX, CrowdCase
from benchmarks.support.machine import describe_machine, set_threads
from benchmarks.support.requirements import report_checks
from benchmarks.support.resources import measure_peak_bytes
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session

MAX_FIRST_FRAME_S = 0.3
"""Seconds from the click to the label plane of its frame."""

MAX_PART_OF_FIRST = 1 / 50
"""Time of a whole correction, as a share of the first propagation."""

MAX_PEAK_GB = 3.0
"""Memory of the process (10⁹ bytes)."""


def measure_corrections(case: CrowdCase, corrections: int) -> dict[str, Any]:
    """Propagate all objects, then correct some of them by a negative click on the middle frame."""
    middle = case.frames // 2
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(
            case.write_stack(Path(folder)).as_video("t"), load_model("nano", device="cpu")
        ) as session,
    ):
        session.prompt_many(case.make_box_prompts())
        began = time.perf_counter()
        session.run().finish()
        found: dict[str, Any] = {"first": time.perf_counter() - began, "corrections": []}
        for track in np.linspace(1, case.objects, corrections, dtype=int).tolist():
            y, x = case.compute_centres(middle)[track - 1]
            began = time.perf_counter()
            session.prompt(PointPrompt(middle, track, [(y + OBJECT_WIDTH_PX * 0.4, x)], [False]))
            session.compute_label_plane(middle)
            answered = time.perf_counter() - began
            computed = sum(bool(step.segments) for step in session.run())
            found["corrections"].append(
                {"answered": answered, "all": time.perf_counter() - began, "frames": computed}
            )
            print(track, found["corrections"][-1], flush=True)
    return {**found, "peak_gb": measure_peak_bytes() / 1e9}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON; 0 if all requirements are reached."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.correction", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--side", type=int, default=512, help="side of a frame in pixels")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--corrections", type=int, default=4)
    parser.add_argument("--threads", type=int, help="number of threads of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = set_threads(parser.parse_args(arguments))
    about = describe_machine()
    result = measure_corrections(
        CrowdCase(options.side, options.objects, options.frames), options.corrections
    )
    rows = [
        [each["answered"], each["all"], each["frames"], f"1/{result['first'] / each['all']:.0f}"]
        for each in result["corrections"]
    ]
    print(f"first propagation: {result['first']:.1f} s; peak {result['peak_gb']:.2f} GB")
    print(
        format_markdown(
            ["corrected frame, s", "all, s", "frames computed", "all / first propagation"], rows
        )
    )
    slowest, longest = (
        max(each[key] for each in result["corrections"]) for key in ("answered", "all")
    )
    checks = [
        (f"corrected frame within {MAX_FIRST_FRAME_S} s", slowest < MAX_FIRST_FRAME_S),
        (
            "whole correction within 1/50 of the first propagation",
            longest < MAX_PART_OF_FIRST * result["first"],
        ),
        (f"peak below {MAX_PEAK_GB:.0f} GB", result["peak_gb"] < MAX_PEAK_GB),
    ]
    write_results(
        {"machine": about, "settings": vars(options) | {"out": None}, "results": result},
        options.out,
    )
    return report_checks(checks)


if __name__ == "__main__":
    raise SystemExit(main())

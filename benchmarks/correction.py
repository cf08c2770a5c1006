"""Correction: seconds after one object of many is corrected in a long stack, the embedded model; and the memory all of it takes.

python -m benchmarks.correction --out results.json python -m benchmarks.correction --side 2048
--objects 300 --corrections 1       what a lab's frames take

The stack is written to a file first, and read from there as a user's is.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.crowd import OBJECT_WIDTH_PX, CrowdCase
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session

MAX_FIRST_FRAME_S = 0.3
"""From the click to the label plane of its frame."""

MAX_PART_OF_FIRST = 1 / 50
"""Of the first propagation, that all that follows from the correction may take."""

MAX_PEAK_GB = 3.0
"""Of the process (10⁹ bytes)."""


def measure_corrections(case: CrowdCase, corrections: int) -> dict[str, Any]:
    """Carry all objects, then correct some one by one, each by a click beside it, on a frame in the middle."""
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
            session.label_plane(middle)
            answered = time.perf_counter() - began
            walked = sum(bool(stepped.segments) for stepped in session.run())
            found["corrections"].append(
                {"answered": answered, "all": time.perf_counter() - began, "frames": walked}
            )
            print(track, found["corrections"][-1], flush=True)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return {**found, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON; 0 where all that is asked is reached."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.correction", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--side", type=int, default=512, help="of a frame, pixels")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--corrections", type=int, default=4)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = machine.set_threads(parser.parse_args(arguments))
    about = machine.describe_machine()
    result = measure_corrections(
        CrowdCase(options.side, options.objects, options.frames), options.corrections
    )
    rows = [
        [each["answered"], each["all"], each["frames"], f"1/{result['first'] / each['all']:.0f}"]
        for each in result["corrections"]
    ]
    print(f"first propagation: {result['first']:.1f} s; peak {result['peak_gb']:.2f} GB")
    print(
        machine.format_markdown(
            ["corrected frame, s", "all, s", "frames walked", "all / first propagation"], rows
        )
    )
    slowest, longest = (
        max(each[key] for each in result["corrections"]) for key in ("answered", "all")
    )
    checks = [
        (f"first corrected frame below {MAX_FIRST_FRAME_S} s", slowest < MAX_FIRST_FRAME_S),
        ("all below 1/50 of the first", longest < MAX_PART_OF_FIRST * result["first"]),
        (f"peak below {MAX_PEAK_GB:.0f} GB", result["peak_gb"] < MAX_PEAK_GB),
    ]
    for what, good in checks:
        print(f"{'reached' if good else 'MISSED '}  {what}")
    machine.write_results(
        {"machine": about, "settings": vars(options) | {"out": None}, "results": result},
        options.out,
    )
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Peak memory: ours and the reference's, by number of frames and of objects.

    python -m benchmarks.speed.memory --sam2 FOLDER --out results.json

Each is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import zarr

from benchmarks.support.click_case import PropagationCase, draw_case
from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results

FRAMES, OBJECTS = (10, 60), (4, 36)
AT_FRAMES, AT_OBJECTS = 10, 2
"""Number of frames while objects vary, and of objects while frames vary."""

EMBEDDING_BYTES = 16 << 20
"""Memory for our image features: four frames of 512 × 512, so even the short video exceeds it."""

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""For glibc: larger blocks go back to the system when they are freed.

Without it, the peak is that of a fragmented heap, and differs by 50 MB from run to run.
"""

MAX_GROWTH = 0.05
"""Share by which the peak of the long video may exceed that of the short one."""

MAX_MB_PER_OBJECT = 5.0
"""MB that an object may take."""


@dataclass(frozen=True)
class MemoryRun:
    """What one process measures; it gets this as JSON."""

    peer: str
    frames: int
    objects: int
    size: int
    sam2: tuple[str, ...]

    def measure_peak_mb(self, folder: Path) -> float:
        """Measure the peak of a new process in MB (10⁶ bytes), on a video in `folder`."""
        case = draw_case(frames=self.frames, objects=self.objects, size=self.size)
        _write_case(case, folder)
        (folder / "run.json").write_text(json.dumps(asdict(self)))
        command = [sys.executable, "-m", "benchmarks.speed.memory_process", str(folder)]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **ALLOCATOR}
        )
        return float(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if all requirements are reached."""
    options = _parse_options(arguments)
    about = describe_machine()
    peaks = {name: _measure_peer(name, options) for name in dict.fromkeys(["ours", *options.peers])}
    print(_format_report(peaks, options.size))
    settings = {"size": options.size, "embedding_bytes": EMBEDDING_BYTES}
    write_results({"machine": about, "settings": settings, "peak_mb": peaks}, options.out)
    return _check_requirements(peaks["ours"])


def _measure_peer(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure the peaks in MB by "FRAMESxOBJECTS"."""
    peaks = {}
    for frames, objects in [(frames, AT_OBJECTS) for frames in FRAMES] + [
        (AT_FRAMES, objects) for objects in OBJECTS
    ]:
        run = MemoryRun(
            name,
            frames,
            objects,
            options.size,
            tuple(str(folder.resolve()) for folder in options.sam2),
        )
        with tempfile.TemporaryDirectory() as folder:
            peaks[_make_key(frames, objects)] = run.measure_peak_mb(Path(folder))
        print(
            f"{name}: {frames} frames, {objects} objects: "
            f"{peaks[_make_key(frames, objects)]:.0f} MB",
            flush=True,
        )
    return peaks


def _format_report(peaks: dict[str, Any], size: int) -> str:
    header = [
        "",
        *(f"{frames} frames" for frames in FRAMES),
        "longer / shorter",
        *(f"{objects} objects" for objects in OBJECTS),
        "per object",
    ]
    rows = [
        [
            name,
            *_get_frame_peaks(found),
            f"{_compute_growth(found):.3f}",
            *_get_object_peaks(found),
            _compute_mb_per_object(found),
        ]
        for name, found in peaks.items()
    ]
    title = (
        f"MB at image size {size}: over frames with {AT_OBJECTS} objects, over objects with "
        f"{AT_FRAMES} frames"
    )
    return (
        f"\n{title}; ours keeps {EMBEDDING_BYTES / 2**20:.0f} MiB of "
        f"features\n\n{format_markdown(header, rows)}\n"
    )


def _check_requirements(ours: dict[str, float]) -> int:
    checks = [
        (
            f"peak of {FRAMES[1]} frames within {MAX_GROWTH:.0%} of that of {FRAMES[0]}",
            _compute_growth(ours) <= 1 + MAX_GROWTH,
        ),
        (
            f"less than {MAX_MB_PER_OBJECT:.0f} MB per object",
            _compute_mb_per_object(ours) < MAX_MB_PER_OBJECT,
        ),
    ]
    return report_checks(checks)


def _write_case(case: PropagationCase, folder: Path) -> None:
    """Write the frames and the clicks into files; ours reads them as it reads a user's file."""
    array = zarr.create_array(
        folder / "video.zarr", shape=case.shape, chunks=(1, *case.shape[1:]), dtype="float32"
    )
    array[...] = case.frames
    (folder / "clicks.json").write_text(json.dumps([asdict(click) for click in case.clicks]))


def _make_key(frames: int, objects: int) -> str:
    return f"{frames}x{objects}"


def _get_frame_peaks(found: dict[str, float]) -> list[float]:
    return [found[_make_key(frames, AT_OBJECTS)] for frames in FRAMES]


def _get_object_peaks(found: dict[str, float]) -> list[float]:
    return [found[_make_key(AT_FRAMES, objects)] for objects in OBJECTS]


def _compute_growth(found: dict[str, float]) -> float:
    short, long = _get_frame_peaks(found)
    return long / short


def _compute_mb_per_object(found: dict[str, float]) -> float:
    few, many = _get_object_peaks(found)
    return (many - few) / (OBJECTS[1] - OBJECTS[0])


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.memory",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    others = ["reference", "transformers"]
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=others,
        default=["reference"],
        help="implementations to compare with",
    )
    parser.add_argument(
        "--sam2",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="folders of the reference and of what it needs",
    )
    parser.add_argument("--size", type=int, default=512, help="side of the frames and the input")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())

"""Large: peak memory of propagating, writing and measuring a stack larger than memory.

    python -m benchmarks.speed.large --folder DIR --out results.json

20 GB of OME-Zarr, one click per object. The stack is drawn into DIR if it is not there yet; it
takes some MB on disk, because most of it is the same everywhere. It is propagated in a process of
its own. After an interruption the next call resumes, and the peak is that of all calls.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import zarr
from yaozarrs import v05
from yaozarrs.write.v05 import prepare_image

from benchmarks.support.machine import describe_machine
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.io.open import open_labels

MAX_MEMORY_GB = 4.0
"""Memory for a stack of 20 GB (10⁹ bytes)."""

MIN_IOU = 0.5
"""IoU of each mask with its disc, on each compared frame: it is still the same object."""

_SIDE, _RADIUS, _OBJECTS = 4096, 24, 4
_BACKGROUND_GREY, _OBJECT_GREY = 300, 9000
_FRAME_STEP = 37  # frames between those that are compared


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if all requirements are reached."""
    options = _parse_options(arguments)
    about, frames = (
        describe_machine(),
        max(2, round(options.gigabytes * 1e9 / (2 * _SIDE**2))),
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    image = options.folder / f"large_{frames}.ome.zarr"
    if not image.exists():
        _draw_stack(image, frames)
    peak, seconds = _measure_track_command(image, frames, options.folder)
    iou = _compute_min_iou(options.folder / "results", frames)
    size = 2 * _SIDE**2 * frames / 1e9
    rows = [
        [
            f"{size:.1f}",
            frames,
            f"{_SIDE} × {_SIDE}",
            f"{peak / 1e9:.2f}",
            f"{seconds:.0f}",
            f"{iou:.3f}",
        ]
    ]
    print(format_markdown(["GB", "frames", "pixels", "peak, GB", "s", "least IoU"], rows))
    write_results(
        {
            "machine": about,
            "bytes": size * 1e9,
            "peak_bytes": peak,
            "seconds": seconds,
            "least_iou": iou,
        },
        options.out,
    )
    return 0 if peak <= MAX_MEMORY_GB * 1e9 and iou >= MIN_IOU else 1


def _draw_stack(image: Path, frames: int) -> None:
    """Draw discs that drift across a dark pattern that compresses well."""
    part = image.with_suffix(".part")
    arrays = prepare_image(
        part,
        _make_metadata(),
        ((frames, _SIDE, _SIDE), np.uint16),
        chunks=(1, 1024, 1024),
        writer="zarr",
        overwrite=True,
    )[1]
    pattern = np.random.default_rng(0).integers(
        _BACKGROUND_GREY - 40, _BACKGROUND_GREY + 40, size=64, dtype=np.uint16
    )
    background = np.tile(pattern, (_SIDE, _SIDE // 64))
    for frame in range(frames):
        plane = background.copy()
        for y, x in _compute_centres(frame):
            rows, columns, inside = _compute_disc(y, x)
            plane[rows, columns][inside] = _OBJECT_GREY
        arrays["0"][frame] = plane
    part.rename(image)
    _write_prompts(image.parent / "prompts.csv")


def _make_metadata() -> v05.Image:
    space = [v05.SpaceAxis(name=name, unit="micrometer") for name in "yx"]
    scale = v05.ScaleTransformation(scale=[60.0, 0.5, 0.5])
    multiscale = v05.Multiscale(
        axes=[v05.TimeAxis(name="t", unit="second"), *space],
        datasets=[v05.Dataset(path="0", coordinateTransformations=[scale])],
    )
    return v05.Image(multiscales=[multiscale])


def _write_prompts(path: Path) -> None:
    prompts = [
        (track, 0, "point", y, x, 1, "disc")
        for track, (y, x) in enumerate(_compute_centres(0), start=1)
    ]
    table = pd.DataFrame(
        prompts, columns=["track", "frame", "kind", "y", "x", "positive", "category"]
    )
    table.to_csv(path, index=False)


def _compute_centres(frame: int) -> list[tuple[float, float]]:
    """Compute the centres of the discs: each moves along a row, by 3 pixels a frame."""
    path = 3.0 * frame % (2 * (_SIDE - 400))
    x = 200 + min(path, 2 * (_SIDE - 400) - path)
    return [(_SIDE * (number + 0.5) / _OBJECTS, x) for number in range(_OBJECTS)]


def _compute_disc(y: float, x: float) -> tuple[slice, slice, np.ndarray]:
    """Compute the rows and columns around a disc, and which of their pixels are inside."""
    top, left = int(y) - _RADIUS, int(x) - _RADIUS
    rows, columns = np.indices((2 * _RADIUS + 2, 2 * _RADIUS + 2))
    inside = np.hypot(rows + top - y, columns + left - x) <= _RADIUS
    return slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1]), inside


def _measure_track_command(image: Path, frames: int, folder: Path) -> tuple[int, float]:
    """Measure peak memory in bytes and seconds of `napari-sam2 track`, over all calls."""
    kept = folder / f"peak_{frames}.json"
    before = json.loads(kept.read_text()) if kept.exists() else {"peak": 0, "seconds": 0.0}
    command = [
        sys.executable,
        "-m",
        "napari_sam2.cli",
        "track",
        str(image),
        "--along",
        "t",
        "--prompts",
        str(folder / "prompts.csv"),
    ]
    began, peak = time.perf_counter(), int(before["peak"])
    more = ["--device", "cpu", "--format", "zarr", "--resume", "--out", str(folder / "results")]
    with subprocess.Popen(
        [*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            seconds = before["seconds"] + time.perf_counter() - began
            kept.write_text(json.dumps({"peak": peak, "seconds": seconds}))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"napari-sam2 track ended with {process.returncode}")
    return peak, seconds


def _compute_min_iou(results: Path, frames: int) -> float:
    """Compute the smallest IoU of a label with its disc, on some of the frames."""
    labels = zarr.open_array(results / "labels.ome.zarr" / "0", mode="r")
    assert open_labels(results / "labels.ome.zarr").spacing.t_s == 60.0
    found = []
    for frame in [*range(0, frames, _FRAME_STEP), frames - 1]:
        plane = np.asarray(labels[frame])
        for track, (y, x) in enumerate(_compute_centres(frame), start=1):
            rows, columns, inside = _compute_disc(y, x)
            both = int((plane[rows, columns][inside] == track).sum())
            found.append(both / (int((plane == track).sum()) + int(inside.sum()) - both))
    return min(found)


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.large",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument(
        "--gigabytes", type=float, default=20.0, help="size of the stack, uncompressed (10⁹ bytes)"
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder for the stack and the results"
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())

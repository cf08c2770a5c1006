"""Measuring and counting: seconds per object, with few and with many objects on a frame.

    python -m benchmarks.speed.measuring --out results.json

An object may not cost more because there are others.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.api.count import CountingOptions, count_video
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.measurement.features.objects import measure_frame_objects
from napari_sam2.models.load import load_model

SIDE = 1024
FEW, MANY = 50, 500
MAX_COST_RATIO = 1.3
"""Cost of an object among many, as a multiple of its cost among few."""


def draw_frame(count: int, channels: int) -> tuple[Video, np.ndarray]:
    """Draw a frame of noise with `count` discs of 15 pixels on a dense grid, and its labels."""
    across = math.ceil(math.sqrt(MANY))
    rows, columns = np.indices((SIDE, SIDE))
    cell = SIDE / across
    near = np.hypot((rows % cell) - cell / 2, (columns % cell) - cell / 2) <= 15
    numbers = (rows // cell).astype(int) * across + (columns // cell).astype(int) + 1
    labels = np.where(near & (numbers <= count), numbers, 0).astype(np.uint16)
    random = np.random.default_rng(0)
    pixels = (
        np.stack([random.normal(200 + 2000 * (labels > 0), 30) for _ in range(channels)])
        .clip(0, 65535)
        .astype(np.uint16)
    )
    return Video.of(Stack(pixels[None], "tcyx", Spacing(y_um=0.2, x_um=0.2))), labels


def time_measuring(count: int, channels: int) -> float:
    """Measure the processor time of measuring a frame of `count` objects."""
    video, labels = draw_frame(count, channels)
    begin = time.process_time()
    rows = measure_frame_objects(video, 0, labels)
    assert len(rows) == count
    return time.process_time() - begin


def time_counting(count: int, model: VideoModel) -> float:
    """Measure the processor time of counting: detection, prompts and measurement."""
    video, _ = draw_frame(count, 1)
    begin = time.process_time()
    found = count_video(video, model, CountingOptions(diameter_px=30), report=lambda _: None)
    with found.session:
        assert abs(len(found.run.tracks) - count) <= 0.05 * count
    return time.process_time() - begin


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON; 0 if an object among many costs little enough."""
    options = _parse_options(arguments)
    about = describe_machine()
    time_measuring(FEW, options.channels)  # warm
    model = load_model(options.model)
    time_counting(FEW, model)
    rows: list[dict[str, Any]] = []
    for what, taken in (
        ("measured", partial(time_measuring, channels=options.channels)),
        ("counted", partial(time_counting, model=model)),
    ):
        for count in (FEW, MANY):
            each = statistics.median(taken(count) for _ in range(options.repeats))
            rows.append(
                {
                    "what": what,
                    "objects": count,
                    "seconds": each,
                    "ms_per_object": 1000 * each / count,
                }
            )
    ratios = {
        few["what"]: many["ms_per_object"] / few["ms_per_object"]
        for few, many in (rows[:2], rows[2:])
    }
    print(
        format_markdown(
            ["what", "objects", "s", "ms per object"], [list(row.values()) for row in rows]
        )
    )
    write_results({"machine": about, "rows": rows, "ratios": ratios}, options.out)
    return report_checks(
        (
            (
                f"{what}: an object among {MANY} costs {ratio:.2f} times as much as one among "
                f"{FEW}, at most {MAX_COST_RATIO}"
            ),
            ratio <= MAX_COST_RATIO,
        )
        for what, ratio in ratios.items()
    )


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.measuring", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=3, help="measurements; their median counts")
    parser.add_argument("--channels", type=int, default=2, help="channels to measure")
    parser.add_argument("--model", default="nano", help="name or file of a model (%(default)s)")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())

"""Accuracy: one prompt per object, propagated through real stacks, compared with the truth.

python -m benchmarks.accuracy.propagation DATA --out results.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.machine import describe_machine
from benchmarks.support.masks import compute_iou
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.stacks import (
    PROMPT_KINDS,
    TrackingCase,
    compute_mean_iou,
    evaluate_tracks,
    find_stacks,
)
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.device import describe_device
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session, SessionSettings

COLUMNS = {
    "stack": "stack",
    "frames": "frames",
    "objects": "objects",
    "prompt": "prompt",
    "IoU": "iou",
    "on the prompted frame": "iou_prompted",
    "prompted mask repeated": "iou_still",
    "objects above 0.5": "halves",
    "ended on another": "strayed",
    "s": "seconds",
}
"""Columns of the table, and their names in JSON."""


def measure_propagation(model: VideoModel, case: TrackingCase, kind: str) -> dict[str, Any]:
    """Measure a row of the table: prompt, propagate, compare with the truth."""
    start = time.perf_counter()
    with Session(case.video, model, settings=SessionSettings(patience=None)) as session:
        session.prompt_many([case.prompt(track, kind) for track in case.prompt_frames])
        session.propagate(progress=False)
        labels = np.stack([session.compute_label_plane(frame) for frame in range(len(case.video))])
    seconds = time.perf_counter() - start
    tracks = evaluate_tracks(labels, case)
    prompted = [
        compute_iou(labels[frame] == track, case.truth[frame] == track)
        for track, frame in case.prompt_frames.items()
    ]
    strayed = [_ends_on_other_object(labels, case.truth, track) for track in case.prompt_frames]
    return {
        "objects": len(case.prompt_frames),
        "frames": len(case.video),
        "prompt": kind,
        "iou": compute_mean_iou(tracks),
        "iou_prompted": float(np.mean(prompted)),
        "iou_still": compute_mean_iou(evaluate_tracks(case.static_labels, case)),
        "halves": float((tracks["iou"] > 0.5).mean()),
        "strayed": float(np.mean(strayed)),
        "seconds": round(seconds, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if at least one stack was found."""
    options = _parse_options(arguments)
    about = describe_machine()
    model = load_model(options.model, device=options.device)
    print(f"{model.card.name} on {describe_device(model.device)}")
    rows: list[dict[str, Any]] = []
    for stack, folder in find_stacks(options.data):
        case = TrackingCase.of(stack, folder, options.objects)
        rows += _measure_prompt_kinds(model, case, stack.name)
    print(
        "\n"
        + format_markdown(list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows])
    )
    write_results(
        {"machine": about, "model": model.card.name, "sha256": model.card.sha256, "results": rows},
        options.out,
    )
    return 0 if rows else 1


def _measure_prompt_kinds(model: VideoModel, case: TrackingCase, name: str) -> list[dict[str, Any]]:
    rows = []
    for kind in PROMPT_KINDS:
        rows.append({"stack": name, **measure_propagation(model, case, kind)})
        print(
            f"{name}, {kind}: IoU {rows[-1]['iou']:.3f} in {rows[-1]['seconds']:.0f} s", flush=True
        )
    return rows


def _ends_on_other_object(labels: np.ndarray, truth: np.ndarray, track: int) -> bool:
    """Whether a track lies mostly on another object on its first or last true frame."""
    frames = np.flatnonzero((truth == track).any(axis=(1, 2)))
    for frame in (frames[0], frames[-1]):
        below = truth[frame][labels[frame] == track]
        if below.size and np.bincount(below).argmax() not in (0, track):
            return True
    return False


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.propagation",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument(
        "data", type=Path, help="folder of the stacks, each with its truth: see support/stacks.py"
    )
    parser.add_argument("--model", default="nano", help="name or file of a model")
    parser.add_argument("--device", default="auto", help="device of the model")
    parser.add_argument("--objects", type=int, default=20, help="objects of a stack, at most")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())

"""Precision: seconds and masks in bfloat16 (or float16) against those in float32, in turn.

python -m benchmarks.precision DATA --out results.json

The embedded model's trained weights on real stacks, with their truth, and on a crowd of 50 round
objects; and SAM 2.1 tiny with random weights, near 8 objects on 1024 × 1024, which tells the time
and how far both agree, and nothing of accuracy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import crowd, machine, near, scaling
from benchmarks.accuracy import (
    PROMPT_KINDS,
    TrackingCase,
    compute_mean_iou,
    evaluate_tracks,
    find_stacks,
)
from napari_sam2.core.inference_options import Precision
from napari_sam2.models.load import load_model
from napari_sam2.models.precision import check_precision
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.propagation.session import Session

MAX_IOU_LOSS = 0.01
"""IoU with the truth that may be lost."""

COLUMNS = (
    "stack",
    "prompt",
    "objects",
    "IoU float32",
    "IoU {}",
    "IoU of both",
    "cpu s float32",
    "cpu s {}",
)


def measure_stack(
    case: TrackingCase, name: str, kind: str, models: Sequence[Sam2Predictor]
) -> list[Any]:
    """A row of the table: real frames, the embedded model."""
    (ones, slow), (others, quick) = (near.labels(case, model, kind) for model in models)
    ious = [
        compute_mean_iou(evaluate_tracks(ones, case)),
        compute_mean_iou(evaluate_tracks(others, case)),
        compute_mutual_iou(
            *(_split_masks(labels, case.prompt_frames) for labels in (ones, others))
        ),
    ]
    return [
        name,
        kind,
        len(case.prompt_frames),
        *(round(iou, 4) for iou in ious),
        round(slow, 1),
        round(quick, 1),
    ]


def compute_mutual_iou(first: np.ndarray, second: np.ndarray) -> float:
    """The mean IoU of (frames, n, H, W) masks, where one of both has any."""
    shared, either = (first & second).sum(axis=(2, 3)), (first | second).sum(axis=(2, 3))
    return float((shared[either > 0] / either[either > 0]).mean())


def _split_masks(labels: np.ndarray, tracks: Iterable[int]) -> np.ndarray:
    return np.stack([labels == track for track in tracks], axis=1)


def measure_crowd(models: Sequence[Sam2Predictor]) -> list[Any]:
    """A row of the table: 50 round objects on 512 × 512, a walk of five frames and its planes."""
    case, found = crowd.CrowdCase(512, 50), []
    for model in models:
        with Session(case.make_stack().as_video("t"), model) as session:
            session.prompt_many(case.make_box_prompts())
            began = time.process_time()
            session.run().finish()
            labels = np.stack([session.label_plane(frame) for frame in range(1, case.frames)])
            found.append(
                (_split_masks(labels, range(1, case.objects + 1)), time.process_time() - began)
            )
    (ones, slow), (others, quick) = found
    return [
        "round, 512²",
        "box",
        case.objects,
        "",
        "",
        round(compute_mutual_iou(ones, others), 4),
        round(slow, 1),
        round(quick, 1),
    ]


def measure_random_weights(
    precision: Precision, *, size: int, frames: int, objects: int
) -> list[Any]:
    """A row of the table: SAM 2.1 tiny with random weights on noise."""
    case, found = scaling.draw_crowd(frames=frames, objects=objects, size=size), []
    peer = scaling.make_near_peer(size, size // 64)
    for each in ("float32", precision):
        peer.model.card = replace(peer.model.card, precision=each)  # type: ignore[attr-defined]
        began = time.process_time()
        opened = peer.open_video(case.frames)
        opened.add_clicks(case.clicks)
        opened.propagate()
        masks = np.stack([opened.read_masks(frame) for frame in range(frames)])
        found.append((masks, time.process_time() - began))
        opened.close()
    (ones, slow), (others, quick) = found
    return [
        f"SAM 2.1 tiny, random, {size}²",
        "click",
        objects,
        "",
        "",
        round(compute_mutual_iou(ones, others), 4),
        round(slow, 1),
        round(quick, 1),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where no stack's IoU with its truth is less by more than `MAX_IOU_LOSS`."""
    options = _parse_options(arguments)
    check_precision(options.precision, "cpu")
    about = machine.describe_machine()
    nano = load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    models = [nano, type(nano)(nano.network, replace(nano.card, precision=options.precision))]
    measure_crowd(models)  # warm
    rows = [measure_crowd(models)]
    for source, folder in find_stacks(options.data) if options.data else ():
        if not options.only or source.name.startswith(tuple(options.only)):
            case = TrackingCase.of(source, folder, options.objects)
            for kind in PROMPT_KINDS:
                rows.append(measure_stack(case, source.name, kind, models))
                print(rows[-1], flush=True)
    worst = max((row[3] - row[4] for row in rows if row[3]), default=0.0)
    if options.tiny:
        rows.append(measure_random_weights(options.precision, size=1024, frames=4, objects=8))
    print(
        "\n"
        + machine.format_markdown([column.format(options.precision) for column in COLUMNS], rows)
    )
    print(
        f"{'reached' if worst <= MAX_IOU_LOSS else 'MISSED '}  at most {worst:.4f} of IoU lost, asked "
        f"{MAX_IOU_LOSS}"
    )
    machine.write_results(
        {"machine": about, "precision": options.precision, "columns": COLUMNS, "results": rows},
        options.out,
    )
    return 0 if worst <= MAX_IOU_LOSS else 1


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "data", type=Path, nargs="?", help="folder that holds the stacks, each with its truth"
    )
    parser.add_argument("--precision", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--objects", type=int, default=20, help="of a stack, at most")
    parser.add_argument("--only", nargs="+", help="stacks whose name begins so")
    parser.add_argument(
        "--no-tiny", dest="tiny", action="store_false", help="the embedded model alone"
    )
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return machine.set_threads(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())

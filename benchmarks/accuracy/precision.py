"""Precision: seconds and masks in bfloat16 or float16, compared with float32, in turn.

    python -m benchmarks.accuracy.precision DATA --out results.json

The embedded model's trained weights on real stacks with their truth, and on a crowd of 50 round
objects. SAM 2.1 tiny with random weights and local attention on 8 objects on 1024 × 1024: that
measures the time and the agreement, not the accuracy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.crowd_case import CrowdCase
from benchmarks.support.machine import describe_machine, set_threads
from benchmarks.support.masks import compute_mask_iou, split_masks
from benchmarks.support.random_model import draw_crowd, make_local_peer
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.stacks import (
    PROMPT_KINDS,
    AttentionResult,
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
    """Measure a row of the table: the embedded model on a real stack."""
    exact, fast = (AttentionResult.of(case, model, kind) for model in models)
    ious = [
        compute_mean_iou(evaluate_tracks(exact.labels, case)),
        compute_mean_iou(evaluate_tracks(fast.labels, case)),
        compute_mask_iou(
            split_masks(exact.labels, case.prompt_frames),
            split_masks(fast.labels, case.prompt_frames),
        ),
    ]
    return [
        name,
        kind,
        len(case.prompt_frames),
        *(round(iou, 4) for iou in ious),
        round(exact.cpu_s, 1),
        round(fast.cpu_s, 1),
    ]


def measure_crowd(models: Sequence[Sam2Predictor]) -> list[Any]:
    """Measure a row of the table: 50 round objects, five frames of 512 × 512 and their planes."""
    case, measured = CrowdCase(512, 50), []
    for model in models:
        with Session(case.make_stack().as_video("t"), model) as session:
            session.prompt_many(case.make_box_prompts())
            start = time.process_time()
            session.run().finish()
            labels = np.stack(
                [session.compute_label_plane(frame) for frame in range(1, case.frames)]
            )
            masks = split_masks(labels, range(1, case.objects + 1))
            measured.append((masks, time.process_time() - start))
    return ["round, 512²", "box", case.objects, *_compare(*measured)]


def measure_random_weights(
    precision: Precision, *, size: int, frames: int, objects: int
) -> list[Any]:
    """Measure a row of the table: SAM 2.1 tiny with random weights on noise."""
    case, measured = draw_crowd(frames=frames, objects=objects, size=size), []
    peer = make_local_peer(size, size // 64)
    precisions: tuple[Precision, ...] = ("float32", precision)
    for each in precisions:
        peer.model.card = replace(peer.model.card, precision=each)
        start = time.process_time()
        opened = peer.open_video(case.frames)
        opened.add_clicks(case.clicks)
        opened.propagate()
        masks = np.stack([opened.read_masks(frame) for frame in range(frames)])
        measured.append((masks, time.process_time() - start))
        opened.close()
    return [f"SAM 2.1 tiny, random, {size}²", "click", objects, *_compare(*measured)]


def _compare(exact: tuple[np.ndarray, float], fast: tuple[np.ndarray, float]) -> list[Any]:
    """Make the cells of a row without truth, from (frames, n, H, W) masks and seconds of both."""
    iou = compute_mask_iou(exact[0], fast[0])
    return ["", "", round(iou, 4), round(exact[1], 1), round(fast[1], 1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON; 0 if no stack loses more than `MAX_IOU_LOSS`."""
    options = _parse_options(arguments)
    check_precision(options.precision, "cpu")
    about = describe_machine()
    nano = load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    models = [nano, type(nano)(nano.network, replace(nano.card, precision=options.precision))]
    measure_crowd(models)  # warm
    rows = [measure_crowd(models)]
    for stack, folder in find_stacks(options.data) if options.data else ():
        if not options.only or stack.name.startswith(tuple(options.only)):
            case = TrackingCase.of(stack, folder, options.objects)
            for kind in PROMPT_KINDS:
                rows.append(measure_stack(case, stack.name, kind, models))
                print(rows[-1], flush=True)
    worst = max((row[3] - row[4] for row in rows if row[3]), default=0.0)
    if options.tiny:
        rows.append(measure_random_weights(options.precision, size=1024, frames=4, objects=8))
    print("\n" + format_markdown([column.format(options.precision) for column in COLUMNS], rows))
    write_results(
        {"machine": about, "precision": options.precision, "columns": COLUMNS, "results": rows},
        options.out,
    )
    text = f"at most {worst:.4f} of IoU is lost, allowed {MAX_IOU_LOSS}"
    return report_checks([(text, worst <= MAX_IOU_LOSS)])


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.precision", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "data", type=Path, nargs="?", help="folder of the stacks, each with its truth"
    )
    parser.add_argument(
        "--precision",
        choices=["bfloat16", "float16"],
        default="bfloat16",
        help="precision to compare with float32 (%(default)s)",
    )
    parser.add_argument("--objects", type=int, default=20, help="objects of a stack, at most")
    parser.add_argument("--only", nargs="+", help="stacks whose name starts with this")
    parser.add_argument(
        "--no-tiny", dest="tiny", action="store_false", help="measure the embedded model only"
    )
    parser.add_argument("--threads", type=int, help="number of threads of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return set_threads(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())

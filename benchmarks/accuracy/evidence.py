"""Evidence: accuracy of clicks, boxes and whole tracks with detections as evidence, and without.

    python -m benchmarks.accuracy.evidence DATA PACK --out results.json

The IoU of a track is that of all its pixels on all frames: frames on which the object is not
count against it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.images import DOMAINS, MakeEvidence, measure_domain
from benchmarks.support.machine import describe_machine
from benchmarks.support.masks import compute_iou
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.stacks import TrackingCase, find_stacks
from napari_sam2.core.protocols import ObjectMapModel, VideoModel
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.detection.evidence import VideoEvidence
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.models.load import load_detector, load_model
from napari_sam2.propagation.session import Session, SessionSettings

IMAGE_PARTS = ("none", "click")
STACK_PARTS = ("none", "click", "presence", "mask", "all")
DEPTH_RATIOS = {"nuclei, z (cells3d)": 0.29 / 0.26, "nuclei, z (StarDist)": 2.0}
"""Spacing in z in pixels, of stacks whose files do not say it; a person would be asked."""

IMAGE_COLUMNS = {
    "domain": "domain",
    "images": "images",
    "objects": "objects",
    "evidence": "evidence",
    "one click": "click",
    "± over objects": "spread",
    "three clicks": "three",
    "box": "box",
    "best offered": "offered",
}
STACK_COLUMNS = {
    "stack": "stack",
    "frames": "frames",
    "objects": "objects",
    "evidence": "evidence",
    "IoU of the whole": "whole",
    "± over objects": "spread",
    "frames too many": "too_many",
    "frames missing": "missing",
}
"""Columns of the tables, and their names in JSON."""


def make_evidence(maps: ObjectMapModel) -> MakeEvidence:
    """Make a function that gives the evidence of a video."""
    return lambda video: VideoEvidence(LearnedDetector(DetectionOptions(maps=maps)), video)


def set_depth_ratio(video: Video, ratio: float | None) -> Video:
    """Set the spacing of a z-stack whose file does not say it."""
    if ratio is None or video.spacing.z_um is not None:
        return video
    spacing = Spacing(z_um=ratio, y_um=1.0, x_um=1.0)
    stack: Stack = replace(video.stack, spacing=spacing)
    return replace(video, stack=stack)


def measure_track_errors(labels: np.ndarray, case: TrackingCase) -> dict[str, Any]:
    """Measure the IoU of whole tracks, and frames too many and missing for each object."""
    ious, too_many, missing = [], [], []
    for track in case.prompt_frames:
        ours, theirs = labels == track, case.truth == track
        shown, there = ours.any(axis=(1, 2)), theirs.any(axis=(1, 2))
        ious.append(compute_iou(ours, theirs))
        too_many.append(int((shown & ~there).sum()))
        missing.append(int((there & ~shown).sum()))
    return {
        "objects": len(ious),
        "whole": float(np.mean(ious)),
        "spread": float(np.std(ious)),
        "too_many": float(np.mean(too_many)),
        "missing": float(np.mean(missing)),
    }


def measure_stack(
    model: VideoModel, case: TrackingCase, evidence: VideoEvidence | None, parts: str
) -> dict[str, Any]:
    """Measure tracks from one click per object, with these parts of the evidence."""
    settings = SessionSettings(evidence=parts)
    with Session(case.video, model, settings=settings, evidence=evidence) as session:
        session.prompt_many([case.prompt(track, "click") for track in case.prompt_frames])
        session.propagate(progress=False)
        labels = np.stack([session.compute_label_plane(frame) for frame in range(len(case.video))])
    return {"frames": len(case.video), "evidence": parts, **measure_track_errors(labels, case)}


def measure_images(
    model: VideoModel, maps: ObjectMapModel, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Measure the domains of `benchmarks.accuracy.images`, a row for each kind of evidence."""
    for domain in DOMAINS:
        if not _is_wanted(domain.name, options.only):
            continue
        for parts in IMAGE_PARTS:
            make = make_evidence(maps) if parts != "none" else lambda video: None
            stills = domain.read(options.data, options.pack)
            row = measure_domain(model, stills, options.objects, make)
            yield {"domain": domain.name, "evidence": parts, **row}


def measure_stacks(
    model: VideoModel, maps: ObjectMapModel, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Measure the stacks of `benchmarks.support.stacks`, a row for each kind of evidence."""
    for stack, folder in find_stacks(options.data):
        if not _is_wanted(stack.name, options.only):
            continue
        case = TrackingCase.of(stack, folder, options.tracks)
        case = replace(case, video=set_depth_ratio(case.video, DEPTH_RATIOS.get(stack.name)))
        evidence = VideoEvidence(LearnedDetector(DetectionOptions(maps=maps)), case.video)
        for parts in STACK_PARTS:
            yield {"stack": stack.name, **measure_stack(model, case, evidence, parts)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print two tables, write JSON; 0 if anything was measured."""
    options = _parse_options(arguments)
    model, maps = load_model(options.model, device="cpu"), load_detector(options.detector)
    images = [_show(row) for row in measure_images(model, maps, options)]
    stacks = [_show(row) for row in measure_stacks(model, maps, options)]
    for columns, rows in ((IMAGE_COLUMNS, images), (STACK_COLUMNS, stacks)):
        cells = [[row[key] for key in columns.values()] for row in rows]
        print("\n" + format_markdown(list(columns), cells))
    about = {"machine": describe_machine(), "model": model.card.sha256, "detector": maps.sha256}
    write_results({**about, "images": images, "stacks": stacks}, options.out)
    return 0 if images or stacks else 1


def _show(row: dict[str, Any]) -> dict[str, Any]:
    print(row, flush=True)
    return row


def _is_wanted(name: str, only: Sequence[str] | None) -> bool:
    return not only or any(part in name for part in only)


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.evidence",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("data", type=Path, help="folder of stacks with truth")
    parser.add_argument("pack", type=Path, help="folder with manifest.csv (its split val)")
    parser.add_argument("--model", default="nano", help="name or file of a model")
    parser.add_argument("--detector", help="name or file of a model with a detector")
    parser.add_argument("--objects", type=int, default=60, help="objects of a domain, at most")
    parser.add_argument("--tracks", type=int, default=20, help="objects of a stack, at most")
    parser.add_argument("--only", nargs="*", help="parts of names: measure these sets only")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())

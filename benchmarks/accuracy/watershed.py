"""Watershed: a watershed per frame, linked by overlap, beside the embedded model.

    python -m benchmarks.accuracy.watershed DATA --out results.json

Both know where each object is on one frame: the model is prompted by a box there, and of the
watershed's tracks the one that covers most of the object is taken. The watershed also knows from
the truth how large the objects are. Measured are the IoU with the truth, and seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.machine import describe_machine
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.stacks import TrackingCase, find_stacks
from benchmarks.support.watershed import link_planes, segment_plane
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session, SessionSettings

COLUMNS = {
    "stack": "stack",
    "frames": "frames",
    "objects": "objects",
    "IoU of the model": "iou",
    "of the watershed": "iou_classical",
    "on another at the end": "strayed",
    "watershed's": "strayed_classical",
    "s of the model": "seconds",
    "s of the watershed (all objects)": "seconds_classical",
}
"""Columns of the table, and their names in JSON."""


def measure_stack(model: VideoModel, name: str, case: TrackingCase) -> dict[str, Any]:
    """Measure a row of the table: both methods on one stack, one after the other."""
    start = time.perf_counter()
    with Session(case.video, model, settings=SessionSettings(patience=None)) as session:
        session.prompt_many([case.prompt(track, "box") for track in case.prompt_frames])
        session.propagate(progress=False)
        ours = np.stack([session.compute_label_plane(frame) for frame in range(len(case.video))])
    middle = time.perf_counter()
    areas = [(case.truth[frame] == track).sum() for track, frame in case.prompt_frames.items()]
    width_px = float(np.median(2 * np.sqrt(np.array(areas) / np.pi)))
    labels = link_planes(
        segment_plane(case.video.read_frame(frame).pixels, width_px)
        for frame in range(len(case.video))
    )
    end = time.perf_counter()
    chosen = {
        track: _find_label_under(labels[frame], case.truth[frame] == track)
        for track, frame in case.prompt_frames.items()
    }
    own = score_labels(ours, case.truth, {track: track for track in case.prompt_frames})
    classical = score_labels(labels, case.truth, chosen)
    return {
        "stack": name,
        "frames": len(case.video),
        "objects": len(case.prompt_frames),
        "iou": own[0],
        "iou_classical": classical[0],
        "strayed": own[1],
        "strayed_classical": classical[1],
        "seconds": middle - start,
        "seconds_classical": end - middle,
    }


def score_labels(
    labels: np.ndarray, truth: np.ndarray, labels_by_track: dict[int, int]
) -> tuple[float, float]:
    """Score labels by their IoU, and by the share of objects that they lose to another one.

    Parameters
    ----------
    labels_by_track
        The label of each true object; 0 if it has none.

    Returns
    -------
    iou, strayed
        The mean IoU over all frames of all objects, and the share of objects whose label lies on
        another object on their last frame.
    """
    ious, strayed = [], []
    for track, label in labels_by_track.items():
        frames = np.flatnonzero((truth == track).any(axis=(1, 2)))
        found, true = labels[frames] == label, truth[frames] == track
        found &= label > 0
        ious += ((found & true).sum(axis=(1, 2)) / (found | true).sum(axis=(1, 2))).tolist()
        strayed.append(_find_label_under(truth[frames[-1]], found[-1]) not in (0, track))
    return float(np.mean(ious)), float(np.mean(strayed))


def _find_label_under(plane: np.ndarray, mask: np.ndarray) -> int:
    """Find the label that covers most of a mask, apart from the background; 0 if none does."""
    counts = np.bincount(plane[mask], minlength=1)
    counts[0] = 0
    return int(counts.argmax())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if at least one stack was found."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.watershed", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder of the stacks, each with its truth")
    parser.add_argument("--objects", type=int, default=20, help="objects of a stack, at most")
    parser.add_argument(
        "--only",
        nargs="+",
        help="stacks whose name starts with this; stacks of nuclei and cells by default",
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = parser.parse_args(arguments)
    about, model, rows = (
        describe_machine(),
        load_model("nano", device="cpu"),
        list[dict[str, Any]](),
    )
    names = tuple(options.only or ("nuclei", "neurites", "CHO", "migrating"))
    for stack, folder in find_stacks(options.data):
        if stack.name.startswith(names):
            case = TrackingCase.of(stack, folder, options.objects)
            rows.append(measure_stack(model, stack.name, case))
            print(rows[-1], flush=True)
    print(
        "\n"
        + format_markdown(list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows])
    )
    write_results({"machine": about, "model": model.card.name, "results": rows}, options.out)
    return 0 if rows else 1


if __name__ == "__main__":
    raise SystemExit(main())

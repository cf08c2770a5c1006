"""Classical: watershed frame by frame, linked by the largest overlap, beside the embedded model: IoU with the truth, and seconds.

python -m benchmarks.classical DATA --out results.json

Both are told the same: where each object is on one frame. To the model that is a box; of the
watershed's tracks it chooses the one that covers most of the object there. How large objects are,
and whether a track is theirs, the watershed is told by the truth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.metrics import contingency_table
from skimage.segmentation import watershed

from benchmarks import machine
from benchmarks.accuracy import TrackingCase, find_stacks
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
"""Columns of the table, and what they are called in JSON."""


def segment_plane(plane: np.ndarray, width_px: float) -> np.ndarray:
    """(H, W) labels of the bright bodies of a plane that are about `width_px` pixels wide: Otsu's threshold, parted where they are narrow."""
    smooth = gaussian(plane, width_px / 10)
    bright = smooth > threshold_otsu(smooth)
    depth = gaussian(distance_transform_edt(bright), width_px / 10)
    peaks = peak_local_max(
        depth,
        min_distance=max(1, round(width_px / 3)),
        labels=bright.astype(int),
        exclude_border=False,
    )
    markers = np.zeros(plane.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, markers, mask=bright))


def link_planes(planes: Iterable[np.ndarray]) -> np.ndarray:
    """(frames, H, W) labels, in which what overlaps most on neighbouring frames has one number, each used once on a frame."""
    found: list[np.ndarray] = []
    last = 0
    for plane in planes:
        numbers = np.arange(int(plane.max()) + 1) + last * (np.arange(int(plane.max()) + 1) > 0)
        last += int(plane.max())
        if found:
            shared = contingency_table(found[-1], plane, ignore_labels=[0]).toarray()[1:, 1:]
            for before, now in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
                if shared[before, now]:
                    numbers[now + 1] = before + 1
        found.append(numbers[plane])
    return np.stack(found)


def measure_stack(model: VideoModel, name: str, case: TrackingCase) -> dict[str, Any]:
    """Both on one stack, one after the other: a row of the table."""
    began = time.perf_counter()
    with Session(case.video, model, settings=SessionSettings(patience=None)) as session:
        session.prompt_many([case.prompt(track, "box") for track in case.prompt_frames])
        session.propagate(progress=False)
        ours = np.stack([session.label_plane(frame) for frame in range(len(case.video))])
    between = time.perf_counter()
    wide = float(
        np.median(
            [
                2 * np.sqrt((case.truth[frame] == track).sum() / np.pi)
                for track, frame in case.prompt_frames.items()
            ]
        )
    )
    labels = link_planes(
        segment_plane(case.video.read_frame(frame).pixels, wide) for frame in range(len(case.video))
    )
    after = time.perf_counter()
    chosen = {
        track: _find_label_under(labels[frame], case.truth[frame] == track)
        for track, frame in case.prompt_frames.items()
    }
    told, classical = (
        score_labels(ours, case.truth, {track: track for track in case.prompt_frames}),
        score_labels(labels, case.truth, chosen),
    )
    return {
        "stack": name,
        "frames": len(case.video),
        "objects": len(case.prompt_frames),
        "iou": told[0],
        "iou_classical": classical[0],
        "strayed": told[1],
        "strayed_classical": classical[1],
        "seconds": between - began,
        "seconds_classical": after - between,
    }


def score_labels(
    labels: np.ndarray, truth: np.ndarray, labels_by_track: dict[int, int]
) -> tuple[float, float]:
    """IoU over all frames of all objects, and the part of them whose label lies on another object on their last frame.

    `labels_by_track`: the label by object, 0 where it has none.
    """
    ious, strayed = [], []
    for track, label in labels_by_track.items():
        frames = np.flatnonzero((truth == track).any(axis=(1, 2)))
        mine, own = labels[frames] == label, truth[frames] == track
        mine &= label > 0
        ious += ((mine & own).sum(axis=(1, 2)) / (mine | own).sum(axis=(1, 2))).tolist()
        strayed.append(_find_label_under(truth[frames[-1]], mine[-1]) not in (0, track))
    return float(np.mean(ious)), float(np.mean(strayed))


def _find_label_under(plane: np.ndarray, mask: np.ndarray) -> int:
    """The label most of a mask lies on, background left aside; 0 where there is none."""
    counts = np.bincount(plane[mask], minlength=1)
    counts[0] = 0
    return int(counts.argmax())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where at least one stack was there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.classical", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder that holds the stacks, each with its truth")
    parser.add_argument("--objects", type=int, default=20, help="of a stack at most")
    parser.add_argument(
        "--only",
        nargs="+",
        help="stacks whose name begins so; those of nuclei and cells by themselves",
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = parser.parse_args(arguments)
    about, model, rows = (
        machine.describe_machine(),
        load_model("nano", device="cpu"),
        list[dict[str, Any]](),
    )
    wanted = tuple(options.only or ("nuclei", "neurites", "CHO", "migrating"))
    for source, folder in find_stacks(options.data):
        if source.name.startswith(wanted):
            rows.append(
                measure_stack(model, source.name, TrackingCase.of(source, folder, options.objects))
            )
            print(rows[-1], flush=True)
    print(
        "\n"
        + machine.format_markdown(
            list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows]
        )
    )
    machine.write_results(
        {"machine": about, "model": model.card.name, "results": rows}, options.out
    )
    return 0 if rows else 1


if __name__ == "__main__":
    raise SystemExit(main())

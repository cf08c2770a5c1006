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
from benchmarks.accuracy import Carried, _there
from napari_sam2.api.session import Session
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Settings

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


def outlined(plane: np.ndarray, wide: float) -> np.ndarray:
    """(H, W) labels of the bright bodies of a plane that are about `wide` pixels wide: Otsu's threshold, parted where they are narrow."""
    smooth = gaussian(plane, wide / 10)
    bright = smooth > threshold_otsu(smooth)
    depth = gaussian(distance_transform_edt(bright), wide / 10)
    peaks = peak_local_max(
        depth, min_distance=max(1, round(wide / 3)), labels=bright.astype(int), exclude_border=False
    )
    markers = np.zeros(plane.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, markers, mask=bright))


def linked(planes: Iterable[np.ndarray]) -> np.ndarray:
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


def measured(model: VideoModel, name: str, case: Carried) -> dict[str, Any]:
    """Both on one stack, one after the other: a row of the table."""
    began = time.perf_counter()
    with Session(case.video, model, settings=Settings(patience=None)) as session:
        session.prompt_many([case.prompt(track, "box") for track in case.frames])
        session.propagate(progress=False)
        ours = np.stack([session.plane(frame) for frame in range(len(case.video))])
    between = time.perf_counter()
    wide = float(
        np.median(
            [
                2 * np.sqrt((case.truth[frame] == track).sum() / np.pi)
                for track, frame in case.frames.items()
            ]
        )
    )
    labels = linked(
        outlined(case.video.frame(frame).pixels, wide) for frame in range(len(case.video))
    )
    after = time.perf_counter()
    chosen = {
        track: _under(labels[frame], case.truth[frame] == track)
        for track, frame in case.frames.items()
    }
    told, classical = (
        agreed(ours, case.truth, {track: track for track in case.frames}),
        agreed(labels, case.truth, chosen),
    )
    return {
        "stack": name,
        "frames": len(case.video),
        "objects": len(case.frames),
        "iou": told[0],
        "iou_classical": classical[0],
        "strayed": told[1],
        "strayed_classical": classical[1],
        "seconds": between - began,
        "seconds_classical": after - between,
    }


def agreed(labels: np.ndarray, truth: np.ndarray, chosen: dict[int, int]) -> tuple[float, float]:
    """IoU over all frames of all objects, and the part of them whose label lies on another object on their last frame.

    `chosen`: the label by object, 0 where it has none.
    """
    ious, strayed = [], []
    for track, label in chosen.items():
        frames = np.flatnonzero((truth == track).any(axis=(1, 2)))
        mine, own = labels[frames] == label, truth[frames] == track
        mine &= label > 0
        ious += ((mine & own).sum(axis=(1, 2)) / (mine | own).sum(axis=(1, 2))).tolist()
        strayed.append(_under(truth[frames[-1]], mine[-1]) not in (0, track))
    return float(np.mean(ious)), float(np.mean(strayed))


def _under(plane: np.ndarray, mask: np.ndarray) -> int:
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
        machine.described(),
        load_model("nano", device="cpu"),
        list[dict[str, Any]](),
    )
    wanted = tuple(options.only or ("nuclei", "neurites", "CHO", "migrating"))
    for source, folder in _there(options.data):
        if source.name.startswith(wanted):
            rows.append(measured(model, source.name, Carried.of(source, folder, options.objects)))
            print(rows[-1], flush=True)
    print(
        "\n"
        + machine.markdown(list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows])
    )
    machine.keep({"machine": about, "model": model.card.name, "results": rows}, options.out)
    return 0 if rows else 1


if __name__ == "__main__":
    raise SystemExit(main())

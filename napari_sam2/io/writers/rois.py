"""ImageJ ROIs: the outline of every object on every frame, for the ROI manager."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skimage.measure import find_contours

from napari_sam2.core.track import Track
from napari_sam2.io.extras import EXPORT, import_extra


def write_rois(labels: np.ndarray, path: Path, tracks: Sequence[Track] = ()) -> None:
    """Labels (frames, H, W) as a zip of ROIs, one for each closed line; `position` is the frame, from 1, as ImageJ counts.

    Lines run between pixel centres: filling them, by the rule that a pixel belongs to what its
    centre lies in, gives the labels back. A hole is a line of its own, called so.
    """
    roifile = import_extra("roifile", EXPORT, "ImageJ ROIs")
    names = {track.id: track.name for track in tracks if track.name}
    found = []
    for frame, plane in enumerate(labels.reshape(-1, *labels.shape[-2:])):
        for label in np.unique(plane[plane > 0]):
            for number, line in enumerate(
                find_contours(
                    np.pad(plane == label, 1).astype(np.uint8), 0.5, fully_connected="low"
                )
            ):
                corners = (
                    line[:-1, ::-1] - 1 + 0.5
                )  # ImageJ measures from the corner of the first pixel, x first
                kind = "-hole" if _is_hole(corners) else ""
                name = f"{frame + 1:04d}-{int(label):04d}-{number}{kind}{'-' + names[int(label)] if int(label) in names else ''}"
                roi = roifile.ImagejRoi.frompoints(corners.astype(np.float32), name=name)
                roi.position = frame + 1
                roi.group = int(label) % 256  # one byte: what gives an object its colour in ImageJ
                found.append(roi)
    roifile.roiwrite(path, found, mode="w")


def _is_hole(corners: np.ndarray) -> bool:
    """Whether the object is outside the line: find_contours goes round what is higher the one way, round what is lower the other."""
    x, y = corners.T
    return bool(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) < 0)

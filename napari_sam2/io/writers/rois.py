"""ImageJ ROIs: the outlines of all objects on all frames, for the ROI manager."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from skimage.measure import find_contours

from napari_sam2.core.files.extras import EXPORT, import_extra
from napari_sam2.core.track import Track


def write_rois(labels: np.ndarray, path: Path, tracks: Sequence[Track] = ()) -> None:
    """Write labels (frames, H, W) as a zip of ROIs, one for each closed line.

    Lines run between pixel centres. Filling them, by the rule that a line contains the pixels whose
    centres it contains, reproduces the labels. A hole has its own line, named "-hole". The
    `position` of a ROI is its frame, counted from 1 as in ImageJ. `tracks` give the names.
    """
    roifile = import_extra("roifile", EXPORT, "ImageJ ROIs")
    names = {track.id: f"-{track.name}" for track in tracks if track.name}
    rois = []
    for frame, plane in enumerate(labels.reshape(-1, *labels.shape[-2:]), start=1):
        for label in np.unique(plane[plane > 0]).tolist():
            for number, corners in enumerate(_find_outlines(plane == label)):
                kind = "-hole" if _is_hole(corners) else ""
                roi = roifile.ImagejRoi.frompoints(
                    corners, name=f"{frame:04d}-{label:04d}-{number}{kind}{names.get(label, '')}"
                )
                roi.position = frame
                roi.group = label % 256  # one byte: ImageJ colours objects by group
                rois.append(roi)
    roifile.roiwrite(path, rois, mode="w")


def _find_outlines(mask: np.ndarray) -> Iterator[np.ndarray]:
    """The closed lines around a mask: (n, 2) float32 corners (x, y), without the repeated first."""
    padded = np.pad(mask, 1).astype(np.uint8)
    for line in find_contours(padded, 0.5, fully_connected="low"):
        # minus the padding; ImageJ counts from the corner of the first pixel, not from its centre
        yield (line[:-1, ::-1] - 1 + 0.5).astype(np.float32)


def _is_hole(corners: np.ndarray) -> bool:
    """Whether a line surrounds a hole: its signed area is negative.

    `find_contours` runs around higher values in one direction, around lower ones in the other.
    """
    x, y = corners.T.astype(np.float64)
    return bool(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) < 0)

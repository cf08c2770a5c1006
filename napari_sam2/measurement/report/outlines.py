"""Outlines, ids and colours of the objects of a label plane, for pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.color import lab2rgb
from skimage.measure import find_contours, regionprops

from napari_sam2.measurement.features.regions import LabelRegions

# turns of hue from one id to the next: neighbours differ, no two of the first hundreds agree
_HUE_STEP = 0.618033988749895
_LIGHTNESSES = (
    70.0,
    62.0,
    78.0,
)  # CIELAB: readable on a dark image and on white paper alike, blue as well as yellow
_CHROMA = 58.0


@dataclass(frozen=True, eq=False)
class ObjectOutline:
    """The border of one object: closed (n, 2) lines of (x, y) in pixels, and where its id is best written."""

    track: int
    lines: tuple[np.ndarray, ...]
    label_xy: tuple[float, float]


def find_outlines(plane: np.ndarray) -> list[ObjectOutline]:
    """The outline of every object of an (H, W) label plane, by id."""
    regions = LabelRegions.of(plane)
    found = []
    for code, region in enumerate(regionprops(regions.codes), start=1):
        top, left = region.bbox[0] - 1, region.bbox[1] - 1
        lines = tuple(
            line[:, ::-1] + (left, top)
            for line in find_contours(np.pad(region.image, 1).astype(np.uint8), 0.5)
        )
        found.append(
            ObjectOutline(
                int(regions.ids[code - 1]),
                lines,
                (float(regions.x[code - 1]), float(region.bbox[0])),
            )
        )
    return found


def get_track_colour(track: int) -> tuple[float, float, float]:
    """Red, green, blue in 0..1: always the same for the same track."""
    angle = 2 * np.pi * ((track * _HUE_STEP) % 1.0)
    lab = [
        _LIGHTNESSES[track % len(_LIGHTNESSES)],
        _CHROMA * np.cos(angle),
        _CHROMA * np.sin(angle),
    ]
    red, green, blue = np.clip(lab2rgb(np.array(lab)), 0, 1).tolist()
    return red, green, blue

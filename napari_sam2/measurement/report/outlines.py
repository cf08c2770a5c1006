"""Outlines and colours of the objects of a label plane, for figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.color import lab2rgb
from skimage.measure import find_contours, regionprops

from napari_sam2.measurement.features.regions import LabelRegions

# turns of the hue from one id to the next: the golden ratio, so that the first hundreds differ
_HUE_STEP = 0.618033988749895
# in CIELAB, so that all hues are readable on a dark image and on white paper
_LIGHTNESSES = (70.0, 62.0, 78.0)
_CHROMA = 58.0


@dataclass(frozen=True, eq=False)
class ObjectOutline:
    """The border of one object.

    `lines` are closed, (n, 2) of (x, y) in pixels; `label_xy` is a good position for its id.
    """

    track: int
    lines: tuple[np.ndarray, ...]
    label_xy: tuple[float, float]


def find_outlines(plane: np.ndarray) -> list[ObjectOutline]:
    """The outline of every object of an (H, W) label plane, by id."""
    regions = LabelRegions.of(plane)
    outlines = []
    for index, region in enumerate(regionprops(regions.codes)):
        top, left = region.bbox[:2]
        contours = find_contours(np.pad(region.image, 1).astype(np.uint8), 0.5)
        lines = tuple(line[:, ::-1] + (left - 1, top - 1) for line in contours)
        label_xy = (float(regions.x[index]), float(top))
        outlines.append(ObjectOutline(int(regions.ids[index]), lines, label_xy))
    return outlines


def get_track_colour(track: int) -> tuple[float, float, float]:
    """Red, green and blue from 0 to 1; a track always has the same colour."""
    angle = 2 * np.pi * ((track * _HUE_STEP) % 1.0)
    lab = [
        _LIGHTNESSES[track % len(_LIGHTNESSES)],
        _CHROMA * np.cos(angle),
        _CHROMA * np.sin(angle),
    ]
    red, green, blue = np.clip(lab2rgb(np.array(lab)), 0, 1).tolist()
    return red, green, blue

"""Sizes of objects of a label plane, as the size map of a detector has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Plane = NDArray[np.float32]


def measure_sizes(labels: NDArray[np.integer], depth: Plane | None = None) -> NDArray[np.float64]:
    """(n,) sizes in pixels of the objects 1..n of a (H, W) label plane; 0 where a number is free.

    The size is the geometric mean of the diameter of a disc of the same area and of the largest
    disc inside: the diameter of round objects, and nearer to the width of rods, which must be wide
    enough to be told from their neighbours. `depth` is `measure_depth` of the plane.
    """
    count = int(labels.max(initial=0))
    deepest = ndi.maximum(
        measure_depth(labels) if depth is None else depth, labels, np.arange(count + 1)
    )
    equivalent = 2 * np.sqrt(np.bincount(labels.ravel(), minlength=count + 1) / np.pi)
    sizes = np.sqrt(equivalent * np.minimum(2 * np.asarray(deepest) + 1, equivalent))
    return np.asarray(sizes[1:])


def measure_depth(labels: NDArray[np.integer]) -> Plane:
    """Distance of each pixel of a (H, W) label plane to its object's outermost pixels."""
    inside = labels > 0
    differs = labels[1:] != labels[:-1]
    inside[1:] &= ~differs
    inside[:-1] &= ~differs
    differs = labels[:, 1:] != labels[:, :-1]
    inside[:, 1:] &= ~differs
    inside[:, :-1] &= ~differs
    if inside.all():  # no boundary in sight: the transform would have nothing to measure to
        return np.ones(labels.shape, np.float32)
    return np.asarray(ndi.distance_transform_edt(inside), np.float32)

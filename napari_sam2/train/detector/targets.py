"""What the detector learns for a label plane: four maps, and where each of them counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam2.core.protocols import SIZE_OCTAVES
from napari_sam2.detection.maps.sizes import measure_depth, measure_sizes

Labels = NDArray[np.integer]
Plane = NDArray[np.float32]

_DEEP = 0.9  # the innermost point lies among pixels at least this deep, relative to the deepest
_MIN_DISTANCE_DIAMETER = 5.0  # below this an object has too few pixels for distances to mean much
_MIN_DIAMETER, _MAX_DIAMETER = 2.0, 2.0**SIZE_OCTAVES


@dataclass(frozen=True)
class DetectionTargets:
    """Maps of a (H, W) plane, all in 0..1.

    `distances_count` and `size_counts` are masks: objects too small for distances, and objects
    whose true size the crop does not show, are left out of those parts of the loss.
    """

    foreground: NDArray[np.bool_]
    boundary: Plane
    centre: Plane
    size: Plane
    distances_count: NDArray[np.bool_]
    size_counts: NDArray[np.bool_]


def compute_targets(labels: Labels) -> DetectionTargets:
    """Targets of a (H, W) plane of labels 0..n; numbers that are missing do no harm."""
    foreground = labels > 0
    depth = measure_depth(labels)
    count = int(labels.max(initial=0))
    numbers = np.arange(count + 1)
    deepest = np.asarray(ndi.maximum(depth, labels, numbers), np.float32)
    boundary = np.where(foreground, depth / np.maximum(deepest, 1e-6)[labels], 0)
    diameter = np.concatenate([[0], measure_sizes(labels, depth)])
    logs = np.log2(np.clip(diameter, _MIN_DIAMETER, _MAX_DIAMETER)) / SIZE_OCTAVES
    cut = np.zeros(count + 1, bool)
    cut[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    return DetectionTargets(
        foreground=foreground,
        boundary=boundary.astype(np.float32),
        centre=_measure_centre_distance(labels, boundary, count),
        size=logs.astype(np.float32)[labels],
        distances_count=((diameter >= _MIN_DISTANCE_DIAMETER) | (numbers == 0))[labels],
        size_counts=foreground & ~cut[labels],
    )


def _measure_centre_distance(labels: Labels, boundary: Plane, count: int) -> Plane:
    """Distance to the innermost point of the pixel's object, 1 at the farthest, 1 outside."""
    if count == 0:
        return np.ones(labels.shape, np.float32)
    numbers = np.arange(count + 1)
    y, x = np.indices(labels.shape, np.float32)
    area = np.maximum(np.bincount(labels.ravel(), minlength=count + 1), 1)
    mean_y = np.bincount(labels.ravel(), y.ravel(), count + 1) / area
    mean_x = np.bincount(labels.ravel(), x.ravel(), count + 1) / area
    deep = np.flatnonzero((labels > 0) & (boundary >= _DEEP))
    deep_labels = labels.ravel()[deep]
    off_centre = (y.ravel()[deep] - mean_y[deep_labels]) ** 2
    off_centre += (x.ravel()[deep] - mean_x[deep_labels]) ** 2
    order = np.lexsort((off_centre, deep_labels))
    present, first = np.unique(deep_labels[order], return_index=True)
    point_y, point_x = mean_y.copy(), mean_x.copy()
    point_y[present] = y.ravel()[deep[order[first]]]
    point_x[present] = x.ravel()[deep[order[first]]]
    radius = np.hypot(y - point_y[labels], x - point_x[labels])
    farthest = np.asarray(ndi.maximum(radius, labels, numbers))
    return np.where(labels > 0, radius / np.maximum(farthest, 1e-6)[labels], 1).astype(np.float32)

"""A classical method to compare with: a watershed per frame, linked by overlap."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.metrics import contingency_table
from skimage.segmentation import watershed


def segment_plane(plane: np.ndarray, width_px: float) -> np.ndarray:
    """Label bright objects of about `width_px` pixels by Otsu's threshold and a watershed."""
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
    """Link labels of neighbouring frames by the largest overlap, one to one.

    Returns (frames, H, W) labels.
    """
    linked: list[np.ndarray] = []
    last = 0
    for plane in planes:
        numbers = np.arange(int(plane.max()) + 1) + last * (np.arange(int(plane.max()) + 1) > 0)
        last += int(plane.max())
        if linked:
            overlap = contingency_table(linked[-1], plane, ignore_labels=[0]).toarray()[1:, 1:]
            for before, now in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
                if overlap[before, now]:
                    numbers[now + 1] = before + 1
        linked.append(numbers[plane])
    return np.stack(linked)

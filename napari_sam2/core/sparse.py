"""Sparse: the greys of objects that cover so little of a stack that its percentiles show nothing but noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# standard deviations: from the 0.1 to the 99.9 percentile, normal noise takes 6.2 and uniform noise
# 3.5
_NOISE_RANGE_SIGMAS = 8.0
# of the differences between neighbours: their median over the standard deviation of normal noise,
# 0.6745 · √2
_MEDIAN_DIFFERENCE_PER_SIGMA = 0.954
_MIN_BLOCKS = 8  # of 2 × 2 pixels, in all planes together
_MAX_ROWS = 256  # compared with their neighbours, in each plane


def widen_contrast_range(
    planes: Sequence[np.ndarray], low: float, high: float
) -> tuple[float, float]:
    """The range from `low` to `high`, widened to what stands out of (H, W) planes where that range holds nothing but noise.

    Where it holds more than noise it stays: one cell that is far brighter than all others must not
    darken them. What stands out is further outside than the range is wide, and larger than a hot
    pixel: blocks of 2 × 2 pixels, all of them outside.
    """
    if high - low > _NOISE_RANGE_SIGMAS * float(
        np.median([_estimate_noise(plane) for plane in planes])
    ):
        return low, high
    above, below = (
        np.concatenate([_reduce_blocks(plane, pick) for plane in planes])
        for pick in (np.minimum, np.maximum)
    )
    above, below = above[above > 2 * high - low], below[below < 2 * low - high]
    wide_low = float(np.percentile(below, 1)) if len(below) >= _MIN_BLOCKS else low
    wide_high = float(np.percentile(above, 99)) if len(above) >= _MIN_BLOCKS else high
    return wide_low, wide_high


def _estimate_noise(plane: np.ndarray) -> float:
    """Standard deviation of what differs from pixel to pixel, along the axis along which more does."""
    widths = []
    for lines in (plane, plane.T):
        some = lines[:: max(1, len(lines) // _MAX_ROWS)].astype(np.float32)
        widths.append(float(np.median(np.abs(np.diff(some, axis=1)))) if some.shape[1] > 1 else 0.0)
    return max(widths) / _MEDIAN_DIFFERENCE_PER_SIGMA


def _reduce_blocks(plane: np.ndarray, reduce: np.ufunc) -> np.ndarray:
    """The smallest or the largest of each block of 2 × 2 pixels."""
    height, width = (length // 2 * 2 for length in plane.shape)
    rows = reduce(plane[:height:2, :width], plane[1:height:2, :width])
    return np.asarray(reduce(rows[:, ::2], rows[:, 1::2])).ravel()

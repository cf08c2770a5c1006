"""Contrast: the intensities that a video shows as 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.errors import IntensityError

# standard deviations: the range from the 0.1 to the 99.9 percentile holds 6.2 of normal noise and
# 3.5 of uniform noise
_NOISE_RANGE_SIGMAS = 8.0
# median absolute difference between neighbours per standard deviation of normal noise, 0.6745 · √2
_MEDIAN_DIFFERENCE_PER_SIGMA = 0.954
_MIN_BLOCKS = 8  # of 2 × 2 pixels, in all planes together
_MAX_ROWS = 256  # rows per plane that the noise is estimated from
_PERCENTILE_PIXELS = 65_536  # pixels per plane that the percentiles are computed from


@dataclass(frozen=True)
class Contrast:
    """The intensities shown as 0 and 1: one pair for a whole video, so that dim frames stay dim.

    Raises
    ------
    IntensityError
        The two numbers are not finite, or `low` is not below `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise IntensityError(
                f"contrast from {self.low!r} to {self.high!r}: expected two different numbers, "
                "the lower first; an image that is the same everywhere shows no objects"
            )

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """Scale (H, W) intensities to float32 in 0..1, clipped; never through 8 bit."""
        scaled = (plane.astype(np.float32) - np.float32(self.low)) / np.float32(
            self.high - self.low
        )
        return np.asarray(np.clip(scaled, 0.0, 1.0))

    @classmethod
    def of(cls, planes: Sequence[np.ndarray]) -> Contrast:
        """Estimate the contrast of (H, W) planes: their 0.1 to 99.9 percentile.

        The range is wider if bright or dark objects are too sparse for the percentiles, see
        `widen_contrast_range`.
        """
        pixels = np.concatenate([subsample_pixels(plane) for plane in planes]).astype(np.float64)
        low, high = np.percentile(pixels, [0.1, 99.9])
        if low == high:
            low, high = min(p.min() for p in planes), max(p.max() for p in planes)
            return cls(float(low), float(high))
        return cls(*widen_contrast_range(planes, float(low), float(high)))


def widen_contrast_range(
    planes: Sequence[np.ndarray], low: float, high: float
) -> tuple[float, float]:
    """Widen a contrast range to sparse objects if the range holds nothing but noise.

    A range that holds more than noise stays as it is, so that one very bright cell does not darken
    all others. An object counts if it lies further outside the range than the range is wide and is
    larger than a hot pixel: all pixels of a 2 × 2 block lie outside.
    """
    noise = float(np.median([estimate_noise(plane) for plane in planes]))
    if high - low > _NOISE_RANGE_SIGMAS * noise:
        return low, high
    above, below = (
        np.concatenate([_reduce_blocks(plane, pick) for plane in planes])
        for pick in (np.minimum, np.maximum)
    )
    above, below = above[above > 2 * high - low], below[below < 2 * low - high]
    wide_low = float(np.percentile(below, 1)) if len(below) >= _MIN_BLOCKS else low
    wide_high = float(np.percentile(above, 99)) if len(above) >= _MIN_BLOCKS else high
    return wide_low, wide_high


def subsample_pixels(plane: np.ndarray) -> np.ndarray:
    """Pixels of a (H, W) plane at even distances, enough for percentiles."""
    step = max(1, math.isqrt(max(1, plane.size // _PERCENTILE_PIXELS)))
    return plane[::step, ::step].ravel()


def estimate_noise(plane: np.ndarray, *, lag: int = 1) -> float:
    """Standard deviation of the pixel noise of a (H, W) plane, along the axis with more of it.

    It is taken from the differences of pixels that are `lag` apart.
    """
    widths = []
    for lines in (plane, plane.T):
        some = lines[:: max(1, len(lines) // _MAX_ROWS)].astype(np.float32)
        steps = some[:, lag:] - some[:, :-lag]
        widths.append(float(np.median(np.abs(steps))) if steps.size else 0.0)
    return max(widths) / _MEDIAN_DIFFERENCE_PER_SIGMA


def _reduce_blocks(plane: np.ndarray, reduce: np.ufunc) -> np.ndarray:
    """The smallest or the largest pixel of each 2 × 2 block."""
    height, width = (length // 2 * 2 for length in plane.shape)
    rows = reduce(plane[:height:2, :width], plane[1:height:2, :width])
    return np.asarray(reduce(rows[:, ::2], rows[:, 1::2])).ravel()

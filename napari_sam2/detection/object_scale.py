"""ObjectScale: how large the objects of a frame are, and whether they are bright or dark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.transform import downscale_local_mean

_SCALE_STEP = 1.25  # ratio of neighbouring scales
# one octave, and one more scale on either side so that each can be a maximum
_SIGMAS = tuple(1.2 * _SCALE_STEP**power for power in range(6))
_MAX_DIAMETER_FRACTION = 0.45  # of the shorter side: anything larger is uneven illumination
_MIN_SIDE_PX = 8  # smaller planes are not analysed
_MIN_RELATIVE_RESPONSE = 0.35  # of the strongest responses: weaker ones are texture
# percentiles of the grey values; most of a frame is background, so objects are the longer tail
_TAIL_PERCENTILES = (2, 98)
DIAMETER_PER_SIGMA = 2 * np.sqrt(2)
"""Diameter of the disc with the strongest response, per sigma (Lindeberg 1998)."""


@dataclass(frozen=True)
class ObjectScale:
    """Diameter of typical objects in pixels; `dark` if they are darker than the background."""

    diameter_px: float
    dark: bool = False


def estimate_scale(plane: np.ndarray, *, dark: bool | None = None) -> ObjectScale | None:
    """Scale of an (H, W) plane in 0..1; None if nothing stands out.

    The diameter is the median over all strong maxima of the Laplacian of Gaussian, weighted by
    area. `dark` is estimated by `is_dark` if it is None.
    """
    side = is_dark(plane) if dark is None else dark
    diameter = _estimate_diameter_px(-plane if side else plane)
    return None if diameter is None else ObjectScale(diameter, side)


def is_dark(plane: np.ndarray) -> bool:
    """Whether objects are darker than the background: they are the longer tail of the values."""
    low, middle, high = np.percentile(plane, [_TAIL_PERCENTILES[0], 50, _TAIL_PERCENTILES[1]])
    return bool(middle - low > high - middle)


def _estimate_diameter_px(plane: np.ndarray) -> float | None:
    peaks = _find_scale_peaks(plane)
    peaks = peaks[DIAMETER_PER_SIGMA * peaks[:, 0] <= _MAX_DIAMETER_FRACTION * min(plane.shape)]
    if not len(peaks):
        return None
    sigma, response = peaks.T
    weight = response * sigma**2
    kept = response >= _MIN_RELATIVE_RESPONSE * np.average(response, weights=weight)
    order = np.argsort(sigma[kept], kind="stable")
    share = np.cumsum(weight[kept][order])
    return float(DIAMETER_PER_SIGMA * sigma[kept][order][np.searchsorted(share, share[-1] / 2)])


def _find_scale_peaks(plane: np.ndarray) -> np.ndarray:
    """(n, 2) sigma in pixels, and response, of each maximum over position and scale."""
    found = []
    zoom, level = 1, np.asarray(plane, dtype=np.float32)
    while min(level.shape) >= _MIN_SIDE_PX:
        responses = np.stack(
            [-(sigma**2) * ndimage.gaussian_laplace(level, sigma) for sigma in _SIGMAS]
        )
        highest = ndimage.maximum_filter(responses, size=3, mode="nearest")
        inner = (responses == highest)[1:-1] & (responses[1:-1] > 1e-6)
        scale = np.nonzero(inner)[0]
        found.append(
            np.stack([zoom * np.array(_SIGMAS)[1:-1][scale], responses[1:-1][inner]], axis=1)
        )
        height, width = (side // 2 * 2 for side in level.shape)
        level = downscale_local_mean(level[:height, :width], (2, 2)).astype(np.float32)
        zoom *= 2
    return np.concatenate(found) if found else np.zeros((0, 2))

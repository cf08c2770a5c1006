"""Scale: how large the objects of a frame are, and whether they are bright or dark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.transform import downscale_local_mean

_SCALE_STEP = 1.25  # from one scale to the next
_SIGMAS = tuple(
    1.2 * _SCALE_STEP**power for power in range(6)
)  # of one octave, and one more on either side to be a maximum against
_MAX_DIAMETER_SHARE = 0.45  # of a plane's shorter side: what is larger is no object but the light
_MIN_SIDE_PX = 8  # side of a plane that is worth looking at
_MIN_RELATIVE_RESPONSE = 0.35  # of the strongest responses: what is an object and not its texture
_TAIL_PERCENTILES = (
    2,
    98,
    # percentiles: the longer tail of the grey values is that of the objects, the background being most
    # of a frame
)
DIAMETER_PER_SIGMA = 2 * np.sqrt(2)
"""A disc of this diameter in spreads answers a Laplacian of Gaussian most (Lindeberg 1998)."""


@dataclass(frozen=True)
class ObjectScale:
    """Diameter of typical objects in pixels; `dark` where they are darker than what is around them."""

    diameter_px: float
    dark: bool = False


def estimate_scale(plane: np.ndarray, *, dark: bool | None = None) -> ObjectScale | None:
    """The Scale of a (H, W) plane in 0..1, from the maxima of its Laplacian of Gaussian over place and scale; None where it has none.

    `dark` is guessed where None, see `is_dark`. The diameter is the median over all strong maxima,
    each with the weight of its area.
    """
    side = is_dark(plane) if dark is None else dark
    diameter = _estimate_diameter_px(-plane if side else plane)
    return None if diameter is None else ObjectScale(diameter, side)


def is_dark(plane: np.ndarray) -> bool:
    """Whether the objects of a plane are darker than its background: their grey values are the longer tail."""
    low, middle, high = np.percentile(plane, [_TAIL_PERCENTILES[0], 50, _TAIL_PERCENTILES[1]])
    return bool(middle - low > high - middle)


def _estimate_diameter_px(plane: np.ndarray) -> float | None:
    peaks = _find_scale_peaks(plane)
    peaks = peaks[DIAMETER_PER_SIGMA * peaks[:, 0] <= _MAX_DIAMETER_SHARE * min(plane.shape)]
    if not len(peaks):
        return None
    sigma, response = peaks.T
    weight = response * sigma**2
    kept = response >= _MIN_RELATIVE_RESPONSE * np.average(response, weights=weight)
    order = np.argsort(sigma[kept], kind="stable")
    share = np.cumsum(weight[kept][order])
    return float(DIAMETER_PER_SIGMA * sigma[kept][order][np.searchsorted(share, share[-1] / 2)])


def _find_scale_peaks(plane: np.ndarray) -> np.ndarray:
    """(n, 2) spread in pixels, and response, of every maximum; octave by octave, each on a plane half as large."""
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

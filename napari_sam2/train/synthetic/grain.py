"""Grain: smooth random textures, made once and looked up at any place."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

SIDE = 256  # of a plane, a power of two: what lies beyond wraps around
_WAVELENGTHS = (3.0, 6.0, 12.0, 24.0, 48.0)
_PLANES = 6  # of each wavelength: scenes differ in more than where they look


class Grain:
    """A random texture of one wavelength in pixels, of mean 0 and standard deviation 1, the same at the same place."""

    def __init__(self, rng: np.random.Generator, wavelength: float) -> None:
        number = int(
            np.clip(
                np.searchsorted(_WAVELENGTHS, wavelength, side="right") - 1,
                0,
                len(_WAVELENGTHS) - 1,
            )
        )
        self._plane = _bank(number)[rng.integers(_PLANES)]
        self._scale = np.float32(_WAVELENGTHS[number] / wavelength)
        self._shift = rng.integers(0, SIDE, 2)

    def __call__(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float32 values at places of any (broadcast) shape, the nearest sample of a smooth plane."""
        rows = (y * self._scale + self._shift[0]).astype(np.int32) & (SIDE - 1)
        columns = (x * self._scale + self._shift[1]).astype(np.int32) & (SIDE - 1)
        return np.asarray(self._plane.ravel()[rows * SIDE + columns])


@lru_cache(maxsize=len(_WAVELENGTHS))
def _bank(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    white = rng.standard_normal((_PLANES, SIDE, SIDE), dtype=np.float32)
    sigma = _WAVELENGTHS[number] / 4
    planes = np.stack([gaussian_filter(plane, sigma, mode="wrap") for plane in white])
    return np.asarray(planes / planes.std(axis=(1, 2), keepdims=True))

"""Smooth random textures, made once and sampled at any position."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

SIDE_PX = 256  # of a plane, a power of two: positions beyond wrap around
_WAVELENGTHS_PX = (3.0, 6.0, 12.0, 24.0, 48.0)
_PLANES_PER_WAVELENGTH = 6  # so that scenes differ in more than the position of their texture


class Texture:
    """A random texture of one wavelength in pixels, with mean 0 and standard deviation 1."""

    def __init__(self, rng: np.random.Generator, wavelength: float) -> None:
        number = int(
            np.clip(
                np.searchsorted(_WAVELENGTHS_PX, wavelength, side="right") - 1,
                0,
                len(_WAVELENGTHS_PX) - 1,
            )
        )
        self._plane = _make_planes(number)[rng.integers(_PLANES_PER_WAVELENGTH)]
        self._scale = np.float32(_WAVELENGTHS_PX[number] / wavelength)
        self._shift = rng.integers(0, SIDE_PX, 2)

    def __call__(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Sample float32 values at positions of any shape (broadcast)."""
        rows = (y * self._scale + self._shift[0]).astype(np.int32) & (SIDE_PX - 1)
        columns = (x * self._scale + self._shift[1]).astype(np.int32) & (SIDE_PX - 1)
        return np.asarray(self._plane.ravel()[rows * SIDE_PX + columns])


@lru_cache(maxsize=len(_WAVELENGTHS_PX))
def _make_planes(wavelength_index: int) -> np.ndarray:
    rng = np.random.default_rng(wavelength_index)
    white = rng.standard_normal((_PLANES_PER_WAVELENGTH, SIDE_PX, SIDE_PX), dtype=np.float32)
    sigma = _WAVELENGTHS_PX[wavelength_index] / 4
    planes = np.stack([gaussian_filter(plane, sigma, mode="wrap") for plane in white])
    return np.asarray(planes / planes.std(axis=(1, 2), keepdims=True))

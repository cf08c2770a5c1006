"""Spots (puncta) inside objects: maxima of the Laplacian of Gaussian that stand out of the noise, in two or three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from napari_sam2.measurement.features.options import SpotOptions
from napari_sam2.measurement.features.regions import LabelRegions

_SPOT_RADIUS_SIGMAS = (
    3.0  # of a spot, in its own spreads: holds 98.9 % of a Gaussian's light in two dimensions
)
# of an object's range of grey values: what stands out less is no spot, however little noise there
# is
_MIN_RELATIVE_CONTRAST = 0.01
_ROUNDING_ERROR = 1e-6  # of the largest grey value: less is the arithmetic's own noise
_MAD_TO_STD = 1.4826  # standard deviation of a normal distribution by its median absolute deviation
_MIN_NOISE_PIXELS = 30  # pixels from which on an object tells its own noise


@dataclass(frozen=True, eq=False)
class Spots:
    """The spots of one object: (n, 2) or (n, 3) positions in the crop they were looked for in, and their light above the object's own."""

    positions: np.ndarray
    total_intensity: float

    def __len__(self) -> int:
        return len(self.positions)


def detect_spots(pixels: np.ndarray, mask: np.ndarray, options: SpotOptions) -> Spots:
    """The spots of one object, from a raw (h, w) or (d, h, w) crop and its mask of the same shape.

    Outside the mask the crop is filled with what the object is, smoothed, at the nearest pixel
    inside, so that neither its edge is a spot nor the noise there counts twice. A spot is a local
    maximum of the response, the negative Laplacian of Gaussian of the spots' own spread, that is
    `SpotOptions.noises` times above the noise of the response. That follows from the noise of single
    pixels, measured on this object's pixels by the median of a second difference (Immerkaer 1996),
    so that bright objects, which have more photon noise, have a higher threshold. `total_intensity` is the
    light of all spots together: what lies above the median of the object's other pixels, within
    three spreads of a spot.
    """
    sigma = _get_sigma(options, mask.ndim)
    if not mask.any():
        return Spots(np.zeros((0, mask.ndim)), 0.0)
    room = [int(np.ceil(4 * each)) for each in sigma]
    values = pixels[mask].astype(np.float64)
    centred = pixels - np.median(
        values
    )  # a filter cut off at four spreads does not quite add up to 0
    padded, inside = (np.pad(each, [(side, side) for side in room]) for each in (centred, mask))
    response = -ndimage.gaussian_laplace(_fill_outside(padded, inside, sigma), sigma)[
        tuple(slice(each, -each) for each in room)
    ]
    noise = _estimate_noise(pixels.astype(np.float64), mask) * _compute_noise_gain(sigma)
    flat = max(
        _MIN_RELATIVE_CONTRAST * float(np.ptp(values)),
        _ROUNDING_ERROR * float(np.abs(values).max()),
    ) * _compute_peak_response(sigma)
    least = max(options.min_snr * noise, flat)
    highest = ndimage.maximum_filter(response, footprint=_make_footprint(mask.ndim), mode="nearest")
    positions = np.argwhere((response == highest) & (response > least) & mask)
    return Spots(positions, _sum_intensity(pixels, mask, positions, sigma))


def measure_plane_spots(
    regions: LabelRegions, pixels: np.ndarray, options: SpotOptions
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) number of spots of each region of a plane, and (n,) their light."""
    found = [
        detect_spots(pixels[box], regions.get_mask(index), options)
        for index, box in enumerate(regions.boxes)
    ]
    return np.array([len(each) for each in found], dtype=np.float64), np.array(
        [each.total_intensity for each in found], dtype=np.float64
    )


def _get_sigma(options: SpotOptions, ndim: int) -> tuple[float, ...]:
    return (options.sigma_z,) * (ndim - 2) + (options.sigma_px,) * 2


def _fill_outside(crop: np.ndarray, mask: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """The crop, and wherever the mask is not the nearest of the object's own values, smoothed without what is around it."""
    broad = [2 * each for each in sigma]
    weight = ndimage.gaussian_filter(mask.astype(np.float64), broad, mode="constant")
    smooth = ndimage.gaussian_filter(
        np.where(mask, crop, 0.0), broad, mode="constant"
    ) / np.maximum(weight, 1e-12)
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.where(mask, crop, smooth[tuple(nearest)])


def _estimate_noise(crop: np.ndarray, mask: np.ndarray) -> float:
    """Standard deviation of the noise of a pixel: second differences across the plane, which structures of several pixels hardly have."""
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    rough = ndimage.convolve(crop, kernel.reshape((1,) * (crop.ndim - 2) + (3, 3)), mode="nearest")
    inner = ndimage.binary_erosion(mask, np.ones((1,) * (mask.ndim - 2) + (3, 3), dtype=bool))
    sample = rough[inner] if np.count_nonzero(inner) >= _MIN_NOISE_PIXELS else rough[mask]
    return float(_MAD_TO_STD * np.median(np.abs(sample)) / 6.0)  # 6 is the norm of the kernel


@lru_cache(maxsize=32)
def _compute_noise_gain(sigma: tuple[float, ...]) -> float:
    """Standard deviation of the response to white noise of 1."""
    return float(np.sqrt((_compute_impulse_response(sigma) ** 2).sum()))


@lru_cache(maxsize=32)
def _compute_peak_response(sigma: tuple[float, ...]) -> float:
    """The response to a Gaussian spot of height 1 and this very spread, at its middle."""
    shape = tuple(2 * int(np.ceil(4 * each)) + 1 for each in sigma)
    away = np.indices(shape) - np.array([(side - 1) / 2 for side in shape]).reshape(
        -1, *(1,) * len(shape)
    )
    spot = np.exp(
        -0.5 * sum((each / spread) ** 2 for each, spread in zip(away, sigma, strict=True))
    )
    return float(
        -ndimage.gaussian_laplace(spot, sigma, mode="nearest")[tuple(side // 2 for side in shape)]
    )


def _compute_impulse_response(sigma: Sequence[float]) -> np.ndarray:
    plane = np.zeros(tuple(2 * int(np.ceil(5 * each)) + 1 for each in sigma))
    plane[tuple(side // 2 for side in plane.shape)] = 1.0
    return np.asarray(ndimage.gaussian_laplace(plane, sigma))


def _make_footprint(ndim: int) -> np.ndarray:
    return np.ones((3,) * ndim, dtype=bool)


def _sum_intensity(
    pixels: np.ndarray, mask: np.ndarray, positions: np.ndarray, sigma: Sequence[float]
) -> float:
    if not len(positions):
        return 0.0
    away = np.ones(mask.shape, dtype=bool)
    away[tuple(positions.T)] = False
    near = mask & (
        ndimage.distance_transform_edt(away, sampling=[1.0 / each for each in sigma])
        <= _SPOT_RADIUS_SIGMAS
    )
    rest = pixels[mask & ~near]
    base = float(np.median(rest if rest.size else pixels[mask]))
    return float((pixels[near].astype(np.float64) - base).sum())

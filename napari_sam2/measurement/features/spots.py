"""Spots (puncta) inside objects, in 2D or 3D: maxima of the Laplacian of Gaussian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from napari_sam2.measurement.features.background import MAD_TO_STD
from napari_sam2.measurement.features.options import SpotOptions
from napari_sam2.measurement.features.regions import LabelRegions

_SPOT_RADIUS_SIGMAS = 3.0  # contains 98.9 % of the intensity of a Gaussian in 2D
_MIN_RELATIVE_CONTRAST = 0.01  # height of a spot without noise, in ranges of grey values
_ROUNDING_ERROR = 1e-6  # of the largest grey value
_MIN_NOISE_PIXELS = 30  # fewer pixels are not enough to estimate the noise
_FILTER_SIGMAS = 4.0  # SciPy truncates Gaussian filters there
_SECOND_DIFFERENCE = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])


@dataclass(frozen=True, eq=False)
class Spots:
    """The spots of one object.

    `positions` are (n, 2) or (n, 3) indices in the crop; `total_intensity` is the sum of all spots
    above the rest of the object.
    """

    positions: np.ndarray
    total_intensity: float

    def __len__(self) -> int:
        return len(self.positions)


def detect_spots(pixels: np.ndarray, mask: np.ndarray, options: SpotOptions) -> Spots:
    """Detect the spots of one object.

    A spot is a local maximum of the response, the negative Laplacian of Gaussian with the spread of
    spots, that is more than `SpotOptions.min_snr` times the noise of the response. This noise is
    computed from the noise of the pixels of this object, the median of second differences
    (Immerkaer 1996), so that bright objects with more photon noise have a higher threshold.

    Outside the mask, the crop is filled with smoothed values of the nearest pixels inside, so that
    neither the edge of the object nor repeated noise is detected.

    Parameters
    ----------
    pixels
        Raw (h, w) or (d, h, w) crop around the object.
    mask
        The object, of the same shape.

    Returns
    -------
    Spots
        The positions, and the total intensity within three spreads of a spot, above the median of
        the other pixels of the object.
    """
    sigma = _get_sigma(options, mask.ndim)
    if not mask.any():
        return Spots(np.zeros((0, mask.ndim)), 0.0)
    response = _compute_response(pixels, mask, sigma)
    threshold = _compute_threshold(pixels, mask, sigma, options.min_snr)
    maxima = ndimage.maximum_filter(response, size=3, mode="nearest")
    positions = np.argwhere((response == maxima) & (response > threshold) & mask)
    return Spots(positions, _sum_intensity(pixels, mask, positions, sigma))


def measure_plane_spots(
    regions: LabelRegions, pixels: np.ndarray, options: SpotOptions
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) number of spots of each object of a plane, and (n,) their total intensity."""
    spots = [
        detect_spots(pixels[box], regions.get_mask(index), options)
        for index, box in enumerate(regions.boxes)
    ]
    counts = np.array([len(each) for each in spots], dtype=np.float64)
    return counts, np.array([each.total_intensity for each in spots], dtype=np.float64)


def _get_sigma(options: SpotOptions, ndim: int) -> tuple[float, ...]:
    """The spread of a spot along each axis, in pixels."""
    return (options.sigma_z,) * (ndim - 2) + (options.sigma_px,) * 2


def _compute_response(pixels: np.ndarray, mask: np.ndarray, sigma: tuple[float, ...]) -> np.ndarray:
    """The negative Laplacian of Gaussian of the object, of the shape of the mask."""
    margin = [int(np.ceil(_FILTER_SIGMAS * each)) for each in sigma]
    # centred, because the weights of a truncated filter do not add up to exactly 0
    centred = pixels - np.median(pixels[mask].astype(np.float64))
    padded, inside = (np.pad(each, [(side, side) for side in margin]) for each in (centred, mask))
    response = -ndimage.gaussian_laplace(_fill_outside(padded, inside, sigma), sigma)
    return np.asarray(response[tuple(slice(side, -side) for side in margin)])


def _compute_threshold(
    pixels: np.ndarray, mask: np.ndarray, sigma: tuple[float, ...], min_snr: float
) -> float:
    """The smallest response of a spot: above the noise, and not negligible in its height."""
    noise = _estimate_noise(pixels.astype(np.float64), mask) * _compute_noise_gain(sigma)
    values = pixels[mask].astype(np.float64)
    min_height = max(
        _MIN_RELATIVE_CONTRAST * float(np.ptp(values)),
        _ROUNDING_ERROR * float(np.abs(values).max()),
    )
    return max(min_snr * noise, min_height * _compute_peak_response(sigma))


def _fill_outside(crop: np.ndarray, mask: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """The crop, with the smoothed value of the nearest pixel of the object outside the mask."""
    broad = [2 * each for each in sigma]
    weight = ndimage.gaussian_filter(mask.astype(np.float64), broad, mode="constant")
    smooth = ndimage.gaussian_filter(
        np.where(mask, crop, 0.0), broad, mode="constant"
    ) / np.maximum(weight, 1e-12)
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.where(mask, crop, smooth[tuple(nearest)])


def _estimate_noise(crop: np.ndarray, mask: np.ndarray) -> float:
    """Standard deviation of the noise of a pixel, from second differences in the plane.

    Structures of several pixels have small second differences.
    """
    shape = (1,) * (crop.ndim - 2) + (3, 3)
    differences = ndimage.convolve(crop, _SECOND_DIFFERENCE.reshape(shape), mode="nearest")
    inner = ndimage.binary_erosion(mask, np.ones(shape, dtype=bool))
    if np.count_nonzero(inner) < _MIN_NOISE_PIXELS:
        inner = mask
    kernel_norm = float(np.linalg.norm(_SECOND_DIFFERENCE))
    return float(MAD_TO_STD * np.median(np.abs(differences[inner])) / kernel_norm)


@lru_cache(maxsize=32)
def _compute_noise_gain(sigma: tuple[float, ...]) -> float:
    """Standard deviation of the response to white noise of standard deviation 1."""
    return float(np.sqrt((_compute_impulse_response(sigma) ** 2).sum()))


@lru_cache(maxsize=32)
def _compute_peak_response(sigma: tuple[float, ...]) -> float:
    """The response at the centre of a Gaussian spot of height 1 and this spread."""
    shape = tuple(2 * int(np.ceil(_FILTER_SIGMAS * each)) + 1 for each in sigma)
    centre = tuple(side // 2 for side in shape)
    squares = [
        ((indices - middle) / spread) ** 2
        for indices, middle, spread in zip(np.indices(shape), centre, sigma, strict=True)
    ]
    spot = np.exp(-0.5 * sum(squares))
    return float(-ndimage.gaussian_laplace(spot, sigma, mode="nearest")[centre])


def _compute_impulse_response(sigma: Sequence[float]) -> np.ndarray:
    plane = np.zeros(tuple(2 * int(np.ceil(5 * each)) + 1 for each in sigma))
    plane[tuple(side // 2 for side in plane.shape)] = 1.0
    return np.asarray(ndimage.gaussian_laplace(plane, sigma))


def _sum_intensity(
    pixels: np.ndarray, mask: np.ndarray, positions: np.ndarray, sigma: Sequence[float]
) -> float:
    """The intensity near all spots, above the median of the other pixels of the object."""
    if not len(positions):
        return 0.0
    is_off_spot = np.ones(mask.shape, dtype=bool)
    is_off_spot[tuple(positions.T)] = False
    sampling = [1.0 / each for each in sigma]  # distances in spreads
    distance = ndimage.distance_transform_edt(is_off_spot, sampling=sampling)
    near = mask & (distance <= _SPOT_RADIUS_SIGMAS)
    others = pixels[mask & ~near]
    background = float(np.median(others if others.size else pixels[mask]))
    return float((pixels[near].astype(np.float64) - background).sum())

"""Colocalisation of channels on the pixels of each object."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from napari_sam2.measurement.features.background import (
    compute_background,
    compute_background_noise,
)
from napari_sam2.measurement.features.regions import LabelRegions

COEFFICIENTS = ("pearson", "manders1", "manders2")
"""The first part of the names of the columns."""

_SIGNAL_SNR = 3.0  # height of a signal above the background, in units of the noise


def list_channel_pairs(n_channels: int) -> list[str]:
    """The endings of the columns in order: ``c0_c1``, ``c0_c2``, …."""
    return [f"c{a}_c{b}" for a, b in combinations(range(n_channels), 2)]


def compute_colocalisation(
    regions: LabelRegions, planes: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """`COEFFICIENTS` of each pair of channels and each object.

    Parameters
    ----------
    planes
        The raw (H, W) planes of all channels.

    Returns
    -------
    dict[str, np.ndarray]
        (n,) float64 by name of column. `pearson` is the correlation of the pixels of the object,
        NaN if a channel is constant in it. `manders1` is the part of the intensity of the first
        channel, above its background, on pixels where the second channel has a signal; `manders2`
        exchanges the channels (Manders 1993). A signal is more than 3 times the noise above the
        background, both measured on the pixels of no object.
    """
    images = [_subtract_background(regions, plane.astype(np.float64)) for plane in planes]
    signals = [_find_signal(regions, image) for image in images]
    columns: dict[str, np.ndarray] = {}
    pairs = combinations(range(len(planes)), 2)
    for name, (a, b) in zip(list_channel_pairs(len(planes)), pairs, strict=True):
        columns[f"pearson_{name}"] = _compute_pearson(regions, images[a], images[b])
        columns[f"manders1_{name}"] = _compute_manders(regions, images[a], signals[b])
        columns[f"manders2_{name}"] = _compute_manders(regions, images[b], signals[a])
    return columns


def _subtract_background(regions: LabelRegions, image: np.ndarray) -> np.ndarray:
    """The image minus its background, or minus its minimum if objects cover the whole plane."""
    background = compute_background(regions, image)
    return image - (image.min() if np.isnan(background) else background)


def _find_signal(regions: LabelRegions, image: np.ndarray) -> np.ndarray:
    """Whether each pixel of an image without background has a signal."""
    noise = compute_background_noise(regions, image)
    return np.asarray(image > (0.0 if np.isnan(noise) else _SIGNAL_SNR * noise))


def _compute_pearson(regions: LabelRegions, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.array(
        [
            _correlate(regions.get_values(index, first), regions.get_values(index, second))
            for index in range(len(regions))
        ]
    )


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _compute_manders(
    regions: LabelRegions, intensity: np.ndarray, signal: np.ndarray
) -> np.ndarray:
    positive = np.maximum(intensity, 0.0)
    index = np.arange(1, len(regions) + 1)
    total = ndimage.sum_labels(positive, regions.codes, index)
    inside = ndimage.sum_labels(positive * signal, regions.codes, index)
    return np.asarray(np.divide(inside, total, out=np.full(len(regions), np.nan), where=total > 0))

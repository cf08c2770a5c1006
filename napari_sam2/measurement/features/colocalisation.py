"""Colocalisation: how two channels go together on the pixels of each object."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from napari_sam2.measurement.features.regions import LabelRegions

COEFFICIENTS = ("pearson", "manders1", "manders2")
_SIGNAL_SNR = 3.0  # above the background: signal
_MAD_TO_STD = 1.4826


def list_channel_pairs(n_channels: int) -> list[str]:
    """``c0_c1``, ``c0_c2``, …: the endings of the columns, in order."""
    return [f"c{a}_c{b}" for a, b in combinations(range(n_channels), 2)]


def compute_colocalisation(
    regions: LabelRegions, planes: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """`COEFFICIENTS` of each pair of channels and each region, (n,) float64 each; `planes` are the raw (H, W) of all channels.

    `pearson`: of the pixels of the object; NaN where a channel is the same everywhere in it.
    `manders1`: the part of the first channel's light, above its background, on pixels where the
    second one has a signal; `manders2` the other way round (Manders 1993). A signal is what lies
    three times the noise above the background, both of all pixels outside objects.
    """
    lights = [_subtract_background(regions, plane.astype(np.float64)) for plane in planes]
    signals = [light > _SIGNAL_SNR * noise for light, noise in lights]
    columns: dict[str, np.ndarray] = {}
    for name, (a, b) in zip(
        list_channel_pairs(len(planes)), combinations(range(len(planes)), 2), strict=True
    ):
        first, second = lights[a][0], lights[b][0]
        columns[f"pearson_{name}"] = np.array(
            [
                _compute_pearson(regions.get_values(k, first), regions.get_values(k, second))
                for k in range(len(regions))
            ]
        )
        columns[f"manders1_{name}"] = _compute_manders(regions, first, signals[b])
        columns[f"manders2_{name}"] = _compute_manders(regions, second, signals[a])
    return columns


def _subtract_background(regions: LabelRegions, image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image above its background, and the noise of that; without a background, above the least of the plane."""
    free = image[regions.codes == 0]
    if not free.size:
        return image - image.min(), 0.0
    base = float(np.median(free))
    return image - base, float(_MAD_TO_STD * np.median(np.abs(free - base)))


def _compute_pearson(first: np.ndarray, second: np.ndarray) -> float:
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _compute_manders(
    regions: LabelRegions, intensity: np.ndarray, signal: np.ndarray
) -> np.ndarray:
    positive = np.maximum(intensity, 0.0)
    index = np.arange(1, len(regions) + 1)
    whole = ndimage.sum_labels(positive, regions.codes, index)
    inside = ndimage.sum_labels(positive * signal, regions.codes, index)
    return np.asarray(np.divide(inside, whole, out=np.full(len(regions), np.nan), where=whole > 0))

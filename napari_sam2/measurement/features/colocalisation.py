"""Colocalisation: how two channels go together on the pixels of each object."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from napari_sam2.measurement.features.regions import Regions

COEFFICIENTS = ("pearson", "manders1", "manders2")
_NOISES = 3.0  # above the background: signal
_MAD = 1.4826


def pair_names(channels: int) -> list[str]:
    """``c0_c1``, ``c0_c2``, …: the endings of the columns, in order."""
    return [f"c{a}_c{b}" for a, b in combinations(range(channels), 2)]


def colocalisation(regions: Regions, planes: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """`COEFFICIENTS` of each pair of channels and each region, (n,) float64 each; `planes` are the raw (H, W) of all channels.

    `pearson`: of the pixels of the object; NaN where a channel is the same everywhere in it.
    `manders1`: the part of the first channel's light, above its background, on pixels where the
    second one has a signal; `manders2` the other way round (Manders 1993). A signal is what lies
    three times the noise above the background, both of all pixels outside objects.
    """
    lights = [_above(regions, plane.astype(np.float64)) for plane in planes]
    signals = [light > _NOISES * noise for light, noise in lights]
    columns: dict[str, np.ndarray] = {}
    for name, (a, b) in zip(
        pair_names(len(planes)), combinations(range(len(planes)), 2), strict=True
    ):
        first, second = lights[a][0], lights[b][0]
        columns[f"pearson_{name}"] = np.array(
            [
                _pearson(regions.values(k, first), regions.values(k, second))
                for k in range(len(regions))
            ]
        )
        columns[f"manders1_{name}"] = _part(regions, first, signals[b])
        columns[f"manders2_{name}"] = _part(regions, second, signals[a])
    return columns


def _above(regions: Regions, image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image above its background, and the noise of that; without a background, above the least of the plane."""
    free = image[regions.codes == 0]
    if not free.size:
        return image - image.min(), 0.0
    base = float(np.median(free))
    return image - base, float(_MAD * np.median(np.abs(free - base)))


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _part(regions: Regions, light: np.ndarray, where: np.ndarray) -> np.ndarray:
    positive = np.maximum(light, 0.0)
    index = np.arange(1, len(regions) + 1)
    whole = ndimage.sum_labels(positive, regions.codes, index)
    inside = ndimage.sum_labels(positive * where, regions.codes, index)
    return np.asarray(np.divide(inside, whole, out=np.full(len(regions), np.nan), where=whole > 0))

"""Intensities of objects on one plane of one channel, from the raw pixels of the file."""

from __future__ import annotations

import numpy as np
from skimage.measure import regionprops_table

from napari_sam2.measurement.features.background import compute_background
from napari_sam2.measurement.features.regions import LabelRegions

QUANTITIES = ("mean", "sum", "min", "max", "std", "background", "corrected_sum")
"""In the order of the columns of every table."""

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
"""Quantiles by the name of their columns."""

EXTRA_QUANTITIES = (*QUANTILES, "background_global", "corrected_sum_global")
"""Columns after all fixed columns."""


def measure_intensities(regions: LabelRegions, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """`QUANTITIES` of each object, (n,) float64 each, from a raw (H, W) plane.

    Sums are computed in float64, so they are exact for integers below 2**53. `std` is that of the
    pixels (ddof 0). `background` is the median of the object's ring; if the ring is empty, the
    median of all pixels of no object; NaN if there are none. `corrected_sum` is sum - area ×
    background (corrected total fluorescence, CTCF).
    """
    if not regions.ids.size:
        return {name: np.zeros(0) for name in QUANTITIES}
    image = pixels.astype(np.float64)
    properties = regionprops_table(
        regions.codes,
        image,
        properties=("intensity_mean", "intensity_min", "intensity_max", "intensity_std"),
        extra_properties=(intensity_sum,),
    )
    measured = {
        name: np.asarray(properties[f"intensity_{name}"], dtype=np.float64)
        for name in ("mean", "sum", "min", "max", "std")
    }
    background = _compute_local_background(regions, image)
    return {
        **measured,
        "background": background,
        "corrected_sum": measured["sum"] - regions.area_px * background,
    }


def measure_extra_intensities(
    regions: LabelRegions, pixels: np.ndarray, sums: np.ndarray
) -> dict[str, np.ndarray]:
    """`EXTRA_QUANTITIES` of each object, (n,) float64 each; `sums` is the `sum` of each.

    Quantiles are linear (NumPy's default). `background_global` is the median of all pixels of the
    plane that belong to no object, NaN if there are none; `corrected_sum_global` is sum - area ×
    background_global.
    """
    image = pixels.astype(np.float64)
    levels = list(QUANTILES.values())
    quantiles = [
        np.quantile(regions.get_values(index, image), levels) for index in range(len(regions))
    ]
    columns = dict(zip(QUANTILES, np.array(quantiles).reshape(-1, len(levels)).T, strict=True))
    background = np.full(len(regions), compute_background(regions, image))
    return {
        **columns,
        "background_global": background,
        "corrected_sum_global": sums - regions.area_px * background,
    }


def count_saturated_pixels(
    regions: LabelRegions, pixels: np.ndarray, level: float | None
) -> np.ndarray:
    """(n,) how many pixels of each object are at or above `level`; NaN if `level` is None."""
    if level is None:
        return np.full(len(regions), np.nan)
    saturated = regions.codes[pixels >= level]
    return np.bincount(saturated, minlength=len(regions) + 1)[1:].astype(np.float64)


def intensity_sum(mask: np.ndarray, image: np.ndarray) -> float:
    """The sum of `image` in `mask`; regionprops_table names a column after this function."""
    return float(image[mask].sum())


def _compute_local_background(regions: LabelRegions, image: np.ndarray) -> np.ndarray:
    """The median of the ring of each object, or of the whole background if the ring is empty."""
    flat = image.ravel()
    has_empty_ring = any(ring.size == 0 for ring in regions.rings)
    fallback = compute_background(regions, image) if has_empty_ring else np.nan
    return np.array([np.median(flat[ring]) if ring.size else fallback for ring in regions.rings])

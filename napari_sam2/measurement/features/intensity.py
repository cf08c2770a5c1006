"""Intensities of objects on one plane of one channel, from the pixels as they are in the file."""

from __future__ import annotations

import numpy as np
from skimage.measure import regionprops_table

from napari_sam2.measurement.features.regions import LabelRegions

QUANTITIES = ("mean", "sum", "min", "max", "std", "background", "corrected_sum")
"""In the order of the columns of every table."""
QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
"""Quantiles by the name of their columns."""
EXTRA_QUANTITIES = (*QUANTILES, "background_global", "corrected_sum_global")
"""What comes after all fixed columns."""


def measure_intensities(regions: LabelRegions, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """`QUANTITIES` of each region, (n,) float64 each, from a raw (H, W) plane.

    Sums are taken in float64: exact for integers (below 2**53). `std` is that of the pixels (ddof
    0). `background` is the median of the region's ring; where the ring is empty the median of all
    pixels outside objects; NaN where the plane has no such pixel. `corrected_sum` is sum - area ×
    background (the corrected total fluorescence, CTCF).
    """
    if not regions.ids.size:
        return {name: np.zeros(0) for name in QUANTITIES}
    image = pixels.astype(np.float64)
    found = regionprops_table(
        regions.codes,
        image,
        properties=("intensity_mean", "intensity_min", "intensity_max", "intensity_std"),
        extra_properties=(intensity_sum,),
    )
    measured = {
        name: np.asarray(found[f"intensity_{name}"], dtype=np.float64)
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
    """`EXTRA_QUANTITIES` of each region, (n,) float64 each; `sums` is the `sum` of each.

    Quantiles are NumPy's (linear). `background_global` is the median of all pixels of the plane
    outside objects, NaN where there is none; `corrected_sum_global` is sum - area × that.
    """
    image = pixels.astype(np.float64)
    levels = list(QUANTILES.values())
    found = [np.quantile(regions.get_values(index, image), levels) for index in range(len(regions))]
    columns = dict(zip(QUANTILES, np.array(found).reshape(-1, len(levels)).T, strict=True))
    background = np.full(len(regions), compute_global_background(regions, image))
    return {
        **columns,
        "background_global": background,
        "corrected_sum_global": sums - regions.area_px * background,
    }


def count_saturated_pixels(
    regions: LabelRegions, pixels: np.ndarray, level: float | None
) -> np.ndarray:
    """(n,) how many pixels of each region are at or above `level`; NaN where there is none."""
    if level is None:
        return np.full(len(regions), np.nan)
    full = regions.codes[pixels >= level]
    return np.bincount(full, minlength=len(regions) + 1)[1:].astype(np.float64)


def compute_global_background(regions: LabelRegions, image: np.ndarray) -> float:
    """Median of all pixels outside objects; NaN where there is none."""
    free = image[regions.codes == 0]
    return float(np.median(free)) if free.size else float("nan")


def intensity_sum(mask: np.ndarray, image: np.ndarray) -> float:
    """Sum of `image` in `mask`; regionprops_table names the column after this function."""
    return float(image[mask].sum())


def _compute_local_background(regions: LabelRegions, image: np.ndarray) -> np.ndarray:
    flat = image.ravel()
    elsewhere = (
        compute_global_background(regions, image)
        if any(each.size == 0 for each in regions.rings)
        else np.nan
    )
    return np.array([np.median(flat[each]) if each.size else elsewhere for each in regions.rings])

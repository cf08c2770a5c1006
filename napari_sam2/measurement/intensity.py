"""Intensities of objects on one plane of one channel, from the pixels as they are in the file."""

from __future__ import annotations

import numpy as np
from skimage.measure import regionprops_table

from napari_sam2.measurement.regions import Regions

QUANTITIES = ("mean", "sum", "min", "max", "std", "background", "corrected_sum")
"""In the order of the columns of every table."""


def intensities(regions: Regions, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """`QUANTITIES` of each region, (n,) float64 each, from a raw (H, W) plane.

    Sums are taken in float64: exact for integers (below 2**53). `std` is that of the pixels (ddof 0). `background` is
    the median of the region's ring; where the ring is empty the median of all pixels outside objects; NaN where the
    plane has no such pixel. `corrected_sum` is sum - area × background (the corrected total fluorescence, CTCF).
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
    measured = {name: np.asarray(found[f"intensity_{name}"], dtype=np.float64) for name in ("mean", "sum", "min", "max", "std")}
    background = _background(regions, image)
    return {**measured, "background": background, "corrected_sum": measured["sum"] - regions.area_px * background}


def intensity_sum(mask: np.ndarray, image: np.ndarray) -> float:
    """Sum of `image` in `mask`; regionprops_table names the column after this function."""
    return float(image[mask].sum())


def _background(regions: Regions, image: np.ndarray) -> np.ndarray:
    flat = image.ravel()
    outside = image[regions.codes == 0] if any(ring.size == 0 for ring in regions.rings) else image[:0]
    elsewhere = float(np.median(outside)) if outside.size else np.nan
    return np.array([np.median(flat[ring]) if ring.size else elsewhere for ring in regions.rings])

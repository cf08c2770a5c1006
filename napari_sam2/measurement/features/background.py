"""Background of a plane: the pixels that belong to no object."""

from __future__ import annotations

import numpy as np

from napari_sam2.measurement.features.regions import LabelRegions

MAD_TO_STD = 1.4826
"""Standard deviation of a normal distribution, divided by its median absolute deviation."""


def compute_background(regions: LabelRegions, image: np.ndarray) -> float:
    """The median of all pixels of no object; NaN if there are none."""
    background = image[regions.codes == 0]
    return float(np.median(background)) if background.size else float("nan")


def compute_background_noise(regions: LabelRegions, image: np.ndarray) -> float:
    """The standard deviation of the pixels of no object, robust to outliers; NaN if none."""
    background = image[regions.codes == 0]
    if not background.size:
        return float("nan")
    return float(MAD_TO_STD * np.median(np.abs(background - np.median(background))))

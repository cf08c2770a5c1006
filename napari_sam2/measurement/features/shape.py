"""Shapes of objects on one plane, by scikit-image's regionprops."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops_table

from napari_sam2.core.stack import Spacing
from napari_sam2.measurement.features.regions import LabelRegions

SKIMAGE_LENGTHS = {
    "perimeter": "perimeter",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
}
"""Lengths by the name of their columns (with ``_px`` and ``_um``), and what scikit-image calls them."""
SHAPE_COLUMNS = {
    **{f"{name}_{unit}": "float64" for name in SKIMAGE_LENGTHS for unit in ("px", "um")},
    "orientation_rad": "float64",
    "eccentricity": "float64",
    "solidity": "float64",
    "circularity": "float64",
    "parts": "Int64",
    "holes": "Int64",
    "on_edge": "boolean",
}
"""Type by column name, in the order of the tables."""


def measure_shapes(regions: LabelRegions, spacing: Spacing) -> dict[str, np.ndarray]:
    """`SHAPE_COLUMNS` of each region, (n,) each.

    `perimeter`, `major_axis`, `minor_axis`, `orientation`, `eccentricity`, `solidity` as
    scikit-image defines them; in µm only where pixels are known and square. `circularity` is 4 π
    area / perimeter², 1 for a disc, empty for an object without perimeter. `parts` are the pieces
    that do not touch, also not at corners; `holes` those of background inside. `on_edge`: it
    touches the edge of the frame, so that part of it may not be seen.
    """
    if not len(regions):
        return {name: np.zeros(0) for name in SHAPE_COLUMNS}
    found = regionprops_table(
        regions.codes,
        properties=(*SKIMAGE_LENGTHS.values(), "orientation", "eccentricity", "solidity"),
    )
    pixel = spacing.y_um if spacing.y_um is not None and spacing.y_um == spacing.x_um else None
    columns = {}
    for name, theirs in SKIMAGE_LENGTHS.items():
        columns[f"{name}_px"] = found[theirs]
        columns[f"{name}_um"] = found[theirs] * (np.nan if pixel is None else pixel)
    around = found["perimeter"]
    columns |= {
        "orientation_rad": found["orientation"],
        "eccentricity": found["eccentricity"],
        "solidity": found["solidity"],
    }
    columns["circularity"] = np.divide(
        4 * np.pi * regions.area_px, around**2, out=np.full(around.shape, np.nan), where=around > 0
    )
    masks = [regions.get_mask(index) for index in range(len(regions))]
    columns["parts"] = np.array([ndimage.label(mask, np.ones((3, 3)))[1] for mask in masks])
    columns["holes"] = np.array([ndimage.label(~np.pad(mask, 1))[1] - 1 for mask in masks])
    columns["on_edge"] = np.array([_is_on_edge(box, regions.codes.shape) for box in regions.boxes])
    return columns


def _is_on_edge(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    return any(
        side.start == 0 or side.stop == length for side, length in zip(box, shape, strict=True)
    )

"""Shapes of objects on one plane, measured by scikit-image's regionprops."""

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
"""scikit-image's name by name of column, without ``_px`` or ``_um``."""

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
    """`SHAPE_COLUMNS` of each object, (n,) each.

    `perimeter`, `major_axis`, `minor_axis`, `orientation`, `eccentricity` and `solidity` as in
    scikit-image; in µm only if pixels are known to be square. `circularity` is 4 π area /
    perimeter², 1 for a disc, empty for an object without perimeter. `parts` counts the pieces that
    do not touch, not even at corners; `holes` the holes. `on_edge`: the object touches the edge of
    the frame and may be incomplete.
    """
    if not len(regions):
        return {name: np.zeros(0) for name in SHAPE_COLUMNS}
    properties = regionprops_table(
        regions.codes,
        properties=(*SKIMAGE_LENGTHS.values(), "orientation", "eccentricity", "solidity"),
    )
    is_square = spacing.y_um is not None and spacing.y_um == spacing.x_um
    pixel_um = spacing.y_um if is_square else np.nan
    columns = {}
    for name, skimage_name in SKIMAGE_LENGTHS.items():
        columns[f"{name}_px"] = properties[skimage_name]
        columns[f"{name}_um"] = properties[skimage_name] * pixel_um
    columns |= {
        "orientation_rad": properties["orientation"],
        "eccentricity": properties["eccentricity"],
        "solidity": properties["solidity"],
        "circularity": _compute_circularity(regions.area_px, properties["perimeter"]),
    }
    masks = [regions.get_mask(index) for index in range(len(regions))]
    columns["parts"] = np.array([ndimage.label(mask, np.ones((3, 3)))[1] for mask in masks])
    columns["holes"] = np.array([ndimage.label(~np.pad(mask, 1))[1] - 1 for mask in masks])
    columns["on_edge"] = np.array([_is_on_edge(box, regions.codes.shape) for box in regions.boxes])
    return columns


def _compute_circularity(area: np.ndarray, perimeter: np.ndarray) -> np.ndarray:
    unknown = np.full(perimeter.shape, np.nan)
    return np.asarray(np.divide(4 * np.pi * area, perimeter**2, out=unknown, where=perimeter > 0))


def _is_on_edge(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    return any(
        side.start == 0 or side.stop == length for side, length in zip(box, shape, strict=True)
    )

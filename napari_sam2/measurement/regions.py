"""Regions: where the objects of one label plane are, and the ring of background around each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops_table
from skimage.util import map_array

RING_GAP_PX = 2
"""Pixels left out next to an object: the blur of its own edge."""
RING_REACH_PX = 7
"""How far from the object the ring of background reaches."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The objects of one (H, W) label plane.

    Parameters
    ----------
    ids
        (n,) label values, ascending; `area_px`, `y`, `x` (centroid, from the centre of the first pixel) are in this order.
    codes
        (H, W): 0 is background, k + 1 the object ``ids[k]``. So large label values cost no memory.
    rings
        Per object the flat indices of its ring: pixels of no object that lie more than `RING_GAP_PX` and at most
        `RING_REACH_PX` from its nearest pixel. Empty where neighbours or the edge leave nothing.
    """

    ids: np.ndarray
    codes: np.ndarray
    area_px: np.ndarray
    y: np.ndarray
    x: np.ndarray
    rings: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, plane: np.ndarray) -> Regions:
        """The regions of an (H, W) plane of label values."""
        ids = np.unique(plane)
        ids = ids[ids > 0]
        if not ids.size:
            nothing = np.zeros(0)
            return cls(ids, np.zeros(plane.shape, np.int32), nothing.astype(np.int64), nothing, nothing, ())
        codes = map_array(np.require(plane, requirements="W"), ids, np.arange(1, ids.size + 1, dtype=np.int32))
        found = regionprops_table(codes, properties=("area", "centroid", "slice"))
        rings = tuple(_ring(codes, code, box) for code, box in enumerate(found["slice"], start=1))
        return cls(ids, codes, found["area"].astype(np.int64), found["centroid-0"], found["centroid-1"], rings)


def _ring(codes: np.ndarray, code: int, box: Sequence[slice]) -> np.ndarray:
    top, left = (max(0, side.start - RING_REACH_PX) for side in box)
    crop = codes[top : box[0].stop + RING_REACH_PX, left : box[1].stop + RING_REACH_PX]
    distance = ndimage.distance_transform_edt(crop != code)
    y, x = np.nonzero((distance > RING_GAP_PX) & (distance <= RING_REACH_PX) & (crop == 0))
    return np.asarray((y + top) * codes.shape[1] + (x + left))

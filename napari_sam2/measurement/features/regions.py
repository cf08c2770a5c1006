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

Box = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class LabelRegions:
    """The objects of one (H, W) label plane.

    Parameters
    ----------
    ids
        (n,) label values, ascending; `area_px`, `y`, `x` (centroid, from the centre of the first
        pixel) are in this order.
    codes
        (H, W): 0 is background, k + 1 the object ``ids[k]``. So large label values cost no memory.
    rings
        Per object the flat indices of its ring: pixels of no object that lie more than
        `RING_GAP_PX` and at most `RING_REACH_PX` from its nearest pixel. Empty where neighbours or
        the edge leave nothing.
    boxes
        Per object the rows and columns it reaches over: work on an object is work on its box, so
        that it costs the same however many others there are.
    """

    ids: np.ndarray
    codes: np.ndarray
    area_px: np.ndarray
    y: np.ndarray
    x: np.ndarray
    rings: tuple[np.ndarray, ...]
    boxes: tuple[Box, ...] = ()

    @classmethod
    def of(cls, plane: np.ndarray) -> LabelRegions:
        """The regions of an (H, W) plane of label values."""
        ids = np.unique(plane)
        ids = ids[ids > 0]
        if not ids.size:
            nothing = np.zeros(0)
            return cls(
                ids, np.zeros(plane.shape, np.int32), nothing.astype(np.int64), nothing, nothing, ()
            )
        codes = map_array(
            np.require(plane, requirements="W"), ids, np.arange(1, ids.size + 1, dtype=np.int32)
        )
        found = regionprops_table(codes, properties=("area", "centroid", "slice"))
        boxes = tuple((box[0], box[1]) for box in found["slice"])
        rings = tuple(
            find_ring_pixels(
                codes, code, box, min_distance_px=RING_GAP_PX, max_distance_px=RING_REACH_PX
            )
            for code, box in enumerate(boxes, start=1)
        )
        return cls(
            ids,
            codes,
            found["area"].astype(np.int64),
            found["centroid-0"],
            found["centroid-1"],
            rings,
            boxes,
        )

    def __len__(self) -> int:
        return int(self.ids.size)

    def get_mask(self, index: int) -> np.ndarray:
        """(h, w) bool: the object ``ids[index]`` within its box."""
        return np.asarray(self.codes[self.boxes[index]] == index + 1)

    def get_values(self, index: int, plane: np.ndarray) -> np.ndarray:
        """(area,) values of an (H, W) plane on the pixels of the object ``ids[index]``, row by row."""
        return np.asarray(plane[self.boxes[index]][self.get_mask(index)])


def find_ring_pixels(
    codes: np.ndarray,
    code: int,
    box: Sequence[slice],
    *,
    min_distance_px: float,
    max_distance_px: int,
) -> np.ndarray:
    """Flat indices of the pixels of no object that lie more than `min_distance_px` and at most `max_distance_px` pixels from the object `code`."""
    top, left = (max(0, side.start - max_distance_px) for side in box)
    crop = codes[top : box[0].stop + max_distance_px, left : box[1].stop + max_distance_px]
    distance = ndimage.distance_transform_edt(crop != code)
    y, x = np.nonzero((distance > min_distance_px) & (distance <= max_distance_px) & (crop == 0))
    return np.asarray((y + top) * codes.shape[1] + (x + left))

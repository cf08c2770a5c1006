"""The objects of a label plane: their pixels, boxes, centroids and background rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops_table
from skimage.util import map_array

RING_GAP_PX = 2
"""Distance between an object and its background ring, because its edge is blurred."""

RING_REACH_PX = 7
"""Distance from an object to the outer edge of its background ring."""

Box = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class LabelRegions:
    """The objects of one (H, W) label plane.

    Parameters
    ----------
    ids
        (n,) label values, ascending.
    codes
        (H, W): 0 is the background, k + 1 the object ``ids[k]``, so that large label values cost no
        memory.
    area_px, y, x
        (n,) areas, and centroids from the centre of the first pixel.
    rings
        The flat indices of the background ring of each object: pixels of no object that are more
        than `RING_GAP_PX` and at most `RING_REACH_PX` from its nearest pixel. Empty if neighbours
        or the edge of the plane leave none.
    boxes
        The rows and columns of each object. Measurements read only the box of an object, so that
        their cost does not depend on the size of the plane.
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
        """The objects of an (H, W) plane of label values."""
        ids = np.unique(plane)
        ids = ids[ids > 0]
        if not ids.size:
            codes, empty = np.zeros(plane.shape, np.int32), np.zeros(0)
            return cls(ids, codes, empty.astype(np.int64), empty, empty, ())
        codes = map_array(
            np.require(plane, requirements="W"), ids, np.arange(1, ids.size + 1, dtype=np.int32)
        )
        properties = regionprops_table(codes, properties=("area", "centroid", "slice"))
        boxes = tuple((box[0], box[1]) for box in properties["slice"])
        rings = tuple(
            find_ring_pixels(
                codes, code, box, min_distance_px=RING_GAP_PX, max_distance_px=RING_REACH_PX
            )
            for code, box in enumerate(boxes, start=1)
        )
        return cls(
            ids,
            codes,
            properties["area"].astype(np.int64),
            properties["centroid-0"],
            properties["centroid-1"],
            rings,
            boxes,
        )

    def __len__(self) -> int:
        return int(self.ids.size)

    def get_mask(self, index: int) -> np.ndarray:
        """The (h, w) mask of the object ``ids[index]`` within its box."""
        return np.asarray(self.codes[self.boxes[index]] == index + 1)

    def get_values(self, index: int, plane: np.ndarray) -> np.ndarray:
        """The (area,) values of an (H, W) plane on the object ``ids[index]``, row by row."""
        return np.asarray(plane[self.boxes[index]][self.get_mask(index)])


def find_ring_pixels(
    codes: np.ndarray,
    code: int,
    box: Sequence[slice],
    *,
    min_distance_px: float,
    max_distance_px: int,
) -> np.ndarray:
    """The flat indices of the pixels of no object in a ring around the object `code`.

    The ring is more than `min_distance_px` and at most `max_distance_px` from the object; `box` are
    the rows and columns of the object.
    """
    top, left = (max(0, side.start - max_distance_px) for side in box)
    crop = codes[top : box[0].stop + max_distance_px, left : box[1].stop + max_distance_px]
    distance = ndimage.distance_transform_edt(crop != code)
    y, x = np.nonzero((distance > min_distance_px) & (distance <= max_distance_px) & (crop == 0))
    return np.asarray((y + top) * codes.shape[1] + (x + left))

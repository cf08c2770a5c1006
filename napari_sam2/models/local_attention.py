"""Regions: the part of the feature map that is enough for one track, and planes brought from one part to another.

A Region is a Window too: a square of whole tokens out of the Window that was encoded, as fine as
that one. What a network makes of a frame is cut to it, and every cell keeps the position it has on
the whole grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.window import Window
from napari_sam2.models.cropping import EDGE_PX, Corners
from napari_sam2.models.network.sam2_network import STRIDE

_REGION_SIDES = (8, 12, 16, 24, 32, 48)  # tokens: few sizes, so that many tracks share a batch
_STEPS_PER_SIDE = (
    4  # a Region's side is so many steps of its place: small moves of an object change nothing
)
_MAX_GRID_SHARE = 0.8  # of the whole grid's side: a Region that is larger saves little


class TokenRegion(NamedTuple):
    """A Region in whole tokens of the grid it is cut from."""

    top: int
    left: int
    side: int

    @classmethod
    def of(cls, region: Window, whole: Window) -> TokenRegion:
        """Of a Region of `whole`, which may be all of it."""
        grid = whole.size // STRIDE
        top, left = (
            (region.top - whole.top) / whole.height,
            (region.left - whole.left) / whole.width,
        )
        return cls(round(top * grid), round(left * grid), region.size // STRIDE)

    def to_window(self, whole: Window) -> Window:
        """The Region as a Window; `whole` itself where it is all of it."""
        grid = whole.size // STRIDE
        if self.side == grid:
            return whole
        y, x = whole.height / grid, whole.width / grid
        return Window(
            whole.top + self.top * y,
            whole.left + self.left * x,
            self.side * y,
            self.side * x,
            self.side * STRIDE,
        )

    def token_indices(self, grid: int) -> Tensor:
        """(side * side,) places of its tokens among those of a whole grid, row by row."""
        rows, columns = (
            torch.arange(self.top, self.top + self.side),
            torch.arange(self.left, self.left + self.side),
        )
        return (rows[:, None] * grid + columns).flatten()

    def cut_features(self, level: Tensor, grid: int) -> Tensor:
        """(…, h, w) features over the whole grid, of any stride, in this Region."""
        fine = level.shape[-1] // grid
        rows, columns = (
            slice(start * fine, (start + self.side) * fine) for start in (self.top, self.left)
        )
        return level[..., rows, columns]


@dataclass(frozen=True)
class LocalRegions:
    """Where tracks are looked at.

    Parameters
    ----------
    least
        Tokens the side of a Region has at least.
    room
        Sides of the Region to one of the object.
    margin
        Tokens that are left around the object at least.
    """

    min_tokens: int = 16
    object_ratio: float = 2.0
    margin_tokens: float = 3.0

    def make_region(self, corners: Corners, whole: Window) -> Window:
        """The Region around an object between two corners (y, x), in data pixels; `whole` where it needs about all of it."""
        grid = whole.size // STRIDE
        scale = np.array([grid / whole.height, grid / whole.width])
        low, high = ((np.asarray(corner) - (whole.top, whole.left)) * scale for corner in corners)
        wide = float((high - low).max())
        needed = max(wide * self.object_ratio, wide + 2 * self.margin_tokens, self.min_tokens)
        side = next((side for side in _REGION_SIDES if side >= needed), grid)
        if side > _MAX_GRID_SHARE * grid:
            return whole
        step = side // _STEPS_PER_SIDE
        top, left = (
            int(np.clip(round((middle - side / 2) / step) * step, 0, grid - side))
            for middle in (low + high) / 2
        )
        return TokenRegion(top, left, side).to_window(whole)


def contains_points(window: Window, points: Sequence[tuple[float, float]]) -> bool:
    """Whether all points (y, x), in data pixels, lie in a Window."""
    return all(
        window.top <= y + EDGE_PX <= window.top + window.height
        and window.left <= x + EDGE_PX <= window.left + window.width
        for y, x in points
    )


def resample_region(
    plane: Tensor, source: Window, target: Window, whole: Window, fill: float
) -> Tensor:
    """A (h, w) plane over one Region in the cells of another: what both have in common, and `fill` elsewhere."""
    if source == target:
        return plane
    one, other = TokenRegion.of(source, whole), TokenRegion.of(target, whole)
    fine = plane.shape[-1] // one.side
    found = plane.new_full((other.side * fine, other.side * fine), fill)
    rows, columns = (
        _find_overlap(one[axis], one.side, other[axis], other.side, fine) for axis in (0, 1)
    )
    found[rows[1], columns[1]] = plane[rows[0], columns[0]]
    return found


def _find_overlap(
    start: int, side: int, other: int, other_side: int, fine: int
) -> tuple[slice, slice]:
    """What two stretches of tokens share, in the cells of each."""
    low, high = max(start, other), max(start, other, min(start + side, other + other_side))
    return slice((low - start) * fine, (high - start) * fine), slice(
        (low - other) * fine, (high - other) * fine
    )

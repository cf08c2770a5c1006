"""Local attention: the part of the feature grid around one track.

A region is a window too: a square of whole tokens out of the window that was encoded, at the same
resolution. Features are cut to it, and every token keeps its position on the whole grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.window import Window
from napari_sam2.models.cropping import Corners
from napari_sam2.models.network.sam2_network import STRIDE

# Tokens. There are few sizes, so that many tracks share a batch.
_REGION_SIDES = (8, 12, 16, 24, 32, 48)
# Regions start at multiples of this part of their side: small moves of an object change nothing.
_STEPS_PER_SIDE = 4
# Part of the grid's side. A larger region saves little.
_MAX_GRID_SHARE = 0.8


class TokenRegion(NamedTuple):
    """A square region in whole tokens of the grid it is cut from."""

    top: int
    left: int
    side: int

    @classmethod
    def of(cls, region: Window, whole: Window) -> TokenRegion:
        """The tokens of a region of `whole`, or of all of it."""
        grid = whole.size // STRIDE
        top, left = (
            (region.top - whole.top) / whole.height,
            (region.left - whole.left) / whole.width,
        )
        return cls(round(top * grid), round(left * grid), region.size // STRIDE)

    def to_window(self, whole: Window) -> Window:
        """The region as a window; `whole` itself if it covers all of it."""
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
        """(side * side,) indices of its tokens in a grid of `grid` × `grid`, row by row."""
        rows = torch.arange(self.top, self.top + self.side)
        columns = torch.arange(self.left, self.left + self.side)
        return (rows[:, None] * grid + columns).flatten()

    def cut_features(self, level: Tensor, grid: int) -> Tensor:
        """The part of (…, h, w) features of the whole grid, at any stride, in this region."""
        cells = level.shape[-1] // grid
        rows, columns = (
            slice(start * cells, (start + self.side) * cells) for start in (self.top, self.left)
        )
        return level[..., rows, columns]


@dataclass(frozen=True)
class LocalRegions:
    """The rule that chooses the region around an object.

    Parameters
    ----------
    min_tokens
        Smallest side of a region, in tokens.
    object_ratio
        Smallest side of a region, in sides of the object.
    margin_tokens
        Smallest distance from the object to the edge of its region, in tokens.
    """

    min_tokens: int = 16
    object_ratio: float = 2.0
    margin_tokens: float = 3.0

    def make_region(self, corners: Corners, whole: Window) -> Window:
        """The region around an object; `whole` if it needs most of it. Corners are data pixels."""
        grid = whole.size // STRIDE
        scale = np.array([grid / whole.height, grid / whole.width])
        low, high = ((np.asarray(corner) - (whole.top, whole.left)) * scale for corner in corners)
        width = float((high - low).max())
        needed = max(width * self.object_ratio, width + 2 * self.margin_tokens, self.min_tokens)
        side = next((side for side in _REGION_SIDES if side >= needed), grid)
        if side > _MAX_GRID_SHARE * grid:
            return whole
        step = side // _STEPS_PER_SIDE
        top, left = (
            int(np.clip(round((middle - side / 2) / step) * step, 0, grid - side))
            for middle in (low + high) / 2
        )
        return TokenRegion(top, left, side).to_window(whole)


def resample_region(
    plane: Tensor, source: Window, target: Window, whole: Window, fill: float
) -> Tensor:
    """A (h, w) plane over one region, copied into the cells of another.

    Cells of the target outside the source are `fill`. Both are regions of `whole`.
    """
    if source == target:
        return plane
    one, other = TokenRegion.of(source, whole), TokenRegion.of(target, whole)
    cells = plane.shape[-1] // one.side
    resampled = plane.new_full((other.side * cells, other.side * cells), fill)
    rows, columns = (
        _find_overlap(one[axis], one.side, other[axis], other.side, cells) for axis in (0, 1)
    )
    resampled[rows[1], columns[1]] = plane[rows[0], columns[0]]
    return resampled


def _find_overlap(
    start: int, side: int, other: int, other_side: int, cells: int
) -> tuple[slice, slice]:
    """The overlap of two ranges of tokens, in the cells of each; a token has `cells` cells."""
    low, high = max(start, other), max(start, other, min(start + side, other + other_side))
    return (
        slice((low - start) * cells, (high - start) * cells),
        slice((low - other) * cells, (high - other) * cells),
    )

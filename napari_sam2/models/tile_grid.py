"""Tiles: windows of a fixed, overlapping grid over a frame, which show small objects larger.

A network reads an input of a fixed number of pixels: in a large frame, small objects shrink to
nothing. A tile has the same number of input pixels and covers a part of the frame. All tracks in a
tile share its features. The position and width of an object decide which tile it is read from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from napari_sam2.core.window import Window
from napari_sam2.models.cropping import Corners
from napari_sam2.models.network.sam2_network import STRIDE

# Smallest width of an object in input pixels: 10 cells of its mask.
_MIN_OBJECT_WIDTH_PX = 40.0
# The resolution stays the same while the width is within these multiples of the smallest width.
_WIDTH_HYSTERESIS = (0.6, 3.0)
# Data pixels per input pixel of the finest tiles.
_MIN_PIXEL_RATIO = 0.25
# Input pixels shared by neighbouring tiles: the widest object of a tile, and as much room again.
_OVERLAP_PX = 256
_TOLERANCE_PX = 1e-6


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a frame.

    The resolution of a tile is its *pixel ratio*: data pixels per input pixel, a power of two below
    the ratio of the whole frame. Tiles start at whole tokens, so that memories of one tile lie on
    the tokens of other tiles of the same ratio.

    Parameters
    ----------
    shape
        (H, W) of the frame in pixels.
    whole
        The window of the whole frame.
    """

    shape: tuple[int, int]
    whole: Window

    def choose_tile(self, corners: Corners, previous: Window | None = None) -> Window:
        """The tile of an object; the whole frame if that shows the object large enough.

        Parameters
        ----------
        corners
            Of the object, in data pixels.
        previous
            A window of the same object on another frame. Its resolution is kept if possible.
        """
        (top, left), (bottom, right) = corners
        width = max(bottom - top, right - left, _TOLERANCE_PX)
        ratio = None if previous is None else compute_pixel_ratio(previous)
        low, high = (_MIN_OBJECT_WIDTH_PX * part for part in _WIDTH_HYSTERESIS)
        if ratio is None or not low <= width / ratio <= high:
            ratio = max(
                _MIN_PIXEL_RATIO, float(2 ** np.floor(np.log2(width / _MIN_OBJECT_WIDTH_PX)))
            )
        return self.find_tile_at(((top + bottom) / 2, (left + right) / 2), ratio)

    def find_tile_at(self, centre: tuple[float, float], pixel_ratio: float) -> Window:
        """The tile of this ratio whose centre is nearest to (y, x); the whole frame if as fine."""
        if pixel_ratio > compute_pixel_ratio(self.whole) - _TOLERANCE_PX:
            return self.whole
        side = pixel_ratio * self.whole.size
        top, left = (
            _find_nearest(self._compute_starts(length, pixel_ratio), middle - side / 2)
            for length, middle in zip(self.shape, centre, strict=True)
        )
        return Window(top, left, side, side, self.whole.size)

    def find_tile_of(self, window: Window) -> Window:
        """The tile that contains a region; the one with the nearest centre if several do."""
        ratio = compute_pixel_ratio(window)
        if abs(ratio - compute_pixel_ratio(self.whole)) < _TOLERANCE_PX:
            return self.whole
        side, found = ratio * self.whole.size, []
        for length, start, extent in zip(
            self.shape, (window.top, window.left), (window.height, window.width), strict=True
        ):
            starts = [
                each
                for each in self._compute_starts(length, ratio)
                if _is_range_within(start, extent, each, side)
            ]
            found.append(_find_nearest(np.array(starts), start + (extent - side) / 2))
        return Window(found[0], found[1], side, side, self.whole.size)

    def make_tile_pyramid(self, centre: tuple[float, float]) -> list[Window]:
        """Tiles around (y, x), each of twice the pixel ratio, and last the whole frame."""
        tiles, ratio = list[Window](), _MIN_PIXEL_RATIO
        while ratio < compute_pixel_ratio(self.whole) - _TOLERANCE_PX:
            tiles.append(self.find_tile_at(centre, ratio))
            ratio *= 2
        return [*tiles, self.whole]

    def list_tiles(self, pixel_ratio: float) -> list[Window]:
        """All tiles of a pixel ratio."""
        side = pixel_ratio * self.whole.size
        starts = [self._compute_starts(length, pixel_ratio).tolist() for length in self.shape]
        return [Window(top, left, side, side, self.whole.size) for top, left in product(*starts)]

    def _compute_starts(self, length: int, pixel_ratio: float) -> np.ndarray:
        """Starts of the tiles along an axis; the last ends less than a token beyond the frame."""
        side, token = pixel_ratio * self.whole.size, pixel_ratio * STRIDE
        if side >= length:
            return np.zeros(1)
        step = side - pixel_ratio * min(_OVERLAP_PX, self.whole.size // 2)
        last = np.ceil((length - side) / token) * token
        return np.append(np.arange(0.0, last, step), last)


def compute_pixel_ratio(window: Window) -> float:
    """Data pixels per input pixel along the longer side."""
    return max(window.height, window.width) / window.size


def is_within(window: Window, tile: Window) -> bool:
    """Whether a window is the tile or a region of it, at the same resolution."""
    if abs(compute_pixel_ratio(window) - compute_pixel_ratio(tile)) > _TOLERANCE_PX:
        return False
    return _is_range_within(window.top, window.height, tile.top, tile.height) and _is_range_within(
        window.left, window.width, tile.left, tile.width
    )


def _is_range_within(start: float, extent: float, outer: float, outer_extent: float) -> bool:
    return outer <= start + _TOLERANCE_PX and start + extent <= outer + outer_extent + _TOLERANCE_PX


def _find_nearest(starts: np.ndarray, target: float) -> float:
    return float(starts[np.argmin(np.abs(starts - target))])

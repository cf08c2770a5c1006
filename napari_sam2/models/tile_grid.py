"""Tiles: Windows of a fixed, overlapping grid over a frame, so fine that small objects are large enough for the network.

A network sees an input of so many pixels, however large the frame is: what is shrunk below some
pixels is lost. A tile is as large to the network as the whole frame and shows a part of it, larger;
all tracks in it share what is made of it. Which tile an object is looked at by follows from where
it is and how wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from napari_sam2.core.window import Window
from napari_sam2.models.cropping import Corners
from napari_sam2.models.network.sam2_network import STRIDE

_MIN_OBJECT_WIDTH_PX = (
    40.0  # pixels of the input an object is shown wide at least: 10 cells of its mask
)
_WIDTH_HYSTERESIS = (
    0.6,
    3.0,
)  # of that: as long as an object is shown so wide, it is looked at as finely as before
_MIN_PIXEL_RATIO = 0.25  # pixels of the frame to one of the input: nothing is shown larger
# pixels of the input that neighbours share: the widest object that is looked at so, and as much
# room again
_OVERLAP_PX = 256
_TOLERANCE_PX = 1e-6  # of a pixel


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a frame of `shape` (H, W) whose own Window is `whole`.

    How fine a tile is, is its *pixel*: pixels of the frame to one of the input, a power of two
    below that of the frame's own Window. Starts are whole tokens, so that what was made of one tile
    lies on the tokens of the others that are as fine.
    """

    shape: tuple[int, int]
    whole: Window

    def choose_tile(self, corners: Corners, previous: Window | None = None) -> Window:
        """The tile of an object between two corners (y, x), in data pixels; the frame's own Window where that shows it large enough.

        `previous` is a Window of the same object on another frame: a tile as fine is taken where that
        still does.
        """
        (top, left), (bottom, right) = corners
        wide = max(bottom - top, right - left, _TOLERANCE_PX)
        pixel = None if previous is None else compute_pixel_ratio(previous)
        low, high = (_MIN_OBJECT_WIDTH_PX * part for part in _WIDTH_HYSTERESIS)
        if pixel is None or not low <= wide / pixel <= high:
            pixel = max(
                _MIN_PIXEL_RATIO, float(2 ** np.floor(np.log2(wide / _MIN_OBJECT_WIDTH_PX)))
            )
        return self.find_tile_at(((top + bottom) / 2, (left + right) / 2), pixel)

    def find_tile_at(self, centre: tuple[float, float], pixel_ratio: float) -> Window:
        """The tile of this pixel whose middle is nearest to a place; the frame's own Window where that is as fine."""
        if pixel_ratio > compute_pixel_ratio(self.whole) - _TOLERANCE_PX:
            return self.whole
        side = pixel_ratio * self.whole.size
        top, left = (
            _find_nearest(self._compute_starts(length, pixel_ratio), place - side / 2)
            for length, place in zip(self.shape, centre, strict=True)
        )
        return Window(top, left, side, side, self.whole.size)

    def find_tile_of(self, window: Window) -> Window:
        """Of the tiles that a Region may have been cut from, the one whose middle is nearest to its own; see `regions`."""
        pixel = compute_pixel_ratio(window)
        if abs(pixel - compute_pixel_ratio(self.whole)) < _TOLERANCE_PX:
            return self.whole
        side, found = pixel * self.whole.size, []
        for length, start, long in zip(
            self.shape, (window.top, window.left), (window.height, window.width), strict=True
        ):
            starts = self._compute_starts(length, pixel)
            fitting = [
                each
                for each in starts
                if each <= start + _TOLERANCE_PX and start + long <= each + side + _TOLERANCE_PX
            ]
            found.append(_find_nearest(np.array(fitting), start + (long - side) / 2))
        return Window(found[0], found[1], side, side, self.whole.size)

    def make_tile_pyramid(self, centre: tuple[float, float]) -> list[Window]:
        """From near to far, a tile of each pixel at a place, and the whole frame."""
        steps, pixel = list[Window](), _MIN_PIXEL_RATIO
        while pixel < compute_pixel_ratio(self.whole) - _TOLERANCE_PX:
            steps.append(self.find_tile_at(centre, pixel))
            pixel *= 2
        return [*steps, self.whole]

    def list_tiles(self, pixel_ratio: float) -> list[Window]:
        """All tiles of a pixel."""
        side = pixel_ratio * self.whole.size
        ends = [self._compute_starts(length, pixel_ratio) for length in self.shape]
        return [
            Window(top, left, side, side, self.whole.size)
            for top, left in product(*(each.tolist() for each in ends))
        ]

    def _compute_starts(self, length: int, pixel_ratio: float) -> np.ndarray:
        """Where tiles begin along an axis: the last one ends at the frame's edge, or less than a token beyond."""
        side, token = pixel_ratio * self.whole.size, pixel_ratio * STRIDE
        if side >= length:
            return np.zeros(1)
        step = side - pixel_ratio * min(_OVERLAP_PX, self.whole.size // 2)
        last = np.ceil((length - side) / token) * token
        return np.append(np.arange(0.0, last, step), last)


def compute_pixel_ratio(window: Window) -> float:
    """Pixels of the frame to one of the input, along the longer side."""
    return max(window.height, window.width) / window.size


def is_within(window: Window, tile: Window) -> bool:
    """Whether a Window is a tile, or a Region of it."""
    if abs(compute_pixel_ratio(window) - compute_pixel_ratio(tile)) > _TOLERANCE_PX:
        return False
    ends = (
        (window.top, window.height, tile.top, tile.height),
        (window.left, window.width, tile.left, tile.width),
    )
    return all(
        start <= own + _TOLERANCE_PX and own + long <= start + side + _TOLERANCE_PX
        for own, long, start, side in ends
    )


def _find_nearest(starts: np.ndarray, target: float) -> float:
    return float(starts[np.argmin(np.abs(starts - target))])

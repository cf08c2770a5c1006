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

_WIDE = 40.0  # pixels of the input an object is shown wide at least: 10 cells of its mask
_KEPT = (
    0.6,
    3.0,
)  # of that: as long as an object is shown so wide, it is looked at as finely as before
_LEAST_PIXEL = 0.25  # pixels of the frame to one of the input: nothing is shown larger
# pixels of the input that neighbours share: the widest object that is looked at so, and as much
# room again
_SHARED = 256
_ROUNDING = 1e-6  # of a pixel


@dataclass(frozen=True)
class Tiles:
    """The tiles of a frame of `shape` (H, W) whose own Window is `whole`.

    How fine a tile is, is its *pixel*: pixels of the frame to one of the input, a power of two
    below that of the frame's own Window. Starts are whole tokens, so that what was made of one tile
    lies on the tokens of the others that are as fine.
    """

    shape: tuple[int, int]
    whole: Window

    def around(self, corners: Corners, before: Window | None = None) -> Window:
        """The tile of an object between two corners (y, x), in data pixels; the frame's own Window where that shows it large enough.

        `before` is a Window of the same object on another frame: a tile as fine is taken where that
        still does.
        """
        (top, left), (bottom, right) = corners
        wide = max(bottom - top, right - left, _ROUNDING)
        pixel = None if before is None else pixel_of(before)
        low, high = (_WIDE * part for part in _KEPT)
        if pixel is None or not low <= wide / pixel <= high:
            pixel = max(_LEAST_PIXEL, float(2 ** np.floor(np.log2(wide / _WIDE))))
        return self.at(((top + bottom) / 2, (left + right) / 2), pixel)

    def at(self, middle: tuple[float, float], pixel: float) -> Window:
        """The tile of this pixel whose middle is nearest to a place; the frame's own Window where that is as fine."""
        if pixel > pixel_of(self.whole) - _ROUNDING:
            return self.whole
        side = pixel * self.whole.size
        top, left = (
            _nearest(self._starts(length, pixel), place - side / 2)
            for length, place in zip(self.shape, middle, strict=True)
        )
        return Window(top, left, side, side, self.whole.size)

    def holding(self, window: Window) -> Window:
        """Of the tiles that a Region may have been cut from, the one whose middle is nearest to its own; see `regions`."""
        pixel = pixel_of(window)
        if abs(pixel - pixel_of(self.whole)) < _ROUNDING:
            return self.whole
        side, found = pixel * self.whole.size, []
        for length, start, long in zip(
            self.shape, (window.top, window.left), (window.height, window.width), strict=True
        ):
            starts = self._starts(length, pixel)
            fitting = [
                each
                for each in starts
                if each <= start + _ROUNDING and start + long <= each + side + _ROUNDING
            ]
            found.append(_nearest(np.array(fitting), start + (long - side) / 2))
        return Window(found[0], found[1], side, side, self.whole.size)

    def ladder(self, middle: tuple[float, float]) -> list[Window]:
        """From near to far, a tile of each pixel at a place, and the whole frame."""
        steps, pixel = list[Window](), _LEAST_PIXEL
        while pixel < pixel_of(self.whole) - _ROUNDING:
            steps.append(self.at(middle, pixel))
            pixel *= 2
        return [*steps, self.whole]

    def every(self, pixel: float) -> list[Window]:
        """All tiles of a pixel."""
        side = pixel * self.whole.size
        ends = [self._starts(length, pixel) for length in self.shape]
        return [
            Window(top, left, side, side, self.whole.size)
            for top, left in product(*(each.tolist() for each in ends))
        ]

    def _starts(self, length: int, pixel: float) -> np.ndarray:
        """Where tiles begin along an axis: the last one ends at the frame's edge, or less than a token beyond."""
        side, token = pixel * self.whole.size, pixel * STRIDE
        if side >= length:
            return np.zeros(1)
        step = side - pixel * min(_SHARED, self.whole.size // 2)
        last = np.ceil((length - side) / token) * token
        return np.append(np.arange(0.0, last, step), last)


def pixel_of(window: Window) -> float:
    """Pixels of the frame to one of the input, along the longer side."""
    return max(window.height, window.width) / window.size


def within(window: Window, tile: Window) -> bool:
    """Whether a Window is a tile, or a Region of it."""
    if abs(pixel_of(window) - pixel_of(tile)) > _ROUNDING:
        return False
    ends = (
        (window.top, window.height, tile.top, tile.height),
        (window.left, window.width, tile.left, tile.width),
    )
    return all(
        start <= own + _ROUNDING and own + long <= start + side + _ROUNDING
        for own, long, start, side in ends
    )


def _nearest(starts: np.ndarray, wanted: float) -> float:
    return float(starts[np.argmin(np.abs(starts - wanted))])

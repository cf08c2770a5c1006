"""Framing: the Window through which an object is looked at, and planes brought from one Window to another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam2.core.window import Window

EDGE_PX = 0.5
"""From a pixel's centre to its edge."""

Corners = tuple[tuple[float, float], tuple[float, float]]
"""Two corners (y, x) that something lies between, in data pixels from the outer corner of the first pixel."""

# sides of the Window to one of the object: it is then 30 to 43 of 128 pixels wide, with room to
# move
_WINDOW_TO_OBJECT = 3.0
_STEPS_PER_DOUBLING = (
    2  # sides of Windows double in so many steps, so that small changes of an object change nothing
)
_GRID_CELLS = (
    8  # places of a Window are whole multiples of this part of its side: one token of a memory
)
_MIN_SIDE_PX = 24.0  # side of the smallest Window
_FIRST_SIDE_PX = (
    40.0  # side of the first Window that is tried for a click, which says nothing of size
)
_PYRAMID_FACTOR = 1.5  # by how much the next one is larger
_SPECK_FRACTION = 0.005  # of a mask that may lie outside of what is framed


def make_crop_window(
    low: Sequence[float], high: Sequence[float], shape: tuple[int, int], size: int
) -> Window:
    """The Window around what lies between two corners (y, x), in data pixels from the outer corner of the first pixel.

    It follows from them alone, and not from any Window before it. It stays within a frame of
    `shape` where it can.
    """
    wide = max(high[0] - low[0], high[1] - low[1]) * _WINDOW_TO_OBJECT
    side = _MIN_SIDE_PX * 2 ** (
        np.ceil(_STEPS_PER_DOUBLING * np.log2(max(wide / _MIN_SIDE_PX, 1.0)) - 1e-6)
        / _STEPS_PER_DOUBLING
    )
    return _make_square_window(
        ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2), float(side), shape, size
    )


def make_window_pyramid(yx: tuple[float, float], shape: tuple[int, int], size: int) -> list[Window]:
    """Windows around a place, each half as large again as the one before, the last as large as the frame."""
    longest = max(float(max(shape)), _MIN_SIDE_PX)
    rungs = int(np.ceil(np.log(max(longest / _FIRST_SIDE_PX, 1.0)) / np.log(_PYRAMID_FACTOR)))
    return [
        _make_square_window(yx, side, shape, size)
        for side in [*(_FIRST_SIDE_PX * _PYRAMID_FACTOR**rung for rung in range(rungs)), longest]
    ]


def find_logit_corners(logits: np.ndarray, window: Window) -> Corners | None:
    """The corners between which a (h, w) mask lies, in data pixels; None where it is empty.

    Specks are left aside.
    """
    positive = logits > 0
    if not positive.any():
        return None
    ends = []
    for axis, start, length in ((0, window.top, window.height), (1, window.left, window.width)):
        share = np.cumsum(positive.sum(axis=1 - axis)) / positive.sum()
        first, last = np.searchsorted(share, [_SPECK_FRACTION, 1 - _SPECK_FRACTION])
        cell = length / logits.shape[axis]
        ends.append((start + first * cell, start + (last + 1) * cell))
    return (float(ends[0][0]), float(ends[1][0])), (float(ends[0][1]), float(ends[1][1]))


def find_mask_corners(mask: np.ndarray) -> Corners:
    """The corners between which a (H, W) mask lies that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (float(rows[0]), float(columns[0])), (float(rows[-1] + 1), float(columns[-1] + 1))


def include_points(corners: Corners, points: Sequence[tuple[float, float]]) -> Corners:
    """Corners between which points lie too, which are pixel centres."""
    places = np.array([*corners, *((y + EDGE_PX, x + EDGE_PX) for y, x in points)])
    (top, left), (bottom, right) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
    return (top, left), (bottom, right)


def resample(
    planes: Tensor, sources: Sequence[Window], targets: Sequence[Window], side: int | None = None
) -> Tensor:
    """(B, C, h, w) planes, each over its source Window, at the cells of its target Window: bilinear, edges repeated.

    `side` is how many cells a target has along each axis; as many as the source where not given.
    """
    if side in (None, planes.shape[-1]) and all(
        source == target for source, target in zip(sources, targets, strict=True)
    ):
        return planes
    rows = []
    for source, target in zip(sources, targets, strict=True):
        zoom = (target.width / source.width, target.height / source.height)
        shift = (
            2 * (target.left - source.left) / source.width,
            2 * (target.top - source.top) / source.height,
        )
        rows.append(
            [[zoom[0], 0.0, shift[0] + zoom[0] - 1], [0.0, zoom[1], shift[1] + zoom[1] - 1]]
        )
    cells = [*planes.shape[:2], *(planes.shape[2:] if side is None else (side, side))]
    where = F.affine_grid(
        torch.tensor(rows, dtype=planes.dtype, device=planes.device), cells, align_corners=False
    )
    return F.grid_sample(planes, where, mode="bilinear", padding_mode="border", align_corners=False)


def _make_square_window(
    yx: tuple[float, float], side: float, shape: tuple[int, int], size: int
) -> Window:
    side = min(side, max(float(max(shape)), _MIN_SIDE_PX))
    grain = side / _GRID_CELLS
    top, left = (
        _clip_to_frame(round((middle - side / 2) / grain) * grain, side, length)
        for middle, length in zip(yx, shape, strict=True)
    )
    return Window(top, left, side, side, size)


def _clip_to_frame(start: float, side: float, length: int) -> float:
    """Moved onto the frame; in its middle where the frame is shorter."""
    return float(np.clip(start, 0, length - side)) if side < length else (length - side) / 2

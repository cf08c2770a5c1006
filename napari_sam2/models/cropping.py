"""Windows cropped around objects, and planes resampled from one window to another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam2.core.window import Window

EDGE_PX = 0.5
"""Distance from the centre of a pixel to its edge."""

Corners = tuple[tuple[float, float], tuple[float, float]]
"""Upper left and lower right (y, x) of a box, in data pixels from the corner of the image."""

# An object is then 30 to 43 of 128 input pixels wide, with room to move.
_WINDOW_TO_OBJECT = 3.0
# Sides double in this many steps: a small change of the object leaves the window as it is.
_STEPS_PER_DOUBLING = 2
# Windows start at multiples of this part of their side: one token of a memory.
_GRID_CELLS = 8
_MIN_SIDE_PX = 24.0
# First side that is tried for a click, because a click does not give the object's size.
_FIRST_SIDE_PX = 40.0
_PYRAMID_FACTOR = 1.5
# An object wider than this part of the frame fills it: the network has seen no larger ones.
_FILLING_SHARE = 0.6
# Part of a mask that may lie outside its corners.
_SPECK_FRACTION = 0.005


def make_crop_window(corners: Corners, shape: tuple[int, int], size: int) -> Window:
    """The square window around an object.

    It depends on the arguments alone, not on earlier windows, and stays within the frame if the
    frame is large enough. If the object fills the frame, the window is larger than the frame.

    Parameters
    ----------
    corners
        Of the object, in data pixels.
    shape
        (H, W) of the frame in pixels.
    size
        Side of the network's input in pixels.
    """
    low, high = corners
    longest = max(shape)
    if max(high[0] - low[0], high[1] - low[1]) > _FILLING_SHARE * longest:
        return _make_centred_window(longest * _PYRAMID_FACTOR, shape, size)
    width = max(high[0] - low[0], high[1] - low[1]) * _WINDOW_TO_OBJECT
    side = _MIN_SIDE_PX * 2 ** (
        np.ceil(_STEPS_PER_DOUBLING * np.log2(max(width / _MIN_SIDE_PX, 1.0)) - 1e-6)
        / _STEPS_PER_DOUBLING
    )
    return _make_square_window(
        ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2), float(side), shape, size
    )


def make_window_pyramid(yx: tuple[float, float], shape: tuple[int, int], size: int) -> list[Window]:
    """Windows around a position, each 1.5 times as large as the one before.

    The last two are larger than the (H, W) frame, centred on it, because an object may fill it;
    `size` is the side of the input in pixels.
    """
    longest = max(float(max(shape)), _MIN_SIDE_PX)
    levels = int(np.ceil(np.log(max(longest / _FIRST_SIDE_PX, 1.0)) / np.log(_PYRAMID_FACTOR)))
    inside = [
        _make_square_window(yx, side, shape, size)
        for side in [*(_FIRST_SIDE_PX * _PYRAMID_FACTOR**level for level in range(levels)), longest]
    ]
    return inside + [
        _make_centred_window(longest * _PYRAMID_FACTOR**level, shape, size) for level in (1, 2)
    ]


def find_logit_corners(logits: np.ndarray, window: Window) -> Corners | None:
    """The corners of the positive (h, w) logits over a window, without specks; None if none is."""
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
    """The corners of a non-empty (H, W) mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (float(rows[0]), float(columns[0])), (float(rows[-1] + 1), float(columns[-1] + 1))


def include_points(corners: Corners, points: Sequence[tuple[float, float]]) -> Corners:
    """Corners that also enclose (y, x) points, which are pixel centres."""
    places = np.array([*corners, *((y + EDGE_PX, x + EDGE_PX) for y, x in points)])
    (top, left), (bottom, right) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
    return (top, left), (bottom, right)


def contains_points(window: Window, points: Sequence[tuple[float, float]]) -> bool:
    """Whether all (y, x) points, in data pixels, lie in a window."""
    return all(
        window.top <= y + EDGE_PX <= window.top + window.height
        and window.left <= x + EDGE_PX <= window.left + window.width
        for y, x in points
    )


def resample(
    planes: Tensor, sources: Sequence[Window], targets: Sequence[Window], side: int | None = None
) -> Tensor:
    """Planes resampled from their source windows to their target windows.

    Bilinear; edge values are repeated outside the source.

    Parameters
    ----------
    planes
        (B, C, h, w), each over one source window.
    sources, targets
        B windows each.
    side
        Cells of a target along each axis; by default as many as the source has.
    """
    if side in (None, planes.shape[-1]) and all(
        source == target for source, target in zip(sources, targets, strict=True)
    ):
        return planes
    affine = [
        _compute_affine(source, target) for source, target in zip(sources, targets, strict=True)
    ]
    cells = [*planes.shape[:2], *(planes.shape[2:] if side is None else (side, side))]
    where = F.affine_grid(
        torch.tensor(affine, dtype=planes.dtype, device=planes.device), cells, align_corners=False
    )
    return F.grid_sample(planes, where, mode="bilinear", padding_mode="border", align_corners=False)


def _compute_affine(source: Window, target: Window) -> list[list[float]]:
    """The 2 × 3 matrix that `affine_grid` takes, from (x, y) of the target to (x, y) of the source.

    Both are -1..1 within their window.
    """
    zoom = (target.width / source.width, target.height / source.height)
    shift = (
        2 * (target.left - source.left) / source.width,
        2 * (target.top - source.top) / source.height,
    )
    return [[zoom[0], 0.0, shift[0] + zoom[0] - 1], [0.0, zoom[1], shift[1] + zoom[1] - 1]]


def _make_centred_window(side: float, shape: tuple[int, int], size: int) -> Window:
    """A window around the middle of a frame, larger than the frame."""
    height, width = shape
    return Window((height - side) / 2, (width - side) / 2, side, side, size)


def _make_square_window(
    yx: tuple[float, float], side: float, shape: tuple[int, int], size: int
) -> Window:
    side = min(side, max(float(max(shape)), _MIN_SIDE_PX))
    step = side / _GRID_CELLS
    top, left = (
        _clip_to_frame(round((middle - side / 2) / step) * step, side, length)
        for middle, length in zip(yx, shape, strict=True)
    )
    return Window(top, left, side, side, size)


def _clip_to_frame(start: float, side: float, length: int) -> float:
    """The start of a window moved onto the frame, or centred if the frame is shorter."""
    return float(np.clip(start, 0, length - side)) if side < length else (length - side) / 2

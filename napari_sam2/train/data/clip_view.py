"""The part of a plane that a clip shows, and its pixels and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

_MIN_OBJECT_PX = 8.0  # least extent of an object in a clip
_MAX_OBJECT_SHARE = 0.8  # largest extent, as a share of the clip's side: surroundings are shown too
_OFF_CENTRE = 0.3  # largest distance of the object from the middle, as a share of the side


@dataclass(frozen=True)
class ClipView:
    """A square of a plane.

    Parameters
    ----------
    yx
        Its centre in data pixels.
    step
        Data pixels per pixel of the view.
    size
        Side in pixels of the view.
    """

    yx: tuple[float, float]
    step: float
    size: int

    @classmethod
    def sample(
        cls,
        labels: np.ndarray,
        rng: np.random.Generator,
        *,
        size: int,
        scales: tuple[float, float],
        diameters: tuple[float, float] | None = None,
    ) -> ClipView:
        """Sample a view that shows an object of (H, W) labels; all objects are equally likely.

        Parameters
        ----------
        scales
            The smallest and largest magnification.
        diameters
            Instead of `scales`: the range of the object's width (as a disc of its area), in pixels
            of the view.

        Notes
        -----
        The magnification is limited so that the object is neither a dot nor larger than the view,
        and the view is not larger than the plane.
        """
        present = np.unique(labels)
        mask = labels == rng.choice(present[present > 0])
        rows, columns = np.nonzero(mask)
        extent = max(np.ptp(rows), np.ptp(columns)) + 1.0
        if diameters:
            width = 2 * np.sqrt(len(rows) / np.pi)
            scales = (diameters[0] / width, diameters[1] / width)
        scale = float(np.exp(rng.uniform(*np.log(scales))))
        scale = max(scale, size / max(labels.shape), _MIN_OBJECT_PX / extent)
        step = max(1.0 / scale, extent / (_MAX_OBJECT_SHARE * size))
        pixel = rng.integers(len(rows))
        offset = rng.uniform(-_OFF_CENTRE, _OFF_CENTRE, 2) * size * step
        centre = np.array([rows[pixel], columns[pixel]]) + offset
        y, x = (
            clamp_centre(coordinate, length, size * step)
            for coordinate, length in zip(centre, labels.shape, strict=True)
        )
        return cls((y, x), step, size)

    @property
    def side(self) -> float:
        """Side in data pixels."""
        return self.size * self.step

    def compute_positions(self) -> np.ndarray:
        """Compute (2, size, size) float32 positions (y, x) of its pixels on the plane."""
        line = ((np.arange(self.size) - (self.size - 1) / 2) * self.step).astype(np.float32)
        return np.stack(
            [
                np.broadcast_to(line[:, None] + self.yx[0], (self.size,) * 2),
                np.broadcast_to(line + self.yx[1], (self.size,) * 2),
            ]
        )


def sample_pixels(plane: np.ndarray, positions: np.ndarray, step: float) -> np.ndarray:
    """Sample an (H, W) plane at (T, 2, h, w) positions, as float32.

    Bilinear, and averaged if `step` is above 1. Edges are repeated, as `Window.crop` does.
    """
    rows, columns = (
        _compute_extent(positions[:, 0], plane.shape[0]),
        _compute_extent(positions[:, 1], plane.shape[1]),
    )
    part = plane[rows, columns].astype(np.float32)
    y, x = positions[:, 0] - rows.start, positions[:, 1] - columns.start
    fold = int(step)
    if fold > 1:
        part = _average_blocks(part, fold)
        y, x, step = (y + 0.5) / fold - 0.5, (x + 0.5) / fold - 0.5, step / fold
    if step > 1.2:
        part = gaussian_filter(part, 0.5 * np.sqrt(step**2 - 1), truncate=2.5, mode="nearest")
    return _interpolate_bilinear(part, y, x)


def sample_labels(labels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Sample (H, W) labels at (T, 2, h, w) positions, as int32: the nearest pixel, 0 outside."""
    y, x = np.rint(positions[:, 0]).astype(np.int32), np.rint(positions[:, 1]).astype(np.int32)
    height, width = labels.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    found = labels.ravel()[np.clip(y, 0, height - 1) * width + np.clip(x, 0, width - 1)]
    return np.where(inside, found, 0).astype(np.int32)


def clamp_centre(centre: float, length: int, side: float) -> float:
    """Move a centre so that a view of `side` stays inside `length`.

    The middle of the plane if the view is larger.
    """
    if side >= length:
        return (length - 1) / 2
    return float(np.clip(centre, side / 2 - 0.5, length - side / 2 - 0.5))


def _compute_extent(positions: np.ndarray, length: int) -> slice:
    """Compute the rows (or columns) of a plane that positions need, with a margin to average."""
    low, high = int(positions.min()) - 8, int(positions.max()) + 9
    start = min(max(low, 0), length - 1)
    return slice(start, max(min(high, length), start + 1))


def _average_blocks(plane: np.ndarray, fold: int) -> np.ndarray:
    """Average blocks of fold × fold pixels of an (H, W) plane; the last edge is repeated."""
    short = [(-length) % fold for length in plane.shape]
    plane = np.pad(plane, [(0, short[0]), (0, short[1])], mode="edge")
    return np.asarray(plane.reshape(plane.shape[0] // fold, fold, -1, fold).mean(axis=(1, 3)))


def _interpolate_bilinear(plane: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    y, x = np.clip(y, 0, height - 1).astype(np.float32), np.clip(x, 0, width - 1).astype(np.float32)
    top, left = (
        np.minimum(y.astype(np.int32), max(height - 2, 0)),
        np.minimum(x.astype(np.int32), max(width - 2, 0)),
    )
    y -= top
    x -= left
    flat, corner = plane.ravel(), top * width + left
    right, below = int(width > 1), width * int(height > 1)
    upper = flat[corner] * (1 - x) + flat[corner + right] * x
    lower = flat[corner + below] * (1 - x) + flat[corner + below + right] * x
    return np.asarray(upper * (1 - y) + lower * y)

"""View: where a clip looks at a plane, frame by frame, and the pixels and labels it sees there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

_MIN_OBJECT_PX = 8.0  # of an object in a clip: what the embedded model is asked for
_MAX_OBJECT_SHARE = 0.8  # of the clip's side, so that its surroundings are seen too
_OFF_CENTRE = 0.3  # of the clip's side: how far from the middle the object looked at may lie


@dataclass(frozen=True)
class ClipView:
    """A square of `size` pixels of a plane: `yx` is its middle in data pixels, `step` the data pixels that make one of its own."""

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
        """A view with an object of `labels` (H, W) in it, all objects equally likely.

        `scales` are the smallest and largest magnification, or `diameters` how wide the object (a
        disc of its area) appears, in pixels of the view; both give way so that it is neither a dot
        nor larger than the view, and the view no larger than the plane.
        """
        present = np.unique(labels)
        mask = labels == rng.choice(present[present > 0])
        rows, columns = np.nonzero(mask)
        extent = max(np.ptp(rows), np.ptp(columns)) + 1.0
        if diameters:
            wide = 2 * np.sqrt(len(rows) / np.pi)
            scales = (diameters[0] / wide, diameters[1] / wide)
        scale = float(np.exp(rng.uniform(*np.log(scales))))
        scale = max(scale, size / max(labels.shape), _MIN_OBJECT_PX / extent)
        step = max(1.0 / scale, extent / (_MAX_OBJECT_SHARE * size))
        pick = rng.integers(len(rows))
        aim = (
            np.array([rows[pick], columns[pick]])
            + rng.uniform(-_OFF_CENTRE, _OFF_CENTRE, 2) * size * step
        )
        y, x = (
            clamp_centre(place, length, size * step)
            for place, length in zip(aim, labels.shape, strict=True)
        )
        return cls((y, x), step, size)

    @property
    def side(self) -> float:
        """Its height and width in data pixels."""
        return self.size * self.step

    def compute_positions(self) -> np.ndarray:
        """(2, size, size) float32: where each of its pixels lies on the plane, (y, x)."""
        line = ((np.arange(self.size) - (self.size - 1) / 2) * self.step).astype(np.float32)
        return np.stack(
            [
                np.broadcast_to(line[:, None] + self.yx[0], (self.size,) * 2),
                np.broadcast_to(line + self.yx[1], (self.size,) * 2),
            ]
        )


def sample_pixels(plane: np.ndarray, positions: np.ndarray, step: float) -> np.ndarray:
    """(H, W) plane at (T, 2, h, w) places, float32: bilinear, averaged where `step` is above 1, edges repeated.

    Edges are repeated because that is what a model sees beyond them: `MockWindow.crop` does the same.
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
    """(H, W) labels at (T, 2, h, w) places, int32: of the nearest pixel, 0 outside the plane."""
    y, x = np.rint(positions[:, 0]).astype(np.int32), np.rint(positions[:, 1]).astype(np.int32)
    height, width = labels.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    found = labels.ravel()[np.clip(y, 0, height - 1) * width + np.clip(x, 0, width - 1)]
    return np.where(inside, found, 0).astype(np.int32)


def clamp_centre(centre: float, length: int, side: float) -> float:
    """`centre` moved so that a view of `side` around it stays on a plane of `length`; the middle where it is no longer."""
    if side >= length:
        return (length - 1) / 2
    return float(np.clip(centre, side / 2 - 0.5, length - side / 2 - 0.5))


def _compute_extent(positions: np.ndarray, length: int) -> slice:
    """Rows (or columns) of the plane that these places touch, with room to average over."""
    low, high = int(positions.min()) - 8, int(positions.max()) + 9
    start = min(max(low, 0), length - 1)
    return slice(start, max(min(high, length), start + 1))


def _average_blocks(plane: np.ndarray, fold: int) -> np.ndarray:
    """(H, W) to means of fold × fold pixels, the last edge repeated."""
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

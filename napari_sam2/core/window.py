"""Window: a crop of a frame, resampled to a model's input.

No other module converts between pixels and model coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

# Pixels along an axis that make up one pixel of an input; of more, every second, third, … is read.
_SAMPLES_PER_INPUT_PX = 8


@dataclass(frozen=True)
class Window:
    """A rectangle of a frame, and the size of the model input it is resampled to.

    A pixel centre y of the frame is (y + 0.5 - top) * size / height - 0.5 in the input, and x
    likewise.

    Parameters
    ----------
    top, left, height, width
        Data pixels from the outer corner of the first pixel. The rectangle may reach beyond the
        frame, whose edge pixels are then repeated.
    size
        Side of the square input in pixels.
    """

    top: float
    left: float
    height: float
    width: float
    size: int

    @classmethod
    def full_frame(cls, shape: tuple[int, int], size: int, *, keep_aspect: bool = False) -> Window:
        """The window of a whole (H, W) frame, stretched or padded to a square."""
        height, width = shape
        if not keep_aspect:
            return cls(0.0, 0.0, float(height), float(width), size)
        side = max(height, width)
        return cls(
            -float((side - height) // 2),
            -float((side - width) // 2),
            float(side),
            float(side),
            size,
        )

    def to_model(self, yx: np.ndarray) -> np.ndarray:
        """Convert (…, 2) data pixels to input pixels, both (y, x) from the first pixel centre."""
        return np.asarray(
            (np.asarray(yx, dtype=np.float64) + 0.5 - (self.top, self.left)) * self._scale_yx - 0.5
        )

    def to_frame(self, yx: np.ndarray) -> np.ndarray:
        """The inverse of `to_model`."""
        return np.asarray(
            (np.asarray(yx, dtype=np.float64) + 0.5) / self._scale_yx + (self.top, self.left) - 0.5
        )

    def crop(self, plane: np.ndarray) -> np.ndarray:
        """Resample an (H, W) plane to (size, size) float32, bilinear with antialiasing."""
        if self._is_identity(plane.shape):
            return np.asarray(plane, dtype=np.float32)
        stride = int(min(self.height, self.width) / self.size / _SAMPLES_PER_INPUT_PX)
        if stride > 1:  # a pixel of the input is the mean of enough others
            first = stride // 2
            origin = first + 0.5 - stride / 2
            coarse = Window(
                (self.top - origin) / stride,
                (self.left - origin) / stride,
                self.height / stride,
                self.width / stride,
                self.size,
            )
            return coarse.crop(plane[first::stride, first::stride])
        rows = _compute_filter_weights(self.size, plane.shape[0], self.top, self.height / self.size)
        columns = _compute_filter_weights(
            self.size, plane.shape[1], self.left, self.width / self.size
        )
        part = np.asarray(
            plane[_find_used_columns(rows), _find_used_columns(columns)], dtype=np.float32
        )
        return _resample(
            rows[:, _find_used_columns(rows)], part, columns[:, _find_used_columns(columns)]
        )

    def find_positive_region(self, grid: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a frame that the positive cells of a (h, w) logit grid reach."""
        positive = grid > 0
        ends = []
        for axis, start, extent in ((0, self.top, self.height), (1, self.left, self.width)):
            cells = np.flatnonzero(positive.any(axis=1 - axis))
            if not cells.size:
                return slice(0, 0), slice(0, 0)
            cell = extent / grid.shape[axis]
            low = int(np.floor(start + (cells[0] - 1) * cell))
            high = int(np.ceil(start + (cells[-1] + 2) * cell))
            ends.append(slice(max(0, min(low, shape[axis])), max(0, min(high, shape[axis]))))
        return ends[0], ends[1]

    def paste(self, grid: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Resample a (h, w) logit grid to the pixels `rows` × `columns` of the frame, float32."""
        across = _compute_sample_weights(rows, self.top, self.height, grid.shape[0])
        along = _compute_sample_weights(columns, self.left, self.width, grid.shape[1])
        return _resample(across, grid.astype(np.float32), along)

    @property
    def _scale_yx(self) -> np.ndarray:
        return np.array([self.size / self.height, self.size / self.width])

    def _is_identity(self, shape: tuple[int, ...]) -> bool:
        return (self.top, self.left, self.height, self.width) == (0, 0, *shape) and shape == (
            self.size,
            self.size,
        )


def _resample(rows: csr_array, plane: np.ndarray, columns: csr_array) -> np.ndarray:
    """Weighted sums along both axes.

    Sparse matrices use no threads, which would cost more than they gain here.
    """
    return np.asarray((columns @ (rows @ plane).T).T, dtype=np.float32)


def _find_used_columns(weights: csr_array) -> slice:
    """The columns that have non-zero weights."""
    return slice(int(weights.indices.min()), int(weights.indices.max()) + 1)


@lru_cache(128)  # the window of a track often stays the same for some frames
def _compute_filter_weights(count: int, length: int, start: float, step: float) -> csr_array:
    """(count, length) weights of a triangle filter: bilinear, or antialiased if it shrinks."""
    centres = start + (np.arange(count) + 0.5) * step - 0.5
    support = max(1.0, step)
    reach = int(np.ceil(support)) + 1
    taps = np.floor(centres)[:, None] + np.arange(-reach, reach + 1)[None, :]
    values = np.maximum(0.0, 1.0 - np.abs(taps - centres[:, None]) / support)
    values /= values.sum(axis=1, keepdims=True)
    return _make_sparse_matrix(values, np.clip(taps, 0, length - 1), length)


def _compute_sample_weights(pixels: slice, start: float, extent: float, cells: int) -> csr_array:
    """(pixels, cells) bilinear weights of grid cells at pixel centres, constant at the edge."""
    cell = extent / cells
    where = (np.arange(pixels.start, pixels.stop) + 0.5 - start) / cell - 0.5
    where = np.clip(where, 0, cells - 1)
    lower = np.minimum(np.floor(where), max(0, cells - 2))
    part = where - lower
    return _make_sparse_matrix(
        np.stack([1 - part, part], axis=1),
        np.stack([lower, np.minimum(lower + 1, cells - 1)], axis=1),
        cells,
    )


def _make_sparse_matrix(values: np.ndarray, indices: np.ndarray, length: int) -> csr_array:
    """(n, length) matrix of (n, k) values at (n, k) columns; equal columns are summed."""
    count, each = values.shape
    starts = np.arange(0, count * each + 1, each)
    return csr_array(
        (values.astype(np.float32).ravel(), indices.astype(np.int32).ravel(), starts),
        shape=(count, length),
    )

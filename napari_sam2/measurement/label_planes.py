"""LabelPlanes: label images read one plane at a time, and refused where they are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.stack import Stack
from napari_sam2.core.track import MAX_TRACK


@dataclass(frozen=True, eq=False)
class LabelPlanes:
    """Label planes of (frames, height, width), `shape`; ``planes[frame]`` is one (H, W) plane of label values, checked.

    Raises LabelsError on reading a plane of another shape, or one that holds no label values: whole
    numbers from 0 (background) to 4294967295.
    """

    read_plane: Callable[[int], Any]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, source: Any, shape: tuple[int, int, int] | None = None) -> LabelPlanes:
        """From anything that holds label planes.

        Parameters
        ----------
        source
            A callable that gives the plane of a frame; an array (numpy, dask, zarr) or Stack of (…,
            H, W), its leading axes counted through in order, never read whole; a single (H, W)
            plane.
        shape
            (frames, H, W) it must have; a callable needs it.

        Raises
        ------
        LabelsError
            A source of another shape, or of numbers that are not whole.
        """
        if isinstance(source, LabelPlanes):
            return cls(source.read_plane, _check_shape(source.shape, shape))
        if callable(source):
            if shape is None:
                raise LabelsError(
                    "label planes given as a callable: give the shape (frames, H, W) as well"
                )
            return cls(source, shape)
        array = (
            source.data
            if isinstance(source, Stack)
            else source
            if hasattr(source, "shape")
            else np.asarray(source)
        )
        if len(array.shape) < 2:
            raise LabelsError(
                f"label image of shape {tuple(array.shape)!r}: expected (H, W) or (frames, H, W)"
            )
        _check_type(np.dtype(array.dtype))
        *leading, height, width = (int(length) for length in array.shape)
        flat = (math.prod(leading), height, width)
        return cls(
            lambda frame: (
                array[tuple(int(i) for i in np.unravel_index(frame, leading))] if leading else array
            ),
            _check_shape(flat, shape),
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frame: int) -> np.ndarray:
        plane = np.asarray(self.read_plane(frame))
        _check_type(plane.dtype, frame)
        if plane.shape != self.shape[1:]:
            raise LabelsError(
                f"label plane of shape {plane.shape!r}: expected {self.shape[1:]!r}", frame=frame
            )
        if plane.dtype.itemsize > 4 or plane.dtype.kind == "i":
            low, high = int(plane.min()), int(plane.max())
            if low < 0 or high > MAX_TRACK:
                raise LabelsError(
                    f"label values from {low} to {high}: expected 0 (background) to {MAX_TRACK}",
                    frame=frame,
                )
        return plane

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[frame] for frame in range(len(self)))


def _check_type(dtype: np.dtype[Any], frame: int | None = None) -> None:
    if dtype.kind not in "ui":
        raise LabelsError(
            f"label image of type {dtype}: expected whole numbers, one for each object; convert "
            "it first",
            frame=frame,
        )


def _check_shape(
    shape: tuple[int, int, int], expected: tuple[int, int, int] | None
) -> tuple[int, int, int]:
    if expected is not None and shape != expected:
        raise LabelsError(
            f"labels of (frames, H, W) = {shape!r}: expected {expected!r}, the shape of what "
            "they are held against"
        )
    return shape

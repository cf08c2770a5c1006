"""Label images, read and checked one plane at a time."""

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
    """Label planes of `shape` (frames, H, W); ``planes[frame]`` is one checked (H, W) plane.

    Labels are whole numbers from 0 (background) to 4294967295. Reading a plane of another shape or
    with other values raises LabelsError.
    """

    read_plane: Callable[[int], Any]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, source: Any, shape: tuple[int, int, int] | None = None) -> LabelPlanes:
        """Label planes from an array, a Stack or a callable.

        Parameters
        ----------
        source
            A callable that returns the plane of a frame; or an array (NumPy, dask, zarr) or Stack
            of (…, H, W), whose leading axes are flattened into frames. It is read plane by plane.
        shape
            Expected (frames, H, W); required for a callable.

        Raises
        ------
        LabelsError
            If the source has another shape, or numbers that are not whole.
        """
        if isinstance(source, LabelPlanes):
            return cls(source.read_plane, _check_shape(source.shape, shape))
        if callable(source):
            if shape is None:
                raise LabelsError(
                    "label planes given as a callable: give the shape (frames, H, W) as well"
                )
            return cls(source, shape)
        if isinstance(source, Stack):
            source = source.data
        return cls._of_array(source if hasattr(source, "shape") else np.asarray(source), shape)

    @classmethod
    def _of_array(cls, array: Any, expected_shape: tuple[int, int, int] | None) -> LabelPlanes:
        if len(array.shape) < 2:
            raise LabelsError(
                f"label image of shape {tuple(array.shape)!r}: expected (H, W) or (frames, H, W)"
            )
        _check_type(np.dtype(array.dtype))
        *leading, height, width = (int(length) for length in array.shape)

        def read_plane(frame: int) -> Any:
            index = np.unravel_index(frame, leading) if leading else ()
            return array[tuple(int(number) for number in index)]

        shape = (math.prod(leading), height, width)
        return cls(read_plane, _check_shape(shape, expected_shape))

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
            f"label image of type {dtype}: expected whole numbers, one for each object; convert it "
            "to an integer type",
            frame=frame,
        )


def _check_shape(
    shape: tuple[int, int, int], expected: tuple[int, int, int] | None
) -> tuple[int, int, int]:
    if expected is not None and shape != expected:
        raise LabelsError(
            f"labels of shape (frames, H, W) {shape!r}: expected {expected!r}, the shape of the "
            "video or labels they are compared with"
        )
    return shape

"""Lazy arrays: dask arrays whose planes are read from files when they are used."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from typing import Any, Protocol

import dask.array as da
import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.io.readers.files import convert_read_errors

MAX_PLANES = 1_000_000
"""More planes than this are taken for damaged metadata."""

_MAX_PLANE_BYTES = 2**33  # a plane is read as a whole
_array_numbers = itertools.count()


class PlaneReader(Protocol):
    """Reads the planes of one image from its files.

    The first `n_leading` dimensions of `shape` are read one index at a time; the others form a
    plane.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole image."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, in the byte order of this machine."""
        ...

    @property
    def n_leading(self) -> int:
        """Number of leading dimensions, those that count planes."""
        ...

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """The plane at this index of the leading dimensions, of shape ``shape[n_leading:]``."""
        ...


def make_lazy_array(planes: PlaneReader, source: str) -> da.Array:
    """All planes as one dask array, one chunk a plane.

    A plane is read each time it is computed; nothing is cached. If reading a plane fails, the
    computation raises a FileError that names `source` and the plane.
    """
    n_leading = planes.n_leading
    _check_declared_size(planes, source)
    leading, plane = planes.shape[:n_leading], planes.shape[n_leading:]
    if min(planes.shape, default=0) < 1:
        raise FileError(f"{source}: declares the shape {planes.shape!r}: expected 1 or more each")
    chunks = tuple((1,) * length for length in leading) + tuple((length,) for length in plane)
    block = _BlockReader(planes, source)
    empty = np.empty((0,) * len(planes.shape), planes.dtype)
    # an explicit name, because dask would hash the reader to make one
    name = f"planes-{os.getpid()}-{next(_array_numbers)}"
    return da.map_blocks(block, chunks=chunks, dtype=planes.dtype, meta=empty, name=name)


def _check_declared_size(planes: PlaneReader, source: str) -> None:
    """Raise FileError for a size that no image has, before memory is taken for it."""
    leading, plane = planes.shape[: planes.n_leading], planes.shape[planes.n_leading :]
    n_planes, n_bytes = math.prod(leading), math.prod(plane) * planes.dtype.itemsize
    if n_planes > MAX_PLANES:
        raise FileError(
            f"{source}: declares {n_planes} planes: expected at most {MAX_PLANES}; its metadata "
            "may be damaged; export the part to use"
        )
    if n_bytes > _MAX_PLANE_BYTES:
        raise FileError(
            f"{source}: declares planes of {' × '.join(map(str, plane))}, {n_bytes / 1e9:.0f} GB "
            f"each: expected at most {_MAX_PLANE_BYTES / 1e9:.0f} GB; choose a lower level "
            "(--level), or export the part to use"
        )


@dataclass(frozen=True)
class _BlockReader:
    planes: PlaneReader
    source: str

    def __call__(self, block_id: tuple[int, ...]) -> np.ndarray:
        planes = self.planes
        index = tuple(int(number) for number in block_id[: planes.n_leading])
        what = f"plane {', '.join(map(str, index))} (counted from 0)" if index else "its pixels"
        with convert_read_errors(
            f"{self.source}: {what} cannot be read", "a whole file", frame=self._find_frame(index)
        ):
            plane = np.asarray(planes(index))
            expected = planes.shape[planes.n_leading :]
            if plane.shape != expected:
                raise ValueError(f"it has the shape {plane.shape!r}, not {expected!r}")
            return plane.astype(planes.dtype, copy=False)[(None,) * planes.n_leading]

    def _find_frame(self, index: tuple[int, ...]) -> int | None:
        """The index along the only leading dimension longer than 1; None if there are several."""
        long = [
            number for number, length in zip(index, self.planes.shape, strict=False) if length > 1
        ]
        return long[0] if len(long) == 1 else None

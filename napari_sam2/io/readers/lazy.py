"""Planes: pixels in files, read one plane at a time, as an array that is read when it is looked at."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dask.array as da
import numpy as np

from napari_sam2.core.errors import FileError, Sam2Error

_array_numbers = itertools.count()


class PlaneReader(Protocol):
    """Where pixels are read from.

    The first `n_leading` dimensions of `shape` are read one index at a time.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all planes together."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """In this machine's byte order."""
        ...

    @property
    def n_leading(self) -> int:
        """How many of the first dimensions count planes."""
        ...

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """The pixels at this index of the leading dimensions, of shape ``shape[lead:]``."""
        ...


def make_lazy_array(planes: PlaneReader, source: str) -> da.Array:
    """All planes as one array; nothing is read before it is asked for, and nothing is kept.

    What goes wrong while a plane is read is raised as a FileError that names `source` and the
    plane.
    """
    lead = planes.n_leading
    chunks = tuple((1,) * n for n in planes.shape[:lead]) + tuple((n,) for n in planes.shape[lead:])
    block = _BlockReader(planes, source)
    empty = np.empty((0,) * len(planes.shape), planes.dtype)
    name = f"planes-{os.getpid()}-{next(_array_numbers)}"  # a name of our own: dask would hash the reader
    return da.map_blocks(block, chunks=chunks, dtype=planes.dtype, meta=empty, name=name)


@dataclass(frozen=True)
class _BlockReader:
    planes: PlaneReader
    source: str

    def __call__(self, block_id: tuple[int, ...]) -> np.ndarray:
        planes = self.planes
        index = tuple(int(number) for number in block_id[: planes.n_leading])
        place = f"plane {', '.join(map(str, index))} (counted from 0)" if index else "its pixels"
        with convert_read_errors(
            f"{self.source}: {place} cannot be read", "a whole file", frame=self._find_frame(index)
        ):
            plane = np.asarray(planes(index))
            if plane.shape != planes.shape[planes.n_leading :]:
                raise ValueError(
                    f"it has the shape {plane.shape!r}, not {planes.shape[planes.n_leading :]!r}"
                )
            return plane.astype(planes.dtype, copy=False)[(None,) * planes.n_leading]

    def _find_frame(self, index: tuple[int, ...]) -> int | None:
        """The index of the one leading dimension that is longer than 1; None where there are more."""
        long = [
            number for number, length in zip(index, self.planes.shape, strict=False) if length > 1
        ]
        return long[0] if len(long) == 1 else None


@contextmanager
def convert_read_errors(source: str, expected: str, *, frame: int | None = None) -> Iterator[None]:
    """Whatever goes wrong inside is a FileError: the source, what was expected, and the reason.

    Broken files make decoders raise anything from zlib.error to KeyError, so all of it is caught
    here, but not our own errors, and not a lack of memory.
    """
    try:
        yield
    except (Sam2Error, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{source}: expected {expected}; {reason[:200]}", frame=frame) from error


def get_file_stamp(path: Path) -> tuple[int, int]:
    """Changes when a file does, so that a changed file is not read with what is known of the old one."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def check_file(
    path: Path, expected: str = "an image file, a folder of them or a zarr store"
) -> None:
    """Raise FileError unless `path` is a file with something in it that may be read."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}; expected {expected}") from error
    if size == 0:
        raise FileError(f"{path}: is empty (0 bytes): copy or export it again")
    if not os.access(path, os.R_OK):
        raise FileError(
            f"{path}: may not be read: ask for the permission, or copy it to a place of your own"
        )

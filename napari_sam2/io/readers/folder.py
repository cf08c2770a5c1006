"""Folders and globs: image files that form one stack, a file for each step along one axis."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.io.readers.lazy import PlaneReader, make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage, ReadRequest
from napari_sam2.io.readers.registry import PLANE_FILE_SUFFIXES, ImageReader, find_reader


def open_folder(folder: Path, request: ReadRequest) -> OpenedImage:
    """Open the images directly in a folder, in natural order (t2 before t10).

    Hidden files and files of other kinds are ignored.
    """
    return _open_files(list(folder.iterdir()), folder.name, str(folder), request)


def open_glob(pattern: str, request: ReadRequest) -> OpenedImage:
    """Open the images that match a pattern like ``frames/t*.tif``, in natural order."""
    files = [Path(name) for name in glob.glob(pattern, recursive=True)]
    return _open_files(files, Path(pattern).parent.name or "stack", pattern, request)


def get_natural_sort_key(path: Path) -> list[tuple[int, int, str]]:
    """A sort key that puts frame10 after frame2."""
    pieces = re.findall(r"\d+|\D+", str(path))
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece.lower()) for piece in pieces]


@dataclass(frozen=True)
class _FilePlanes:
    """The planes of several files of one shape; the first dimension counts the files."""

    files: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int
    request: ReadRequest

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        file = self.files[index[0]]
        planes = _open_planes(file, self.request)
        if (planes.shape, planes.dtype) != (self.shape[1:], self.dtype):
            raise FileError(
                f"{file}: is {planes.dtype} {planes.shape!r}: expected {self.dtype} "
                f"{self.shape[1:]!r}",
                frame=index[0],
            )
        return planes(index[1:])


def _open_files(
    candidates: Sequence[Path], name: str, source: str, request: ReadRequest
) -> OpenedImage:
    files = sorted((file for file in candidates if _is_image(file)), key=get_natural_sort_key)
    if not files:
        raise FileError(
            f"{source}: no images found: expected files ending in {', '.join(PLANE_FILE_SUFFIXES)}"
        )
    first = _get_reader(files[0]).open(files[0], request)
    if len(files) == 1:
        return replace(first, name=name, source=source)
    file_planes = [_open_planes(str(file), request) for file in files]
    _check_same_shape(files, file_planes, source)
    shape = (len(files), *file_planes[0].shape)
    planes = _FilePlanes(
        tuple(map(str, files)), shape, file_planes[0].dtype, 1 + file_planes[0].n_leading, request
    )
    return replace(
        first,
        data=make_lazy_array(planes, source),
        axes=UNKNOWN_AXIS + first.axes,
        name=name,
        source=source,
    )


def _check_same_shape(
    files: Sequence[Path], file_planes: Sequence[PlaneReader], source: str
) -> None:
    """Raise FileError for the first file that differs from the majority in shape or type."""
    kinds = [(planes.shape, planes.dtype) for planes in file_planes]
    (shape, dtype), count = Counter(kinds).most_common(1)[0]
    for file, kind in zip(files, kinds, strict=True):
        if kind != (shape, dtype):
            raise FileError(
                f"{source}: {file.name} is {kind[1]} {kind[0]!r} and {count} of {len(files)} "
                f"files are {dtype} {shape!r}: expected all files alike; remove this one, or "
                "select the files with a pattern"
            )


@lru_cache(maxsize=64)  # headers of files, no pixels
def _open_planes(file: str, request: ReadRequest) -> PlaneReader:
    open_planes = _get_reader(Path(file)).open_planes
    assert open_planes is not None
    return open_planes(Path(file), request)


def _get_reader(file: Path) -> ImageReader:
    reader = find_reader(file)
    assert reader is not None
    return reader


def _is_image(path: Path) -> bool:
    return (
        path.name.lower().endswith(PLANE_FILE_SUFFIXES)
        and not path.name.startswith(".")
        and path.is_file()
    )

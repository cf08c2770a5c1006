"""Folders and globs: images that are the planes of one stack, a file for each step along one axis."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import AxesError, FileError
from napari_sam2.io.readers.image_files import open_image_file, open_image_file_planes
from napari_sam2.io.readers.lazy import PlaneReader, make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage
from napari_sam2.io.readers.tiff import open_tiff, open_tiff_planes

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm")
IMAGE_FILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def open_folder(folder: Path) -> OpenedImage:
    """The images directly in a folder, in natural order (t2 before t10); hidden files and other files are left alone."""
    files = [file for file in folder.iterdir() if _is_image(file)]
    if not files:
        raise FileError(
            f"{folder}: holds no images: expected files ending in "
            f"{', '.join(TIFF_SUFFIXES + IMAGE_FILE_SUFFIXES)}"
        )
    return _open_files(files, folder.name, str(folder))


def open_glob(pattern: str) -> OpenedImage:
    """The images a pattern like ``frames/t*.tif`` names, in natural order."""
    files = [Path(name) for name in glob.glob(pattern, recursive=True) if _is_image(Path(name))]
    if not files:
        raise FileError(
            f"{pattern}: names no images: expected files ending in "
            f"{', '.join(TIFF_SUFFIXES + IMAGE_FILE_SUFFIXES)}"
        )
    return _open_files(files, Path(pattern).parent.name or "stack", pattern)


def open_single_file(path: Path, level: int = 0) -> OpenedImage:
    """One image file, by what its name ends in."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return open_tiff(path, level)
    if level:
        raise AxesError(f"level {level!r}: {path} has one (0)")
    return open_image_file(path)


def natural_sort_key(path: Path) -> list[tuple[int, int, str]]:
    """A sort key under which frame10 comes after frame2."""
    pieces = re.findall(r"\d+|\D+", str(path))
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece.lower()) for piece in pieces]


@dataclass(frozen=True)
class _FilePlanes:
    """The planes of many files of one shape: the first dimension counts the files."""

    files: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        file = self.files[index[0]]
        planes = _open_planes(file)
        if (planes.shape, planes.dtype) != (self.shape[1:], self.dtype):
            raise FileError(
                f"{file}: is {planes.dtype} {planes.shape!r}, expected {self.dtype} "
                f"{self.shape[1:]!r}",
                frame=index[0],
            )
        return planes(index[1:])


def _open_files(files: Sequence[Path], name: str, source: str) -> OpenedImage:
    ordered = sorted(files, key=natural_sort_key)
    first = open_single_file(ordered[0])
    if len(ordered) == 1:
        return replace(first, name=name, source=source)
    found = [_open_planes(str(file)) for file in ordered]
    _check_same_shape(ordered, found, source)
    one = found[0]
    planes = _FilePlanes(
        tuple(map(str, ordered)), (len(ordered), *one.shape), one.dtype, 1 + one.n_leading
    )
    return OpenedImage(
        make_lazy_array(planes, source),
        UNKNOWN_AXIS + first.axes,
        first.spacing,
        first.channels,
        first.rgb,
        name,
        source,
    )


def _check_same_shape(
    files: Sequence[Path], file_planes: Sequence[PlaneReader], source: str
) -> None:
    """Raise FileError naming the first file that differs from most."""
    kinds = [(planes.shape, planes.dtype) for planes in file_planes]
    (shape, dtype), count = Counter(kinds).most_common(1)[0]
    for file, kind in zip(files, kinds, strict=True):
        if kind != (shape, dtype):
            raise FileError(
                f"{source}: {file.name} is {kind[1]} {kind[0]!r} and {count} of {len(files)} "
                f"files are {dtype} {shape!r}: "
                "expected all alike; take it out, or name the files to use by a pattern"
            )


@lru_cache(maxsize=64)  # heads of files, no pixels
def _open_planes(file: str) -> PlaneReader:
    path = Path(file)
    reader: Callable[[Path], PlaneReader] = (
        open_tiff_planes if path.suffix.lower() in TIFF_SUFFIXES else open_image_file_planes
    )
    return reader(path)


def _is_image(path: Path) -> bool:
    return (
        path.suffix.lower() in TIFF_SUFFIXES + IMAGE_FILE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )

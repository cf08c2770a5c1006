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
from napari_sam2.io.readers.image_files import open_picture, picture_planes
from napari_sam2.io.readers.lazy import Planes, lazily
from napari_sam2.io.readers.opened import UNKNOWN, Content
from napari_sam2.io.readers.tiff import open_tiff, tiff_planes

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def open_folder(folder: Path) -> Content:
    """The images directly in a folder, in natural order (t2 before t10); hidden files and other files are left alone."""
    files = [file for file in folder.iterdir() if _is_image(file)]
    if not files:
        raise FileError(
            f"{folder}: holds no images: expected files ending in "
            f"{', '.join(TIFF_SUFFIXES + PICTURE_SUFFIXES)}"
        )
    return _open_files(files, folder.name, str(folder))


def open_glob(pattern: str) -> Content:
    """The images a pattern like ``frames/t*.tif`` names, in natural order."""
    files = [Path(name) for name in glob.glob(pattern, recursive=True) if _is_image(Path(name))]
    if not files:
        raise FileError(
            f"{pattern}: names no images: expected files ending in "
            f"{', '.join(TIFF_SUFFIXES + PICTURE_SUFFIXES)}"
        )
    return _open_files(files, Path(pattern).parent.name or "stack", pattern)


def open_image(path: Path, level: int = 0) -> Content:
    """One image file, by what its name ends in."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return open_tiff(path, level)
    if level:
        raise AxesError(f"level {level!r}: {path} has one (0)")
    return open_picture(path)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A sort key under which frame10 comes after frame2."""
    pieces = re.findall(r"\d+|\D+", str(path))
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece.lower()) for piece in pieces]


@dataclass(frozen=True)
class _FilePlanes:
    """The planes of many files of one shape: the first dimension counts the files."""

    files: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    lead: int

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        file = self.files[index[0]]
        planes = _planes(file)
        if (planes.shape, planes.dtype) != (self.shape[1:], self.dtype):
            raise FileError(
                f"{file}: is {planes.dtype} {planes.shape!r}, expected {self.dtype} "
                f"{self.shape[1:]!r}",
                frame=index[0],
            )
        return planes(index[1:])


def _open_files(files: Sequence[Path], name: str, source: str) -> Content:
    ordered = sorted(files, key=natural)
    first = open_image(ordered[0])
    if len(ordered) == 1:
        return replace(first, name=name, source=source)
    found = [_planes(str(file)) for file in ordered]
    _check_alike(ordered, found, source)
    one = found[0]
    planes = _FilePlanes(
        tuple(map(str, ordered)), (len(ordered), *one.shape), one.dtype, 1 + one.lead
    )
    return Content(
        lazily(planes, source),
        UNKNOWN + first.axes,
        first.spacing,
        first.channels,
        first.colour,
        name,
        source,
    )


def _check_alike(files: Sequence[Path], found: Sequence[Planes], source: str) -> None:
    """Raise FileError naming the first file that differs from most."""
    kinds = [(planes.shape, planes.dtype) for planes in found]
    (shape, dtype), count = Counter(kinds).most_common(1)[0]
    for file, kind in zip(files, kinds, strict=True):
        if kind != (shape, dtype):
            raise FileError(
                f"{source}: {file.name} is {kind[1]} {kind[0]!r} and {count} of {len(files)} "
                f"files are {dtype} {shape!r}: "
                "expected all alike; take it out, or name the files to use by a pattern"
            )


@lru_cache(maxsize=64)  # heads of files, no pixels
def _planes(file: str) -> Planes:
    path = Path(file)
    reader: Callable[[Path], Planes] = (
        tiff_planes if path.suffix.lower() in TIFF_SUFFIXES else picture_planes
    )
    return reader(path)


def _is_image(path: Path) -> bool:
    return (
        path.suffix.lower() in TIFF_SUFFIXES + PICTURE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )

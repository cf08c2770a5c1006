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
from napari_sam2.io.readers.sets.file_names import arrange_files
from napari_sam2.io.readers.sets.label_names import select_kind
from napari_sam2.io.readers.sets.ome_files import list_ome_members


def open_folder(folder: Path, request: ReadRequest) -> OpenedImage:
    """Open the images directly in a folder; see `arrange_files`.

    Hidden files and files of other kinds are ignored; labels beside images are left out with a
    note, or images beside labels if labels are requested.
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
    """The planes of several files of one shape; the first dimensions are those of their grid."""

    files: tuple[str, ...]
    lengths: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int
    request: ReadRequest

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        n_grid = len(self.lengths)
        number = int(np.ravel_multi_index(index[:n_grid], self.lengths))
        file = self.files[number]
        planes = _open_planes(file, self.request)
        if (planes.shape, planes.dtype) != (self.shape[n_grid:], self.dtype):
            raise FileError(
                f"{file}: is {planes.dtype} {planes.shape!r}: expected {self.dtype} "
                f"{self.shape[n_grid:]!r}",
                frame=number,
            )
        return planes(index[n_grid:])


def _open_files(
    candidates: Sequence[Path], name: str, source: str, request: ReadRequest
) -> OpenedImage:
    found = sorted((file for file in candidates if _is_image(file)), key=get_natural_sort_key)
    if not found:
        raise FileError(
            f"{source}: no images found: expected files ending in {', '.join(PLANE_FILE_SUFFIXES)}"
        )
    files, note = select_kind(found, labels=request.labels, source=source)
    notes = (note,) if note else ()
    first = _get_reader(files[0]).open(files[0], request)
    if len(files) == 1 or _check_ome_set(files, source):
        return replace(first, name=name, source=source, notes=(*notes, *first.notes))
    _check_same_frames(files, source)
    grid = arrange_files(files, source)
    file_planes = [_open_planes(str(file), request) for file in grid.files]
    _check_same_shape(grid.files, file_planes, source)
    planes = _FilePlanes(
        tuple(map(str, grid.files)),
        grid.lengths,
        (*grid.lengths, *file_planes[0].shape),
        file_planes[0].dtype,
        len(grid.lengths) + file_planes[0].n_leading,
        request,
    )
    axes = "".join(UNKNOWN_AXIS if axis in first.axes else axis for axis in grid.axes)
    return replace(
        first,
        data=make_lazy_array(planes, source),
        axes=axes + first.axes,
        channels=grid.channels or first.channels,
        name=name,
        source=source,
        notes=(*notes, *grid.notes, *first.notes),
    )


def _check_ome_set(files: Sequence[Path], source: str) -> bool:
    """Whether the files are one set by their OME metadata; FileError if others are among them."""
    named = next((file for file in files if ".ome." in file.name.lower()), files[0])
    members = list_ome_members(named)
    if len(members) < 2:
        return False
    foreign = [file.name for file in files if file.name not in members]
    if foreign:
        raise FileError(
            f"{source}: {len(foreign)} of {len(files)} files are not in the set of {named.name} "
            f"({', '.join(foreign[:3])}): expected one set; give a file of the set to open it"
        )
    return True


def _check_same_frames(files: Sequence[Path], source: str) -> None:
    """Raise FileError if a name is there twice, with two endings."""
    stems = Counter((file.parent, file.name.rpartition(".")[0]) for file in files)
    (_, stem), count = stems.most_common(1)[0]
    if count > 1:
        raise FileError(
            f"{source}: contains {stem} in {count} formats: expected each image once; select one "
            "format with a pattern such as '*.tif'"
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

"""TIFF, OME-TIFF and ImageJ TIFF: what they hold, and their planes, read one at a time."""

from __future__ import annotations

import logging
import math
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import PHOTOMETRIC, TiffFile, TiffFrame, TiffPage, TiffPageSeries

from napari_sam2.core.errors import AxesError, FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers import calibration
from napari_sam2.io.readers.lazy import (
    check_file,
    convert_read_errors,
    get_file_stamp,
    make_lazy_array,
)
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage

# What tifffile logs of a broken file is raised here as a FileError; without a handler, Python
# prints it on top of that.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_COLOUR_PHOTOMETRICS = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
_UNNAMED_KINDS = (
    "uniform",
    "generic",
)  # kinds of tifffile whose only names are those of a page's own dimensions


def open_tiff(path: Path, level: int = 0) -> OpenedImage:
    """What a TIFF holds; raises FileError for what is none, is cut off, or holds several images."""
    planes = open_tiff_planes(path, level)
    opened = _read_structure(str(path), get_file_stamp(path))
    series, base = opened.get_series(level), opened.get_series(0)
    spacing, channels = opened.calibration
    zoom = {
        axis: base.shape[n] / series.shape[n] for n, axis in enumerate(base.axes) if axis in "ZYX"
    }
    spacing = replace(
        spacing,
        **{
            f"{axis.lower()}_um": _multiply(getattr(spacing, f"{axis.lower()}_um"), by)
            for axis, by in zoom.items()
        },
    )
    data = make_lazy_array(planes, str(path))
    return OpenedImage(
        data,
        opened.get_axes(level),
        spacing,
        channels,
        opened.rgb,
        path.name.split(".")[0],
        str(path),
    )


def open_tiff_planes(path: Path, level: int = 0) -> TiffPlanes:
    """The planes of a TIFF, checked as far as they can be without reading them."""
    check_file(path)
    opened = _read_structure(str(path), get_file_stamp(path))
    series = opened.get_series(level)
    count = _count_planes(series)
    if series.dataoffset is None and len(series.pages) != count:
        raise FileError(
            f"{path}: holds {len(series.pages)} planes of the {count} it speaks of: it is cut "
            "off, copy or export it again"
        )
    if series.dataoffset is not None and series.dataoffset + series.nbytes > opened.size:
        raise FileError(
            f"{path}: ends after {opened.size} bytes, {series.dataoffset + series.nbytes} "
            "expected: it is cut off, copy it again"
        )
    lead = _count_leading(series)
    return TiffPlanes(
        str(path), level, tuple(series.shape), np.dtype(series.dtype).newbyteorder("="), lead
    )


@dataclass(frozen=True)
class TiffPlanes:
    """Planes of one TIFF. Keeps no file open and can be pickled."""

    path: str
    level: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """The pixels of the page that this index of the leading dimensions counts."""
        opened = _read_structure(self.path, get_file_stamp(Path(self.path)))
        number = (
            int(np.ravel_multi_index(index, self.shape[: self.n_leading])) if self.n_leading else 0
        )
        series = opened.get_series(self.level)
        if series.dataoffset is not None:
            plane = self._read_contiguous(series, number)
        else:
            plane = self._decode_page(series.pages[number], opened.lock)
        return plane.reshape(self.shape[self.n_leading :])

    def _read_contiguous(self, series: TiffPageSeries, number: int) -> np.ndarray:
        """Pixels that lie one after the other in the file, as ImageJ's do, which may have no page of their own."""
        count = math.prod(self.shape[self.n_leading :])
        dtype = self.dtype.newbyteorder(series.keyframe.parent.byteorder)
        assert series.dataoffset is not None
        return np.fromfile(
            self.path, dtype, count, offset=series.dataoffset + number * count * dtype.itemsize
        )

    def _decode_page(self, page: TiffPage | TiffFrame | None, lock: threading.Lock) -> np.ndarray:
        if page is None:
            raise ValueError("the file names this plane and does not hold it")
        file = page.parent.filehandle
        ends = [
            offset + count
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
        ]
        if max(ends, default=0) > file.size:
            raise ValueError(f"its pixels end at byte {max(ends)}, the file at {file.size}")
        with lock:
            file.open()
            try:
                return np.asarray(page.asarray())
            finally:
                file.close()


@dataclass(frozen=True, eq=False)
class _TiffStructure:
    """The structure of a TIFF, its file closed again, so that no handle is left behind."""

    tiff: TiffFile
    size: int
    calibration: tuple[Spacing, tuple[str, ...]]
    metadata: Mapping[str, Any]
    lock: threading.Lock

    def get_series(self, level: int) -> TiffPageSeries:
        levels = self.tiff.series[0].levels
        if not 0 <= level < len(levels):
            raise AxesError(
                f"level {level!r}: the file has {len(levels)} (0 is the full resolution)"
            )
        return levels[level]

    def get_axes(self, level: int) -> str:
        """One letter a dimension, UNKNOWN where tifffile made it up (its Q, I and S of plain files are no metadata)."""
        series, kind = self.get_series(level), self.get_series(0).kind
        if kind in _UNNAMED_KINDS or (kind == "shaped" and "axes" not in self.metadata):
            page = series.keyframe.axes
            return UNKNOWN_AXIS * (len(series.shape) - len(page)) + page
        return series.axes

    @property
    def rgb(self) -> bool:
        # ImageJ stores three grey channels as the samples of one page, and says how many channels
        # there are
        return (
            self.get_series(0).keyframe.photometric in _COLOUR_PHOTOMETRICS
            and int(self.metadata.get("channels", 1)) == 1
        )


@lru_cache(maxsize=32)  # of structures, not of pixels: some kB for each page
def _read_structure(path: str, file_stamp: tuple[int, int]) -> _TiffStructure:
    expected = "a whole TIFF"
    with convert_read_errors(f"{path}: cannot be read as TIFF", expected), TiffFile(path) as tiff:
        _check_pages(tiff, path)
        series = tiff.series[0]
        page = series.keyframe
        shaped: Mapping[str, Any] = (
            (tiff.shaped_metadata or ({},))[0] if series.kind == "shaped" else {}
        )
        declared = tiff.imagej_metadata or {} if series.kind == "imagej" else shaped
        found: tuple[Spacing, tuple[str, ...]]
        if series.kind == "ome" and tiff.ome_metadata:
            found = calibration.read_ome_calibration(tiff.ome_metadata)
        elif "unit" in declared or "finterval" in declared:
            found = calibration.read_imagej_spacing(declared, page), ()
        else:
            found = calibration.read_page_spacing(page), ()
        _ = [each.dataoffset for each in series.levels]  # worked out while the file is open
        return _TiffStructure(tiff, tiff.filehandle.size, found, declared, threading.Lock())


def _check_pages(tiff: TiffFile, path: str) -> None:
    """Raise FileError for a chain of pages that breaks off, or several images in one file."""
    if not tiff.series or not tiff.series[0].keyframe.shape:
        raise FileError(f"{path}: is a TIFF without an image: expected pixels")
    if tiff.is_imagej and tiff.series[0].kind in _UNNAMED_KINDS:
        raise FileError(
            f"{path}: holds less than its ImageJ metadata speak of: it is cut off, copy or "
            "export it again"
        )
    if len(tiff.series) > 1:
        shapes = ", ".join(str(each.shape) for each in tiff.series[:4])
        raise FileError(
            f"{path}: holds {len(tiff.series)} images ({shapes}), expected one: save the one to "
            "use as a file of its own"
        )
    series, place = tiff.series[0], tiff.pages.next_page_offset
    declared = (
        series.kind not in (*_UNNAMED_KINDS, "ome") and series.dataoffset is not None
    )  # ImageJ's planes need no pages of their own
    if place is None or declared:
        return
    tiff.filehandle.seek(place)
    (following,) = struct.unpack(tiff.tiff.offsetformat, tiff.filehandle.read(tiff.tiff.offsetsize))
    if following:
        raise FileError(
            f"{path}: its list of pages breaks off after {len(tiff.pages)}: it is cut off, copy "
            "or export it again"
        )


def _count_planes(series: TiffPageSeries) -> int:
    return math.prod(series.shape) // math.prod(series.keyframe.shape)


def _count_leading(series: TiffPageSeries) -> int:
    """How many dimensions count pages; the others lie inside one."""
    count, lead = _count_planes(series), 0
    while math.prod(series.shape[:lead]) < count:
        lead += 1
    return lead


def _multiply(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor

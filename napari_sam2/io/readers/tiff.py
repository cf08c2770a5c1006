"""TIFF, OME-TIFF and ImageJ TIFF, read one plane at a time."""

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
from napari_sam2.io.readers.files import check_file, convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage

# This module raises a FileError for a broken file. Without a handler, Python would also print what
# tifffile logs about it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm")

_COLOUR_PHOTOMETRICS = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
# kinds of series in tifffile that name only the dimensions within a page
_UNNAMED_KINDS = ("uniform", "generic")


def open_tiff(path: Path, level: int = 0) -> OpenedImage:
    """Open a TIFF.

    Raises FileError if the file is not a TIFF, is truncated, or contains several images.
    """
    planes = open_tiff_planes(path, level)
    structure = _read_structure(str(path), get_file_stamp(path))
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        structure.get_axes(level),
        structure.compute_spacing(level),
        structure.channels,
        structure.rgb,
        path.name.split(".")[0],
        str(path),
    )


def open_tiff_planes(path: Path, level: int = 0) -> TiffPlanes:
    """The planes of a TIFF, checked as far as possible without reading them."""
    check_file(path)
    structure = _read_structure(str(path), get_file_stamp(path))
    series = structure.get_series(level)
    _check_size(path, series, structure.size)
    return TiffPlanes(
        str(path),
        level,
        tuple(series.shape),
        np.dtype(series.dtype).newbyteorder("="),
        _count_leading(series),
    )


def _check_size(path: Path, series: TiffPageSeries, file_size: int) -> None:
    """Raise FileError if pages are missing, or if pixels would lie behind the end of the file."""
    count = _count_planes(series)
    if series.dataoffset is None:
        if len(series.pages) != count:
            raise FileError(
                f"{path}: contains {len(series.pages)} of {count} planes: it is truncated; copy or "
                "export it again"
            )
    elif (expected_size := series.dataoffset + series.nbytes) > file_size:
        raise FileError(
            f"{path}: has {file_size} bytes, {expected_size} expected: it is truncated; copy it "
            "again"
        )


@dataclass(frozen=True)
class TiffPlanes:
    """The planes of one level of a TIFF. It keeps no file open and can be pickled."""

    path: str
    level: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """The page at this index of the leading dimensions."""
        structure = _read_structure(self.path, get_file_stamp(Path(self.path)))
        leading = self.shape[: self.n_leading]
        number = int(np.ravel_multi_index(index, leading)) if leading else 0
        series = structure.get_series(self.level)
        if series.dataoffset is not None:
            plane = self._read_contiguous(series, number)
        else:
            plane = self._decode_page(series.pages[number], structure.lock)
        return plane.reshape(self.shape[self.n_leading :])

    def _read_contiguous(self, series: TiffPageSeries, number: int) -> np.ndarray:
        """A plane of contiguous uncompressed pixels; ImageJ writes these with a single page."""
        count = math.prod(self.shape[self.n_leading :])
        dtype = self.dtype.newbyteorder(series.keyframe.parent.byteorder)
        assert series.dataoffset is not None
        return np.fromfile(
            self.path, dtype, count, offset=series.dataoffset + number * count * dtype.itemsize
        )

    def _decode_page(self, page: TiffPage | TiffFrame | None, lock: threading.Lock) -> np.ndarray:
        if page is None:
            raise ValueError("the file lists this plane but does not contain it")
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
    """The pages and metadata of a TIFF whose file is closed.

    `size` is that of the file in bytes; `spacing` is that of level 0; `metadata` are those of
    ImageJ or of tifffile's shaped files; `lock` guards the file handle, which `tiff` reopens.
    """

    tiff: TiffFile
    size: int
    spacing: Spacing
    channels: tuple[str, ...]
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
        """One letter for each dimension, `UNKNOWN_AXIS` if the file does not name it.

        In files without metadata, tifffile invents the letters Q, I and S.
        """
        series, kind = self.get_series(level), self.get_series(0).kind
        if kind in _UNNAMED_KINDS or (kind == "shaped" and "axes" not in self.metadata):
            page = series.keyframe.axes
            return UNKNOWN_AXIS * (len(series.shape) - len(page)) + page
        return series.axes

    def compute_spacing(self, level: int) -> Spacing:
        """The spacing of a level of the pyramid, larger than that of level 0 by the zoom factor."""
        series, base = self.get_series(level), self.get_series(0)
        scaled = {}
        for number, axis in enumerate(base.axes):
            name = f"{axis.lower()}_um"
            if axis in "ZYX" and (value := getattr(self.spacing, name)) is not None:
                scaled[name] = value * (base.shape[number] / series.shape[number])
        return replace(self.spacing, **scaled)

    @property
    def rgb(self) -> bool:
        # ImageJ may store three grey channels as the samples of one page; its metadata then give
        # their number
        return (
            self.get_series(0).keyframe.photometric in _COLOUR_PHOTOMETRICS
            and int(self.metadata.get("channels", 1)) == 1
        )


@lru_cache(maxsize=32)  # structures without pixels: some kB for each page
def _read_structure(path: str, file_stamp: tuple[int, int]) -> _TiffStructure:
    expected = "a whole TIFF"
    with convert_read_errors(f"{path}: cannot be read as TIFF", expected), TiffFile(path) as tiff:
        _check_pages(tiff, path)
        series = tiff.series[0]
        metadata = _read_metadata(tiff)
        spacing, channels = _read_calibration(tiff, metadata)
        _ = [level.dataoffset for level in series.levels]  # cached, because it needs the open file
        return _TiffStructure(
            tiff, tiff.filehandle.size, spacing, channels, metadata, threading.Lock()
        )


def _read_metadata(tiff: TiffFile) -> Mapping[str, Any]:
    """The metadata of ImageJ or of tifffile's shaped files; empty for other kinds."""
    kind = tiff.series[0].kind
    if kind == "imagej":
        return tiff.imagej_metadata or {}
    return (tiff.shaped_metadata or ({},))[0] if kind == "shaped" else {}


def _read_calibration(
    tiff: TiffFile, metadata: Mapping[str, Any]
) -> tuple[Spacing, tuple[str, ...]]:
    """Spacing and channel names."""
    series = tiff.series[0]
    if series.kind == "ome" and tiff.ome_metadata:
        return calibration.read_ome_calibration(tiff.ome_metadata)
    if "unit" in metadata or "finterval" in metadata:
        return calibration.read_imagej_spacing(metadata, series.keyframe), ()
    return calibration.read_page_spacing(series.keyframe), ()


def _check_pages(tiff: TiffFile, path: str) -> None:
    """Raise FileError if the file has no image, several images, or an incomplete list of pages."""
    if not tiff.series or not tiff.series[0].keyframe.shape:
        raise FileError(f"{path}: is a TIFF without an image: expected pixels")
    if tiff.is_imagej and tiff.series[0].kind in _UNNAMED_KINDS:
        raise FileError(
            f"{path}: contains fewer planes than its ImageJ metadata declare: it is truncated; "
            "copy or export it again"
        )
    if len(tiff.series) > 1:
        shapes = ", ".join(str(series.shape) for series in tiff.series[:4])
        raise FileError(
            f"{path}: contains {len(tiff.series)} images ({shapes}): expected one; save the image "
            "to use as its own file"
        )
    _check_page_list(tiff, path)


def _check_page_list(tiff: TiffFile, path: str) -> None:
    """Raise FileError if the offset of the next page points behind the last page found."""
    series, offset = tiff.series[0], tiff.pages.next_page_offset
    # ImageJ's planes need no pages of their own
    contiguous = series.kind not in (*_UNNAMED_KINDS, "ome") and series.dataoffset is not None
    if offset is None or contiguous:
        return
    tiff.filehandle.seek(offset)
    (next_page,) = struct.unpack(tiff.tiff.offsetformat, tiff.filehandle.read(tiff.tiff.offsetsize))
    if next_page:
        raise FileError(
            f"{path}: its list of pages breaks off after {len(tiff.pages)}: it is truncated; copy "
            "or export it again"
        )


def _count_planes(series: TiffPageSeries) -> int:
    return math.prod(series.shape) // math.prod(series.keyframe.shape)


def _count_leading(series: TiffPageSeries) -> int:
    """How many dimensions count pages; the others are within a page."""
    count, n_leading = _count_planes(series), 0
    while math.prod(series.shape[:n_leading]) < count:
        n_leading += 1
    return n_leading

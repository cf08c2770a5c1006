"""TIFF, OME-TIFF and ImageJ TIFF, read one plane at a time."""

from __future__ import annotations

import logging
import math
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

from napari_sam2.core.errors import AxesError, FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.calibration.calibration import Calibration
from napari_sam2.io.readers.calibration.dialects import read_dialect
from napari_sam2.io.readers.calibration.imagej import (
    ValueFunction,
    read_imagej_spacing,
    read_value_function,
)
from napari_sam2.io.readers.calibration.ome import check_ome, find_pixels, read_ome_calibration
from napari_sam2.io.readers.calibration.resolution import doubt_printer_size, read_page_spacing
from napari_sam2.io.readers.files import check_file, convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import (
    UNKNOWN_AXIS,
    OpenedImage,
    ReadRequest,
    check_interval,
    choose_series,
)
from napari_sam2.io.readers.pixels.compression import find_lossy_compression
from napari_sam2.io.readers.pixels.photometric import PixelConversion, is_inverted_mask
from napari_sam2.io.readers.sets.ome_files import (
    COMPANION_SUFFIX,
    check_ome_members,
    resolve_ome_files,
)

# This module raises a FileError for a broken file. Without a handler, Python would also print what
# tifffile logs about it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

SUFFIXES = (
    *(".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk"),
    COMPANION_SUFFIX,
    *(".svs", ".ndpi", ".scn", ".bif", ".qptiff"),  # pyramids of slide scanners
)

# kinds of series in tifffile that name only the dimensions within a page
_UNNAMED_KINDS = ("uniform", "generic")
_MAX_REDUCTION_ERROR = 0.02  # of the size of a pyramid's level, relative


def open_tiff(path: Path, request: ReadRequest | None = None) -> OpenedImage:
    """Open a TIFF.

    If a file contains one pyramid and other images, as those of slide scanners do, the pyramid is
    read unless another is requested.

    Raises FileError if the file is not a TIFF, is truncated, or contains several images and none is
    requested.
    """
    request = request or ReadRequest()
    planes = open_tiff_planes(path, request)
    structure = _read_structure(str(path), get_file_stamp(path))
    number = structure.choose_series(request.series)
    image = structure.images[number]
    conversion = structure.get_conversion(number, request)
    calibration = structure.calibrations[number]
    spacing, times_s, time_notes = check_interval(
        calibration.spacing, calibration.times_s, str(path)
    )
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        structure.get_axes(number, conversion),
        image.scale_spacing(spacing, request.level),
        calibration.channels,
        # ImageJ may store three grey channels as the samples of one page; its metadata then give
        # their number
        conversion.rgb and int(structure.metadata.get("channels", 1)) == 1,
        path.name.split(".")[0],
        str(path),
        times_s=times_s,
        notes=(
            *structure.describe_choice(number, request),
            *conversion.notes,
            *(f"{path}: {note}" for note in calibration.notes),
            *time_notes,
        ),
        lossy=image.lossy,
        max_value=structure.compute_max_value(number, request),
    )


def open_tiff_planes(path: Path, request: ReadRequest | None = None) -> TiffPlanes:
    """The planes of a TIFF, checked as far as possible without reading them."""
    request = request or ReadRequest()
    check_file(path)
    structure = _read_structure(str(path), get_file_stamp(path))
    number = structure.choose_series(request.series)
    series = structure.images[number].get_level(request.level)
    _check_size(path, series, structure.size)
    conversion = structure.get_conversion(number, request)
    function = structure.get_function(number, request)
    dtype = conversion.dtype if function is None else function.choose_dtype(conversion.dtype)
    return TiffPlanes(
        str(path),
        replace(request, series=number),
        conversion.shape,
        dtype,
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
    """The planes of one image of a TIFF. It keeps no file open and can be pickled."""

    path: str
    request: ReadRequest
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """The page at this index of the leading dimensions."""
        structure = _read_structure(self.path, get_file_stamp(Path(self.path)))
        leading = self.shape[: self.n_leading]
        number = int(np.ravel_multi_index(index, leading)) if leading else 0
        image = structure.choose_series(self.request.series)
        series = structure.images[image].get_level(self.request.level)
        if series.dataoffset is not None:
            plane = self._read_contiguous(series, number)
        else:
            plane = self._decode_page(series.pages[number], structure.lock)
        plane = plane.reshape(series.shape[self.n_leading :])
        conversion = structure.get_conversion(image, self.request)
        converted = plane if conversion.convert is None else conversion.convert(plane)
        function = structure.get_function(image, self.request)
        return converted if function is None else function.apply(converted, self.dtype)

    def _read_contiguous(self, series: TiffPageSeries, number: int) -> np.ndarray:
        """A plane of contiguous uncompressed pixels; ImageJ writes these with a single page."""
        count = math.prod(series.shape[self.n_leading :])
        dtype = np.dtype(series.dtype).newbyteorder(series.keyframe.parent.byteorder)
        assert series.dataoffset is not None
        pixels = np.fromfile(
            self.path, dtype, count, offset=series.dataoffset + number * count * dtype.itemsize
        )
        return pixels.astype(dtype.newbyteorder("="), copy=False)

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
class _TiffImage:
    """One image of a TIFF: the levels of its pyramid, its palette, and its compression if lossy.

    `mask` says that its zeros are background although they are declared as white; see
    `is_inverted_mask`.
    """

    levels: tuple[TiffPageSeries, ...]
    palette: np.ndarray | None
    lossy: str
    mask: bool

    def get_level(self, level: int) -> TiffPageSeries:
        if not 0 <= level < len(self.levels):
            raise AxesError(
                f"level {level!r}: the file has {len(self.levels)} (0 is the full resolution)"
            )
        return self.levels[level]

    def scale_spacing(self, spacing: Spacing, level: int) -> Spacing:
        """The spacing of a level of the pyramid, larger than that of level 0 by the zoom factor."""
        series, base = self.get_level(level), self.levels[0]
        scaled = {}
        for number, axis in enumerate(base.axes):
            name = f"{axis.lower()}_um"
            if axis in "ZYX" and (value := getattr(spacing, name)) is not None:
                scaled[name] = value * (base.shape[number] / series.shape[number])
        return replace(spacing, **scaled)


@dataclass(frozen=True, eq=False)
class _TiffStructure:
    """The pages and metadata of a TIFF whose file is closed.

    `size` is that of the file in bytes; `calibrations` are those of each image, at level 0;
    `metadata` are those of ImageJ or of tifffile's shaped files; `lock` guards the file handle,
    which `tiff` reopens.
    """

    tiff: TiffFile
    path: str
    size: int
    images: tuple[_TiffImage, ...]
    calibrations: tuple[Calibration, ...]
    metadata: Mapping[str, Any]
    lock: threading.Lock

    def choose_series(self, series: int | None) -> int:
        """The number of the image to read: the requested, the only one, or the only pyramid."""
        pyramids = [number for number, image in enumerate(self.images) if len(image.levels) > 1]
        if series is None and len(pyramids) == 1:
            return pyramids[0]
        names = [str(tuple(image.levels[0].shape)) for image in self.images]
        return choose_series(series, names, self.path)

    def describe_choice(self, number: int, request: ReadRequest) -> tuple[str, ...]:
        """Notes about the other images of the file, if none was requested."""
        if request.series is not None or len(self.images) == 1:
            return ()
        levels = self.images[number].levels
        note = (
            f"{self.path}: contains {len(self.images)} images; number {number} is read, a pyramid "
            f"of {len(levels)} levels (choose with --series, --level)"
        )
        return (note,)

    def get_conversion(self, number: int, request: ReadRequest) -> PixelConversion:
        """How samples of an image become pixels."""
        return PixelConversion.of(
            self.images[number].get_level(request.level),
            source=self.path,
            palette=None if request.labels else self.images[number].palette,
            mask=request.labels and self.images[number].mask,
            lookup=bool(self.tiff.is_imagej or self.tiff.is_ome or self.tiff.is_lsm),
        )

    def get_function(self, number: int, request: ReadRequest) -> ValueFunction | None:
        """From stored to calibrated values; labels are whole numbers, or stored as they are."""
        function = self.calibrations[number].function
        return None if function and request.labels and not function.integral else function

    def compute_max_value(self, number: int, request: ReadRequest) -> float | None:
        """The largest value that the bits of the detector can record; None if not stated."""
        image, calibration = self.images[number], self.calibrations[number]
        page = image.levels[0].keyframe
        if np.dtype(image.levels[0].dtype).kind != "u":
            return None
        bits = min(calibration.bits or page.bitspersample, page.bitspersample)
        function = self.get_function(number, request)
        if function is None:
            return (
                None if bits == 8 * np.dtype(image.levels[0].dtype).itemsize else float(2**bits - 1)
            )
        return float(function.apply(np.array([2**bits - 1]), np.dtype(np.float64))[0])

    def get_axes(self, number: int, conversion: PixelConversion) -> str:
        """One letter for each dimension, `UNKNOWN_AXIS` if the file does not name it.

        In files without metadata, tifffile invents the letters Q, I and S.
        """
        series = self.images[number].levels[0]
        kind, axes = series.kind, conversion.axes
        if kind in _UNNAMED_KINDS or (kind == "shaped" and "axes" not in self.metadata):
            n_unnamed = len(series.shape) - len(series.keyframe.axes)
            return UNKNOWN_AXIS * n_unnamed + series.keyframe.axes + axes[len(series.shape) :]
        return axes


@lru_cache(maxsize=32)  # structures without pixels: some kB for each page
def _read_structure(path: str, file_stamp: tuple[int, int]) -> _TiffStructure:
    expected = "a whole TIFF"
    file, xml = resolve_ome_files(Path(path))
    with (
        convert_read_errors(f"{path}: cannot be read as TIFF", expected),
        TiffFile(file, omexml=xml) as tiff,
    ):
        if tiff.ome_metadata:
            check_ome(tiff.ome_metadata, file, len(tiff.pages))
            check_ome_members(tiff.ome_metadata, file)
        _check_pages(tiff, path)
        metadata = _read_metadata(tiff)
        images = _list_images(tiff)
        calibrations = _read_calibrations(tiff, path, metadata, images)
        size = tiff.filehandle.size
        return _TiffStructure(tiff, path, size, images, calibrations, metadata, threading.Lock())


def _list_images(tiff: TiffFile) -> tuple[_TiffImage, ...]:
    """The images of a file, with the levels of their pyramids.

    Files without metadata hold the levels of a pyramid as images that are reduced copies of the
    first.
    """
    first, *others = list(tiff.series)
    levels = list(first.levels)
    if len(levels) == 1 and first.kind in _UNNAMED_KINDS:
        levels += [series for series in others if _is_reduced_copy(series, levels[0])]
    rest = [series for series in others if series not in levels and not _is_thumbnail(series)]
    images = []
    for group in (levels, *(list(series.levels) for series in rest)):
        _ = [level.dataoffset for level in group]  # cached, because it needs the open file
        page = group[0].keyframe
        lossy = find_lossy_compression(page)
        images.append(_TiffImage(tuple(group), page.colormap, lossy, is_inverted_mask(page)))
    return tuple(images)


def _is_thumbnail(series: TiffPageSeries) -> bool:
    """Whether a series are the thumbnails of the planes of an LSM file."""
    return series.kind == "lsm" and bool(series.keyframe.is_reduced)


def _is_reduced_copy(series: TiffPageSeries, base: TiffPageSeries) -> bool:
    """Whether a series has the layout of another, at a lower resolution."""
    if (series.axes, series.dtype) != (base.axes, base.dtype):
        return False
    pairs = zip(base.axes, base.shape, series.shape, strict=True)
    factors = {axis: large / small for axis, large, small in pairs}
    y, x = factors.pop("Y"), factors.pop("X")
    alike = abs(y / x - 1) <= max(_MAX_REDUCTION_ERROR, 2 * max(y, x) / min(base.shape[-2:]))
    tiled = series.keyframe.is_tiled and base.keyframe.is_tiled
    halved = abs(y / 2 ** round(math.log2(y)) - 1) <= _MAX_REDUCTION_ERROR
    kind = bool(series.keyframe.is_reduced) or (tiled and halved)
    return all(factor == 1 for factor in factors.values()) and alike and kind and y > 1


def _read_metadata(tiff: TiffFile) -> Mapping[str, Any]:
    """The metadata of ImageJ or of tifffile's shaped files; empty for other kinds."""
    kind = tiff.series[0].kind
    if kind == "imagej":
        return tiff.imagej_metadata or {}
    return (tiff.shaped_metadata or ({},))[0] if kind == "shaped" else {}


def _read_calibrations(
    tiff: TiffFile, path: str, metadata: Mapping[str, Any], images: Sequence[_TiffImage]
) -> tuple[Calibration, ...]:
    """The calibration of each image."""
    series = [image.levels[0] for image in images]
    pixels: dict[int, Element | None] = {}
    if tiff.ome_metadata:
        every = [each for each in tiff.series if each.kind == "ome"]
        found = find_pixels(tiff.ome_metadata, Path(path), len(every))
        pixels = {id(each): element for each, element in zip(every, found, strict=True)}
    return tuple(_read_calibration(tiff, metadata, each, pixels.get(id(each))) for each in series)


def _read_calibration(
    tiff: TiffFile, metadata: Mapping[str, Any], series: TiffPageSeries, pixels: Element | None
) -> Calibration:
    """The calibration of a series; `pixels` are those of its image in OME-XML."""
    page_spacing = read_page_spacing(series.keyframe)
    if pixels is not None:
        calibration = read_ome_calibration(pixels)
        spacing = calibration.spacing
        if spacing.y_um is None and spacing.x_um is None:
            spacing = replace(spacing, y_um=page_spacing.y_um, x_um=page_spacing.x_um)
        spacing, doubts = doubt_printer_size(spacing)
        return replace(calibration, spacing=spacing, notes=doubts)
    if series.kind == "ome":
        note = "it is not known which image of its metadata this is: spacing is not read"
        return Calibration(page_spacing, notes=(note,))
    if (dialect := read_dialect(tiff)) is not None and dialect[0] != Spacing():
        return Calibration(*dialect)
    function, notes = read_value_function(metadata)
    if "unit" in metadata or "finterval" in metadata:
        spacing, choices = read_imagej_spacing(metadata, series.keyframe)
        spacing, doubts = doubt_printer_size(spacing)
        return Calibration(spacing, function=function, notes=(*notes, *choices, *doubts))
    return Calibration(page_spacing, function=function, notes=notes)


def _check_pages(tiff: TiffFile, path: str) -> None:
    """Raise FileError if the file has no image, several images, or an incomplete list of pages."""
    if not tiff.series or not tiff.series[0].keyframe.shape:
        raise FileError(f"{path}: is a TIFF without an image: expected pixels")
    if tiff.is_imagej and tiff.series[0].kind in _UNNAMED_KINDS:
        raise FileError(
            f"{path}: contains fewer planes than its ImageJ metadata declare: it is truncated; "
            "copy or export it again"
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

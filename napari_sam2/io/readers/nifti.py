"""NIfTI: medical volumes and series of volumes."""

from __future__ import annotations

import gzip
import logging
import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.core.stack import ImageGeometry, Spacing
from napari_sam2.io.readers.files import (
    check_declared_bytes,
    convert_read_errors,
    get_file_stamp,
)
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage, make_vector
from napari_sam2.io.units import convert_to_seconds, convert_to_um

SUFFIXES = (".nii", ".nii.gz")

_UM_PER_MM = 1e3  # the unit of a file that names none
_HEADER_BYTES = 348
_MAX_OFFSET = 2**26  # of the pixels, behind the extensions
_MAX_WHOLE_BYTES = 2**29  # of the pixels of a compressed file that is kept in memory
_AXES = "xyztc"  # NIfTI-1: dimensions 1 to 3 are space, 4 is time, 5 are values of a voxel


def open_nifti(path: Path) -> OpenedImage:
    """Open a NIfTI file.

    The x, y and z of the file become those of the Stack; no axis is flipped, and the affine is not
    applied.
    """
    planes = NiftiPlanes.of(path)
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        _AXES[: len(planes.shape)][::-1],
        _read_spacing(path),
        name=path.name.split(".")[0],
        source=str(path),
        geometry=_read_geometry(path),
    )


def _read_geometry(path: Path) -> ImageGeometry | None:
    """The affine, whose columns are the steps of x, y and z; None if no code declares it."""
    image = _load_image(str(path), get_file_stamp(path))
    codes = [int(image.header[name]) for name in ("sform_code", "qform_code")]
    if not any(codes):
        return None
    affine_um = image.affine * (convert_to_um(1.0, image.header.get_xyzt_units()[0]) or _UM_PER_MM)
    if not np.isfinite(affine_um).all():
        return None
    steps = [make_vector(affine_um[:3, axis]) for axis in range(3)]
    others = [None] * max(0, len(image.shape) - 3)
    return ImageGeometry(
        "patient",
        make_vector(affine_um[:3, 3]),
        tuple([*steps, *others][: len(image.shape)][::-1]),
    )


def _read_spacing(path: Path) -> Spacing:
    header = _load_image(str(path), get_file_stamp(path)).header
    zooms = [float(zoom) for zoom in header.get_zooms()]
    length_unit, time_unit = header.get_xyzt_units()
    lengths = {
        f"{axis}_um": convert_to_um(zoom, length_unit)
        for axis, zoom in zip("xyz", zooms, strict=False)
    }
    interval_s = convert_to_seconds(zooms[3], time_unit) if len(zooms) > 3 else None
    return Spacing(**lengths, t_s=interval_s)


@dataclass(frozen=True)
class NiftiPlanes:
    """The planes of a NIfTI file, `shape` (…, z, y, x).

    A compressed file is decompressed as a whole, once; a large one up to the plane that is read.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, path: Path) -> NiftiPlanes:
        """The planes of a file; reads its header."""
        with convert_read_errors(
            f"{path}: cannot be read as NIfTI", "a whole NIfTI-1 or NIfTI-2 image"
        ):
            proxy = _load_image(str(path), get_file_stamp(path)).dataobj
            shape = tuple(int(n) for n in proxy.shape)
            scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
            dtype = np.dtype(np.float64) if scaled else np.dtype(proxy.dtype).newbyteorder("=")
        if not 2 <= len(shape) <= len(_AXES):
            raise FileError(f"{path}: has {len(shape)} dimensions {shape!r}: expected 2 to 5")
        declared = math.prod(shape) * int(proxy.dtype.itemsize)
        check_declared_bytes(path, declared, offset=int(proxy.offset), compressed=_is_gzip(path))
        return cls(str(path), shape[::-1], dtype)

    @property
    def n_leading(self) -> int:
        """The number of dimensions before y and x."""
        return len(self.shape) - 2

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One (y, x) plane."""
        key = (self.path, get_file_stamp(Path(self.path)))
        n_bytes = math.prod(self.shape) * self.dtype.itemsize
        whole = _is_gzip(Path(self.path)) and n_bytes <= _MAX_WHOLE_BYTES
        voxels: Any = _load_voxels(*key) if whole else _load_image(*key).dataobj
        return np.asarray(voxels[(slice(None), slice(None), *index[::-1])], dtype=self.dtype).T


@lru_cache(maxsize=16)  # headers
def _load_image(path: str, _: tuple[int, int]) -> Any:
    nibabel = import_extra("nibabel", MEDICAL, f"{path}: NIfTI")
    # it prints what is wrong with a header beside the error that says so
    nibabel.imageglobals.logger.setLevel(logging.CRITICAL)
    _check_offset(Path(path))
    # nibabel reads forward in a file that stays open, and again from its beginning in one that
    # does not
    return nibabel.load(path, keep_file_open=_is_gzip(Path(path)))


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _check_offset(path: Path) -> None:
    """Raise FileError if the pixels begin far behind the header: extensions are read whole."""
    with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    if len(start) < _HEADER_BYTES:
        return  # nibabel says what is missing
    for order in "<>":
        (size,) = struct.unpack_from(f"{order}i", start)
        if size not in (348, 540):  # of NIfTI-1 and NIfTI-2
            continue
        place = (f"{order}f", 108) if size == 348 else (f"{order}q", 168)
        (offset,) = struct.unpack_from(place[0], start, place[1])
        if not 0 <= offset <= _MAX_OFFSET:
            raise FileError(
                f"{path}: says that its pixels begin at byte {offset:.0f}: expected at most "
                f"{_MAX_OFFSET}; it is damaged, export it again"
            )


@lru_cache(maxsize=1)  # all pixels, because a compressed file cannot be read plane by plane
def _load_voxels(path: str, file_stamp: tuple[int, int]) -> np.ndarray:
    return np.asanyarray(_load_image(path, file_stamp).dataobj)

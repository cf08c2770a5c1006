"""NIfTI: medical volumes and series of volumes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.core.stack import ImageGeometry, Spacing
from napari_sam2.io.readers.files import convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage, make_vector
from napari_sam2.io.units import convert_to_seconds, convert_to_um

SUFFIXES = (".nii", ".nii.gz")

_UM_PER_MM = 1e3  # the unit of a file that names none
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

    A compressed file is decompressed as a whole, once.
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
        return cls(str(path), shape[::-1], dtype)

    @property
    def n_leading(self) -> int:
        """The number of dimensions before y and x."""
        return len(self.shape) - 2

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One (y, x) plane."""
        key = (self.path, get_file_stamp(Path(self.path)))
        voxels: Any = _load_voxels(*key) if self.path.endswith(".gz") else _load_image(*key).dataobj
        return np.asarray(voxels[(slice(None), slice(None), *index[::-1])], dtype=self.dtype).T


@lru_cache(maxsize=16)  # headers
def _load_image(path: str, _: tuple[int, int]) -> Any:
    return import_extra("nibabel", MEDICAL, f"{path}: NIfTI").load(path)


@lru_cache(maxsize=1)  # all pixels, because a compressed file cannot be read plane by plane
def _load_voxels(path: str, file_stamp: tuple[int, int]) -> np.ndarray:
    return np.asanyarray(_load_image(path, file_stamp).dataobj)

"""NIfTI: volumes and series of medicine, and labels that lie over them voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.extras import MEDICAL, import_extra
from napari_sam2.io.readers.lazy import convert_read_errors, get_file_stamp, make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage
from napari_sam2.io.units import convert_to_seconds, convert_to_um

SUFFIXES = (".nii", ".nii.gz")

_AXES = "xyztc"  # NIfTI-1: dimensions 1 to 3 are space, 4 is time, 5 the values of one voxel


def open_nifti(path: Path) -> OpenedImage:
    """What a NIfTI file holds: x, y, z become x, y, z of the Stack, turned over no axis; the file's affine stays in the file."""
    planes = NiftiPlanes.of(path)
    axes = _AXES[: len(planes.shape)][::-1]
    header = _load_image(str(path), get_file_stamp(path)).header
    zooms, (length, time) = [float(zoom) for zoom in header.get_zooms()], header.get_xyzt_units()
    found = {
        f"{axis}_um": convert_to_um(zoom, length) for axis, zoom in zip("xyz", zooms, strict=False)
    }
    interval = convert_to_seconds(zooms[3], time) if len(zooms) > 3 else None
    spacing = Spacing(**found, t_s=interval)
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes,
        spacing,
        name=path.name.split(".")[0],
        source=str(path),
    )


@dataclass(frozen=True)
class NiftiPlanes:
    """The planes of a NIfTI file, last dimension first, (…, z, y, x).

    A compressed one is unpacked whole, once.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, path: Path) -> NiftiPlanes:
        """Of a file whose header was read."""
        with convert_read_errors(
            f"{path}: cannot be read as NIfTI", "a whole NIfTI-1 or NIfTI-2 image"
        ):
            proxy = _load_image(str(path), get_file_stamp(path)).dataobj
            shape = tuple(int(n) for n in proxy.shape)
            scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
            dtype = np.dtype(np.float64) if scaled else np.dtype(proxy.dtype).newbyteorder("=")
        if not 2 <= len(shape) <= len(_AXES):
            raise FileError(f"{path}: has {len(shape)} dimensions {shape!r}: expected two to five")
        return cls(str(path), shape[::-1], dtype)

    @property
    def n_leading(self) -> int:
        """All but y and x."""
        return len(self.shape) - 2

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One plane (y, x)."""
        of = (self.path, get_file_stamp(Path(self.path)))
        source: Any = _load_voxels(*of) if self.path.endswith(".gz") else _load_image(*of).dataobj
        return np.asarray(source[(slice(None), slice(None), *index[::-1])], dtype=self.dtype).T


def write_nifti(labels: np.ndarray, path: Path, like: Path) -> None:
    """Labels (z, y, x), or any number of dimensions the image has, with the affine, units and codes of the image `like`.

    Raises FileError where shapes differ.
    """
    nibabel = import_extra("nibabel", MEDICAL, "NIfTI")
    with convert_read_errors(
        f"{like}: cannot be read as NIfTI", "the image that the labels belong to"
    ):
        image = nibabel.load(like)
    voxels = np.ascontiguousarray(labels.T)
    if voxels.shape != image.shape[: voxels.ndim]:
        raise FileError(
            f"{like}: has the shape {image.shape[::-1]!r}, the labels {labels.shape!r}: expected "
            "the image they were made on"
        )
    header = image.header.copy()
    header.set_data_dtype(voxels.dtype)
    header["scl_slope"], header["scl_inter"], header["cal_min"], header["cal_max"] = 1, 0, 0, 0
    kind = nibabel.Nifti2Image if isinstance(image, nibabel.Nifti2Image) else nibabel.Nifti1Image
    nibabel.save(kind(voxels, None, header), path)


@lru_cache(maxsize=16)  # of headers
def _load_image(path: str, _: tuple[int, int]) -> Any:
    return import_extra("nibabel", MEDICAL, f"{path}: NIfTI").load(path)


@lru_cache(maxsize=1)  # of pixels: a compressed file cannot be read plane by plane
def _load_voxels(path: str, file_stamp: tuple[int, int]) -> np.ndarray:
    return np.asanyarray(_load_image(path, file_stamp).dataobj)

"""NRRD: volumes with their orientation in space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.core.stack import ImageGeometry, Spacing
from napari_sam2.io.readers.files import convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage, make_vector
from napari_sam2.io.units import convert_to_um

SUFFIXES = (".nrrd", ".nhdr")

_UM_PER_MM = 1e3  # the unit of a file that names none
_SIGNS_TO_RAS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}
_SPACE_KINDS = ("domain", "space")
_AXES_BY_KIND = {"time": "t", "list": "c", "vector": "c", "rgb-color": "s", "rgba-color": "s"}


def open_nrrd(path: Path) -> OpenedImage:
    """Open a NRRD file.

    If the file names an anatomical space but no unit, lengths are in mm, as in other readers.
    """
    planes = NrrdPlanes.of(path)
    header = read_nrrd_header(path)
    axes = _get_axes(header, len(planes.shape))
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes[::-1],
        _make_spacing(header, axes),
        name=path.name.split(".")[0],
        source=str(path),
        geometry=_make_geometry(header),
    )


def _make_geometry(header: Mapping[str, Any]) -> ImageGeometry | None:
    """The space directions and the origin; None unless both are given in three dimensions."""
    directions, origin = header.get("space directions"), header.get("space origin")
    if directions is None or origin is None or len(origin) != 3:
        return None
    space = str(header.get("space", ""))
    signs = _SIGNS_TO_RAS.get(space.lower())
    units = [str(unit) for unit in header.get("space units", []) if unit]
    to_um = (convert_to_um(1.0, units[0]) if units else None) or _UM_PER_MM
    factors = np.asarray(signs or (1, 1, 1)) * to_um
    steps = [np.asarray([np.nan] * 3 if each is None else each, float) for each in directions]
    return ImageGeometry(
        "patient" if signs else f"NRRD {space}",
        make_vector(np.asarray(origin, float) * factors),
        tuple(
            make_vector(step * factors) if np.isfinite(step).all() else None for step in steps[::-1]
        ),
    )


@dataclass(frozen=True)
class NrrdPlanes:
    """The planes of a NRRD file, its last dimension first.

    The file is read as a whole, once, because most are compressed.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, path: Path) -> NrrdPlanes:
        """The planes of a file; reads its header."""
        nrrd = import_extra("nrrd", MEDICAL, f"{path}: NRRD")
        with convert_read_errors(f"{path}: cannot be read as NRRD", "a header and its data"):
            header = read_nrrd_header(path)
            shape = tuple(int(n) for n in header["sizes"])[::-1]
            dtype = np.dtype(nrrd.reader._determine_datatype(header)).newbyteorder("=")
        return cls(str(path), shape, dtype)

    @property
    def n_leading(self) -> int:
        """The number of dimensions before the last two."""
        return max(0, len(self.shape) - 2)

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One plane."""
        return np.asarray(_read_pixels(self.path, get_file_stamp(Path(self.path)))[index])


def read_nrrd_header(path: Path) -> Mapping[str, Any]:
    """The header fields of a file, by name."""
    return _read_header(str(path), get_file_stamp(path))


def _get_axes(header: Mapping[str, Any], n_axes: int) -> str:
    """A letter for each dimension, in the order of the file: x, y, z in space, others by kind."""
    kinds = header.get("kinds", ["domain" if n_axes <= 3 else UNKNOWN_AXIS] * n_axes)
    space = iter("xyz")
    return "".join(
        next(space, UNKNOWN_AXIS) if kind in _SPACE_KINDS else _AXES_BY_KIND.get(kind, UNKNOWN_AXIS)
        for kind in (str(kind).lower() for kind in kinds)
    )


def _make_spacing(header: Mapping[str, Any], axes: str) -> Spacing:
    units = [unit for unit in header.get("space units", header.get("units", [])) if unit]
    unit = str(units[0]) if units else "mm" if "space" in header else None
    directions = header.get("space directions")
    if directions is not None:
        steps = [np.linalg.norm(np.asarray(direction, dtype=float)) for direction in directions]
    else:
        steps = header.get("spacings", [np.nan] * len(axes))
    lengths = {
        f"{axis}_um": convert_to_um(float(step) if np.isfinite(step) else None, unit)
        for axis, step in zip(axes, steps, strict=True)
        if axis in "xyz"
    }
    return Spacing(**lengths)


@lru_cache(maxsize=16)  # headers
def _read_header(path: str, _: tuple[int, int]) -> Mapping[str, Any]:
    with convert_read_errors(f"{path}: cannot be read as NRRD", "a header and its data"):
        header: Mapping[str, Any] = import_extra("nrrd", MEDICAL, f"{path}: NRRD").read_header(path)
        return header


@lru_cache(maxsize=1)  # all pixels
def _read_pixels(path: str, _: tuple[int, int]) -> np.ndarray:
    return np.asarray(import_extra("nrrd", MEDICAL, f"{path}: NRRD").read(path, index_order="C")[0])

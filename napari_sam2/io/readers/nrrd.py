"""NRRD: volumes with their directions in space, and labels that keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.extras import MEDICAL, import_extra
from napari_sam2.io.readers.lazy import convert_read_errors, get_file_stamp, make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage
from napari_sam2.io.units import convert_to_um

SUFFIXES = (".nrrd", ".nhdr")

_SPACE_KINDS = ("domain", "space")
_GEOMETRY_FIELDS = (
    "space",
    "space dimension",
    "space units",
    "space directions",
    "space origin",
    "spacings",
    "units",
    "kinds",
    "measurement frame",
)


def open_nrrd(path: Path) -> OpenedImage:
    """What a NRRD file holds.

    Lengths are mm where a file names an anatomical space and no unit, as all its readers take them.
    """
    planes = NrrdPlanes.of(path)
    header = _read_header(str(path), get_file_stamp(path))
    axes = _get_axes(header, len(planes.shape))
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes[::-1],
        _make_spacing(header, axes),
        name=path.name.split(".")[0],
        source=str(path),
    )


@dataclass(frozen=True)
class NrrdPlanes:
    """The planes of a NRRD file, the file's last dimension first; read whole, once: most are compressed."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, path: Path) -> NrrdPlanes:
        """Of a file whose header was read."""
        nrrd = import_extra("nrrd", MEDICAL, f"{path}: NRRD")
        with convert_read_errors(f"{path}: cannot be read as NRRD", "a header and its data"):
            header = _read_header(str(path), get_file_stamp(path))
            shape = tuple(int(n) for n in header["sizes"])[::-1]
            dtype = np.dtype(nrrd.reader._determine_datatype(header)).newbyteorder("=")
        return cls(str(path), shape, dtype)

    @property
    def n_leading(self) -> int:
        """All but the first two dimensions of the file."""
        return max(0, len(self.shape) - 2)

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One plane."""
        return np.asarray(_read_pixels(self.path, get_file_stamp(Path(self.path)))[index])


def write_nrrd(labels: np.ndarray, path: Path, like: Path) -> None:
    """Labels (z, y, x) with the space, directions and origin of the image `like`.

    Raises FileError where shapes differ.
    """
    nrrd = import_extra("nrrd", MEDICAL, "NRRD")
    header = _read_header(str(like), get_file_stamp(like))
    shape = tuple(int(n) for n in header["sizes"])[::-1]
    if labels.shape != shape:
        raise FileError(
            f"{like}: has the shape {shape!r}, the labels {labels.shape!r}: expected the image "
            "they were made on"
        )
    nrrd.write(
        str(path),
        labels,
        {name: header[name] for name in _GEOMETRY_FIELDS if name in header},
        index_order="C",
    )


def _get_axes(header: Mapping[str, Any], n_axes: int) -> str:
    """A letter for each dimension of the file, in its order: x, y, z for space; what else there is by its kind."""
    kinds = [
        str(kind).lower()
        for kind in header.get(
            "kinds", ["domain"] * n_axes if n_axes <= 3 else [UNKNOWN_AXIS] * n_axes
        )
    ]
    space = iter("xyz")
    names = {"time": "t", "list": "c", "vector": "c", "rgb-color": "s", "rgba-color": "s"}
    return "".join(
        next(space, UNKNOWN_AXIS) if kind in _SPACE_KINDS else names.get(kind, UNKNOWN_AXIS)
        for kind in kinds
    )


def _make_spacing(header: Mapping[str, Any], axes: str) -> Spacing:
    directions, named = header.get("space directions"), "space" in header
    units = [unit for unit in header.get("space units", header.get("units", [])) if unit]
    unit = str(units[0]) if units else "mm" if named else None
    found = {}
    for number, axis in enumerate(axes):
        if axis not in "xyz":
            continue
        if directions is not None:
            step = float(np.linalg.norm(np.asarray(directions[number], dtype=float)))
        else:
            step = float(header.get("spacings", [np.nan] * len(axes))[number])
        found[f"{axis}_um"] = convert_to_um(step if np.isfinite(step) else None, unit)
    return Spacing(**found)


@lru_cache(maxsize=16)  # of headers
def _read_header(path: str, _: tuple[int, int]) -> Mapping[str, Any]:
    with convert_read_errors(f"{path}: cannot be read as NRRD", "a header and its data"):
        header: Mapping[str, Any] = import_extra("nrrd", MEDICAL, f"{path}: NRRD").read_header(path)
        return header


@lru_cache(maxsize=1)  # of pixels
def _read_pixels(path: str, _: tuple[int, int]) -> np.ndarray:
    return np.asarray(import_extra("nrrd", MEDICAL, f"{path}: NRRD").read(path, index_order="C")[0])

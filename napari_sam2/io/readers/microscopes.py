"""CZI, ND2 and LIF: the files of Zeiss, Nikon and Leica, read by their own packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.files.extras import MICROSCOPES, import_extra
from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.files import convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage

SUFFIXES = (".czi", ".nd2", ".lif")

_UM_PER_M = 1e6  # CZI and LIF give lengths in m


def open_microscope(path: Path) -> OpenedImage:
    """Open a CZI, ND2 or LIF file; raises FileError if it contains several positions or images."""
    readers = {".czi": _open_czi, ".nd2": _open_nd2, ".lif": _open_lif}
    with convert_read_errors(
        f"{path}: cannot be read as {path.suffix[1:].upper()}", "a whole file of the microscope"
    ):
        return readers[path.suffix.lower()](path)


def _open_czi(path: Path) -> OpenedImage:
    file = _get_czi_reader(str(path), get_file_stamp(path))
    lengths = {axis: end - start for axis, (start, end) in file.total_bounding_box.items()}
    others = {axis: n for axis, n in lengths.items() if axis not in "TCZYX" and n > 1}
    if others or len(file.scenes_bounding_rectangle) > 1:
        raise FileError(
            f"{path}: contains several scenes or positions {others or ''}: expected one; export "
            "the one to use"
        )
    axes = "".join(axis for axis in "TCZ" if axis in lengths)
    rectangle = file.total_bounding_rectangle
    first = _read_czi_plane(file, dict.fromkeys(axes, 0))
    shape = (*(lengths[axis] for axis in axes), rectangle.h, rectangle.w, *first.shape[2:])
    planes = CziPlanes(str(path), axes, tuple(int(n) for n in shape), first.dtype)
    document = file.metadata.get("ImageDocument", {}).get("Metadata", {})
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes.lower() + "yxs"[: first.ndim],
        _read_czi_spacing(document),
        _read_czi_channels(document),
        first.ndim == 3,
        path.stem,
        str(path),
        max_value=_compute_max_value(_read_czi_bits(document), first.dtype),
    )


def _compute_max_value(bits: int, dtype: np.dtype[Any]) -> float | None:
    """The largest value of a camera of so many bits; None if they are the whole type."""
    return float(2**bits - 1) if dtype.kind == "u" and 0 < bits < dtype.itemsize * 8 else None


def _read_czi_bits(document: Mapping[str, Any]) -> int:
    """The bits of the camera; 0 if not stated."""
    image = (document.get("Information") or {}).get("Image") or {}
    bits = str(image.get("ComponentBitCount") or "")
    return int(bits) if bits.isdecimal() else 0


@dataclass(frozen=True)
class CziPlanes:
    """The planes of a CZI file of one scene; `axes` are the leading ones, a subset of TCZ."""

    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_leading(self) -> int:
        """The number of `axes`."""
        return len(self.axes)

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One (H, W) plane, or (H, W, 3) in colour."""
        file = _get_czi_reader(self.path, get_file_stamp(Path(self.path)))
        return _read_czi_plane(file, dict(zip(self.axes, index, strict=True)))


def _read_czi_plane(file: Any, position: Mapping[str, int]) -> np.ndarray:
    pixels = np.asarray(file.read(plane=dict(position)))
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., ::-1]  # libCZI returns BGR


def _read_czi_spacing(document: Mapping[str, Any]) -> Spacing:
    values = {}
    for distance in _list_xml_elements(document, "Scaling", "Items", "Distance"):
        axis, value = str(distance.get("@Id")).lower(), float(distance.get("Value") or 0)
        if axis in ("z", "y", "x") and value > 0:
            values[f"{axis}_um"] = value * _UM_PER_M
    return Spacing(**values)


def _read_czi_channels(document: Mapping[str, Any]) -> tuple[str, ...]:
    channels = _list_xml_elements(
        document, "Information", "Image", "Dimensions", "Channels", "Channel"
    )
    names = [channel.get("@Name") for channel in channels]
    return tuple(str(name) for name in names) if all(names) else ()


def _list_xml_elements(document: Mapping[str, Any], *path: str) -> list[Mapping[str, Any]]:
    """The elements at a path of names; a parsed XML document has no list if there is only one."""
    node: Any = document
    for name in path:
        node = (node or {}).get(name)
    if not node:
        return []
    return node if isinstance(node, list) else [node]


@lru_cache(maxsize=4)
def _get_czi_reader(path: str, _: tuple[int, int]) -> Any:
    return import_extra("pylibCZIrw.czi", MICROSCOPES, f"{path}: CZI").CziReader(path)


def _open_nd2(path: Path) -> OpenedImage:
    nd2 = import_extra("nd2", MICROSCOPES, f"{path}: ND2")
    with nd2.ND2File(path) as file:
        sizes = dict(file.sizes)
        if sizes.get("P", 1) > 1:
            raise FileError(
                f"{path}: contains {sizes['P']} positions: expected one; export the one to use"
            )
        channels = file.metadata.channels or ()
        bits = int(file.attributes.bitsPerComponentSignificant or 0)
        spacing = _read_nd2_spacing(file, channels[0].volume) if channels else Spacing()
        is_rgb = bool(file.is_rgb)
        data = file.to_dask(copy=True)  # a copy, because the array outlives the open file
    names = tuple(str(channel.channel.name) for channel in channels)
    if len(names) != sizes.get("C", 1) or not all(names):
        names = ()
    return OpenedImage(
        data,
        "".join(sizes).lower(),
        spacing,
        names,
        is_rgb,
        path.stem,
        str(path),
        max_value=_compute_max_value(bits, data.dtype),
    )


def _read_nd2_spacing(file: Any, volume: Any) -> Spacing:
    """The spacing of the calibrated axes; the reader gives 1 µm for the others."""
    x_um, y_um, z_um = (
        size if calibrated else None
        for size, calibrated in zip(volume.axesCalibration, volume.axesCalibrated, strict=True)
    )
    return Spacing(z_um if "Z" in file.sizes else None, y_um, x_um, _read_nd2_interval(file))


def _read_nd2_interval(file: Any) -> float | None:
    """Seconds between frames; None if unknown."""
    for loop in file.experiment:
        if loop.type in ("TimeLoop", "NETimeLoop"):
            parameters = loop.parameters if loop.type == "TimeLoop" else loop.parameters.periods[0]
            average = parameters.periodDiff.avg or parameters.periodMs
            return float(average) / 1e3 if average and average > 0 else None
    return None


def _open_lif(path: Path) -> OpenedImage:
    liffile = import_extra("liffile", MICROSCOPES, f"{path}: LIF")
    with liffile.LifFile(path) as file:
        if len(file.images) != 1:
            names = ", ".join(image.name for image in list(file.images)[:4])
            raise FileError(
                f"{path}: contains {len(file.images)} images ({names}): expected one; export the "
                "one to use"
            )
        (image,) = file.images
        axes = "".join(image.dims)
        spacing = _read_lif_spacing(image.coords)
        planes = LifPlanes(str(path), tuple(image.shape), np.dtype(image.dtype))
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes.lower(),
        spacing,
        (),
        "S" in axes,
        path.stem,
        str(path),
    )


@dataclass(frozen=True)
class LifPlanes:
    """The single image of a LIF file, read as a whole, because its planes may be interleaved."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int = 0

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """All pixels; `index` is empty."""
        with import_extra("liffile", MICROSCOPES, f"{self.path}: LIF").LifFile(self.path) as file:
            return np.asarray(file.images[0].asarray())


def _read_lif_spacing(coords: Mapping[str, Any]) -> Spacing:
    """Spacing from the first two coordinates of each axis, in m, or in s for T."""
    steps = {
        axis: abs(float(positions[1]) - float(positions[0]))
        for axis, positions in coords.items()
        if len(positions) > 1 and axis in "TZYX"
    }
    lengths = {f"{axis.lower()}_um": steps[axis] * _UM_PER_M for axis in "ZYX" if steps.get(axis)}
    return Spacing(**lengths, t_s=steps.get("T") or None)

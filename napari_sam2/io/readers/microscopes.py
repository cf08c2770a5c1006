"""CZI, ND2 and LIF: the files of Zeiss, Nikon and Leica, through the readers that are kept up for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.extras import MICROSCOPES, import_extra
from napari_sam2.io.readers.lazy import convert_read_errors, get_file_stamp, make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage

SUFFIXES = (".czi", ".nd2", ".lif")

_UM_PER_M = 1e6  # µm in a metre: what CZI and LIF measure in


def open_microscope(path: Path) -> OpenedImage:
    """What a CZI, ND2 or LIF file holds.

    Raises FileError for one of several positions or images: export the one to use.
    """
    readers = {".czi": _open_czi, ".nd2": _open_nd2, ".lif": _open_lif}
    with convert_read_errors(
        f"{path}: cannot be read as {path.suffix[1:].upper()}", "a whole file of the microscope"
    ):
        return readers[path.suffix.lower()](path)


def _open_czi(path: Path) -> OpenedImage:
    file = _get_czi_reader(str(path), get_file_stamp(path))
    box: Mapping[str, tuple[int, int]] = file.total_bounding_box
    others = {
        axis: end - start
        for axis, (start, end) in box.items()
        if axis not in "TCZYX" and end - start > 1
    }
    if others or len(file.scenes_bounding_rectangle) > 1:
        raise FileError(
            f"{path}: holds several scenes or positions {others or ''}: expected one, export the "
            "one to use"
        )
    axes = "".join(axis for axis in "TCZ" if axis in box)
    rectangle = file.total_bounding_rectangle
    sample = _read_czi_plane(file, dict.fromkeys(axes, 0))
    shape = (
        *(box[axis][1] - box[axis][0] for axis in axes),
        rectangle.h,
        rectangle.w,
        *sample.shape[2:],
    )
    names = axes.lower() + "yxs"[: sample.ndim]
    document = file.metadata.get("ImageDocument", {}).get("Metadata", {})
    planes = CziPlanes(str(path), axes, tuple(int(n) for n in shape), sample.dtype)
    spacing, channels = _read_czi_spacing(document), _read_czi_channels(document)
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        names,
        spacing,
        channels,
        sample.ndim == 3,
        path.stem,
        str(path),
    )


@dataclass(frozen=True)
class CziPlanes:
    """The planes of a CZI file of one scene."""

    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_leading(self) -> int:
        """T, C and Z."""
        return len(self.axes)

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One plane, (H, W), or (H, W, 3) in colour."""
        file = _get_czi_reader(self.path, get_file_stamp(Path(self.path)))
        return _read_czi_plane(file, dict(zip(self.axes, index, strict=True)))


def _read_czi_plane(file: Any, position: Mapping[str, int]) -> np.ndarray:
    pixels = np.asarray(file.read(plane=dict(position)))
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., ::-1]  # libCZI gives blue first


def _read_czi_spacing(document: Mapping[str, Any]) -> Spacing:
    found = {}
    scaling = ((document.get("Scaling") or {}).get("Items") or {}).get("Distance") or []
    for distance in scaling if isinstance(scaling, list) else [scaling]:
        value = float(distance.get("Value") or 0) * _UM_PER_M
        if value > 0:
            found[f"{str(distance.get('@Id')).lower()}_um"] = value
    return Spacing(
        **{name: value for name, value in found.items() if name in ("z_um", "y_um", "x_um")}
    )


def _read_czi_channels(document: Mapping[str, Any]) -> tuple[str, ...]:
    image = ((document.get("Information") or {}).get("Image") or {}).get("Dimensions") or {}
    channels = (image.get("Channels") or {}).get("Channel") or []
    names = [
        channel.get("@Name") for channel in (channels if isinstance(channels, list) else [channels])
    ]
    return tuple(str(name) for name in names) if names and all(names) else ()


@lru_cache(maxsize=4)
def _get_czi_reader(path: str, _: tuple[int, int]) -> Any:
    return import_extra("pylibCZIrw.czi", MICROSCOPES, f"{path}: CZI").CziReader(path)


def _open_nd2(path: Path) -> OpenedImage:
    nd2 = import_extra("nd2", MICROSCOPES, f"{path}: ND2")
    with nd2.ND2File(path) as file:
        sizes = dict(file.sizes)
        if sizes.get("P", 1) > 1:
            raise FileError(
                f"{path}: holds {sizes['P']} positions: expected one, export the one to use"
            )
        taken = file.metadata.channels or ()
        spacing = (
            _read_nd2_spacing(taken[0].volume, "Z" in sizes, _read_nd2_interval(file))
            if taken
            else Spacing()
        )
        colour = bool(file.is_rgb)
        data = file.to_dask(
            copy=True
        )  # copied: the array outlives the file, which it opens again by itself
    names = tuple(str(channel.channel.name) for channel in taken)
    channels = names if len(names) == sizes.get("C", 1) and all(names) else ()
    return OpenedImage(
        data, "".join(sizes).lower(), spacing, channels, colour, path.stem, str(path)
    )


def _read_nd2_spacing(volume: Any, has_z: bool, interval: float | None) -> Spacing:
    """What was calibrated: the reader says 1 µm of what was not."""
    x, y, z = (
        size if known else None
        for size, known in zip(volume.axesCalibration, volume.axesCalibrated, strict=True)
    )
    return Spacing(z if has_z else None, y, x, interval)


def _read_nd2_interval(file: Any) -> float | None:
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
                f"{path}: holds {len(file.images)} images ({names}): expected one, export the "
                "one to use"
            )
        (image,) = file.images
        axes = "".join(image.dims)
        spacing, shape, dtype = (
            _read_lif_spacing(image.coords),
            tuple(image.shape),
            np.dtype(image.dtype),
        )
    planes = LifPlanes(str(path), shape, dtype)
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
    """The one image of a LIF file, read whole, once: its planes may be interleaved."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int = 0

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """All pixels; `index` is empty."""
        with import_extra("liffile", MICROSCOPES, f"{self.path}: LIF").LifFile(self.path) as file:
            return np.asarray(file.images[0].asarray())


def _read_lif_spacing(coords: Mapping[str, Any]) -> Spacing:
    """From the places of the first two samples along each axis: m, and s for T."""
    steps = {
        axis: abs(float(places[1]) - float(places[0]))
        for axis, places in coords.items()
        if len(places) > 1 and axis in "TZYX"
    }
    found = {f"{axis.lower()}_um": steps[axis] * _UM_PER_M for axis in "ZYX" if steps.get(axis)}
    return Spacing(**found, t_s=steps.get("T") or None)

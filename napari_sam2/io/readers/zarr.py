"""Zarr arrays, and OME-Zarr 0.4 and 0.5 images, one level of the pyramid at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_sam2.core.errors import AxesError, FileError
from napari_sam2.core.stack import AXES, ImageGeometry, Spacing
from napari_sam2.io.readers.files import convert_read_errors
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import (
    UNKNOWN_AXIS,
    OpenedImage,
    ReadRequest,
    choose_series,
    make_vector,
    name_plane_axes,
)
from napari_sam2.io.readers.plate import list_fields
from napari_sam2.io.units import convert_to_seconds, convert_to_um

_STORE_FILES = ("zarr.json", ".zgroup", ".zarray")  # of zarr format 3 and of format 2
_VERSIONS_WITHOUT_AXES = ("0.1", "0.2")
_TYPED_AXES = {"time": "t", "channel": "c"}  # the letter of an axis by its type in OME-Zarr


def is_store(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((path / name).is_file() for name in _STORE_FILES)


def open_zarr(path: Path, request: ReadRequest) -> OpenedImage:
    """Open a zarr array or an OME-Zarr image on disk, at the level that is requested."""
    source, name = str(path), path.name.split(".")[0]
    with convert_read_errors(f"{path}: cannot be read as zarr", "an array or an OME-Zarr group"):
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            if request.level:
                raise AxesError(
                    f"level {request.level!r}: {path} is a single array with only level 0"
                )
            return open_zarr_array(node, name, source)
        return _open_group(node, request, name, source)


def open_zarr_array(array: zarr.Array[Any], name: str = "array", source: str = "") -> OpenedImage:
    """Open a zarr array.

    Its axes are named by ``dimension_names`` (zarr 3) or ``_ARRAY_DIMENSIONS`` (xarray), if these
    are letters of TCZYX.
    """
    names: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get(
        "_ARRAY_DIMENSIONS"
    )
    letters = [str(name).lower() for name in names] if isinstance(names, Sequence) else []
    if len(letters) == array.ndim and all(len(name) == 1 and name in AXES for name in letters):
        axes = "".join(letters)
    else:
        axes = name_plane_axes(array.shape, source)
    return _make_opened_image(array, axes, name, source)


def _make_opened_image(
    array: zarr.Array[Any],
    axes: str,
    name: str,
    source: str,
    spacing: Spacing | None = None,
    channels: tuple[str, ...] = (),
    geometry: ImageGeometry | None = None,
) -> OpenedImage:
    data = make_lazy_array(_ZarrPlanes(array), source or "the array")
    return OpenedImage(
        data,
        axes,
        spacing or Spacing(),
        channels,
        name=name,
        source=source,
        geometry=geometry,
    )


@dataclass(frozen=True, eq=False)
class _ZarrPlanes:
    array: zarr.Array[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype).newbyteorder("=")

    @property
    def n_leading(self) -> int:
        return self.array.ndim - 2

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        return np.asarray(self.array[index])


def _open_group(group: zarr.Group, request: ReadRequest, name: str, source: str) -> OpenedImage:
    level = request.level
    attributes: dict[str, Any] = group.attrs.asdict()
    ome = attributes.get("ome", attributes)  # 0.5 has its metadata under "ome", 0.4 at the top
    multiscale = _get_multiscale(ome, group, request.series, source)
    datasets = multiscale["datasets"]
    if not 0 <= level < len(datasets):
        raise AxesError(
            f"level {level!r}: {source} has the levels 0 (full resolution) to {len(datasets) - 1}"
        )
    array = group[datasets[level]["path"]]
    if not isinstance(array, zarr.Array):
        raise FileError(f"{source}: its level {level} is not an array: copy or export it again")
    axes = [
        _get_axis_letter(axis) for axis in multiscale.get("axes") or _guess_axes(multiscale, array)
    ]
    if len(axes) != array.ndim:
        raise FileError(
            f"{source}: names {len(axes)} axes, but its array has {array.ndim} dimensions "
            f"{array.shape!r}: copy or export it again"
        )
    spacing = _read_spacing(multiscale, datasets[level])
    return _make_opened_image(
        array,
        "".join(axes),
        name,
        source,
        spacing,
        _read_channel_names(ome),
        _read_geometry(multiscale, datasets[level], "".join(axes), spacing),
    )


def _guess_axes(multiscale: Mapping[str, Any], array: zarr.Array[Any]) -> str:
    """The axes of metadata that name none: OME-Zarr 0.1 and 0.2 have five, in the order TCZYX."""
    if array.ndim == len(AXES) and multiscale.get("version", "0.1") in _VERSIONS_WITHOUT_AXES:
        return AXES
    return name_plane_axes(array.shape)


def _get_multiscale(
    ome: Any, group: zarr.Group, series: int | None, source: str
) -> Mapping[str, Any]:
    """The metadata of the image; raises FileError for plates and other groups."""
    if isinstance(ome, Mapping) and ("plate" in ome or "well" in ome):
        fields = list_fields(Path(source))
        examples = ", ".join(str(field.relative_to(source)) for field in fields[:3])
        raise FileError(
            f"{source}: is a plate of {len(fields)} fields ({examples}, …): give the path of one "
            "of them, or run `napari-sam2 batch`"
        )
    if not isinstance(ome, Mapping) or "multiscales" not in ome:
        raise FileError(
            f"{source}: is a zarr group without an image: give the path of one of its members, "
            f"{_list_members(group)}"
        )
    multiscales = ome["multiscales"]
    names = [str(each.get("name") or "no name") for each in multiscales]
    multiscale: Mapping[str, Any] = multiscales[choose_series(series, names, source)]
    return multiscale


def _get_axis_letter(axis: Mapping[str, Any] | str) -> str:
    """The letter of an OME-Zarr axis, by its name, else by its type."""
    if isinstance(axis, str):
        return axis.lower() if axis.lower() in AXES else UNKNOWN_AXIS
    name = str(axis.get("name", "")).lower()
    if len(name) == 1 and name in AXES:
        return name
    return _TYPED_AXES.get(str(axis.get("type")), UNKNOWN_AXIS)


def _read_spacing(multiscale: Mapping[str, Any], dataset: Mapping[str, Any]) -> Spacing:
    """The product of the scales of each axis; None for an axis without a unit."""
    transformations = [
        *dataset.get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]
    scales = [each["scale"] for each in transformations if each.get("type") == "scale"]
    values: dict[str, float | None] = {}
    for number, axis in enumerate(multiscale.get("axes", ())):
        letter = _get_axis_letter(axis)
        unit = axis.get("unit") if isinstance(axis, Mapping) else None
        value = float(np.prod([scale[number] for scale in scales])) if scales else None
        if letter == "t":
            values["t_s"] = convert_to_seconds(value, unit)
        elif letter in "zyx":
            values[f"{letter}_um"] = convert_to_um(value, unit)
    return Spacing(**values)


def _read_geometry(
    multiscale: Mapping[str, Any], dataset: Mapping[str, Any], axes: str, spacing: Spacing
) -> ImageGeometry | None:
    """Scale and translation of the space axes; None without a translation, or without units."""
    translation = np.zeros(len(axes))
    stated = False
    for holder in (dataset, multiscale):
        for each in holder.get("coordinateTransformations") or ():
            if each.get("type") == "scale":
                translation *= np.asarray(each["scale"], float)
            elif each.get("type") == "translation" and "translation" in each:
                translation += np.asarray(each["translation"], float)
                stated = True
    if not stated:
        return None
    origin = dict.fromkeys("xyz", 0.0)
    steps: list[tuple[float, float, float] | None] = []
    for letter, axis, value in zip(axes, multiscale.get("axes", ()), translation, strict=True):
        step_um = getattr(spacing, f"{letter}_um", None)
        if letter not in "zyx" or step_um is None:
            steps.append(None)
            continue
        steps.append(make_vector(step_um * (letter == each) for each in "xyz"))
        # the unit, with the sign that lengths do not have
        origin[letter] = math.copysign(convert_to_um(value, axis.get("unit")) or 0.0, value)
    return ImageGeometry("OME-Zarr", make_vector(origin.values()), tuple(steps))


def _read_channel_names(ome: Mapping[str, Any]) -> tuple[str, ...]:
    labels = [channel.get("label") for channel in (ome.get("omero") or {}).get("channels", [])]
    return tuple(str(label) for label in labels) if all(labels) else ()


def _list_members(group: zarr.Group) -> str:
    names = sorted(name for name, _ in group.members())
    return json.dumps(names[:8]) if names else "none, because it is empty"

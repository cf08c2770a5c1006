"""Zarr arrays, and OME-Zarr 0.4 and 0.5 groups, one level of the pyramid at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_sam2.core.errors import AxesError, FileError
from napari_sam2.core.stack import AXES, Spacing
from napari_sam2.io.readers.lazy import convert_read_errors, make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage
from napari_sam2.io.readers.plate import list_fields
from napari_sam2.io.units import convert_to_seconds, convert_to_um

_STORE_FILES = (
    "zarr.json",
    ".zgroup",
    ".zarray",
)  # what makes a folder a zarr store, version 3 and version 2


def is_store(path: Path) -> bool:
    """Whether this folder is a zarr array or group."""
    return any((path / mark).is_file() for mark in _STORE_FILES)


def open_zarr(path: Path, level: int = 0) -> OpenedImage:
    """What a zarr array or an OME-Zarr group on disk holds."""
    source, name = str(path), path.name.split(".")[0]
    with convert_read_errors(f"{path}: cannot be read as zarr", "an array or an OME-Zarr group"):
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            if level:
                raise AxesError(f"level {level!r}: {path} is a single array, which has one (0)")
            return open_zarr_array(node, name, source)
        return _open_group(node, level, name, source)


def open_zarr_array(array: zarr.Array[Any], name: str = "array", source: str = "") -> OpenedImage:
    """A zarr array; its axes where its metadata name them (zarr 3's dimension_names, xarray's _ARRAY_DIMENSIONS)."""
    names: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get(
        "_ARRAY_DIMENSIONS"
    )
    letters = [str(each).lower() for each in names] if isinstance(names, Sequence) else []
    if len(letters) == array.ndim and all(len(each) == 1 and each in AXES for each in letters):
        axes = "".join(letters)
    else:
        axes = UNKNOWN_AXIS * (array.ndim - 2) + "yx"
    return _make_opened_image(array, axes, name, source)


def _make_opened_image(
    array: zarr.Array[Any], axes: str, name: str, source: str, **more: Any
) -> OpenedImage:
    if array.ndim < 2:
        raise AxesError(
            f"{source or 'the array'} of shape {array.shape!r} is no image: expected at least "
            "two dimensions"
        )
    return OpenedImage(
        make_lazy_array(_ZarrPlanes(array), source or "the array"),
        axes,
        name=name,
        source=source,
        **more,
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


def _open_group(group: zarr.Group, level: int, name: str, source: str) -> OpenedImage:
    attributes: dict[str, Any] = group.attrs.asdict()
    ome = attributes.get("ome", attributes)  # 0.5 keeps its metadata under "ome", 0.4 at the top
    if isinstance(ome, Mapping) and ("plate" in ome or "well" in ome):
        fields = list_fields(Path(source))
        some = ", ".join(str(field.relative_to(source)) for field in fields[:3])
        raise FileError(
            f"{source}: is a plate of {len(fields)} fields ({some}, …): give the path of one of "
            "them, or run `napari-sam2 batch`"
        )
    if not isinstance(ome, Mapping) or "multiscales" not in ome:
        raise FileError(
            f"{source}: is a zarr group without an image in it: give the path of one of "
            f"{_list_members(group)}"
        )
    scales = ome["multiscales"]
    if len(scales) != 1:
        raise FileError(
            f"{source}: holds {len(scales)} images, expected one: give the path of an array in it"
        )
    datasets = scales[0]["datasets"]
    if not 0 <= level < len(datasets):
        raise AxesError(f"level {level!r}: {source} has {len(datasets)} (0 is the full resolution)")
    array = group[datasets[level]["path"]]
    if not isinstance(array, zarr.Array):
        raise FileError(f"{source}: its level {level} is no array")
    axes = [_get_axis_letter(axis) for axis in scales[0].get("axes", [])]
    if len(axes) != array.ndim:
        raise FileError(
            f"{source}: names {len(axes)} axes and its array has {array.ndim} dimensions "
            f"{array.shape!r}"
        )
    spacing = _read_spacing(scales[0], datasets[level])
    return _make_opened_image(
        array, "".join(axes), name, source, spacing=spacing, channels=_read_channel_names(ome)
    )


def _get_axis_letter(axis: Mapping[str, Any] | str) -> str:
    """The letter of an OME-Zarr axis: its name, else what its type says."""
    if isinstance(axis, str):
        return axis.lower() if axis.lower() in AXES else UNKNOWN_AXIS
    name = str(axis.get("name", "")).lower()
    return (
        name
        if len(name) == 1 and name in AXES
        else {"time": "t", "channel": "c"}.get(str(axis.get("type")), UNKNOWN_AXIS)
    )


def _read_spacing(multiscale: Mapping[str, Any], dataset: Mapping[str, Any]) -> Spacing:
    """Scale times unit; an axis without a unit has no spacing, for its scale may be of anything."""
    found: dict[str, float | None] = {}
    both = [
        *dataset.get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]
    scales = [
        transformation["scale"] for transformation in both if transformation.get("type") == "scale"
    ]
    for number, axis in enumerate(multiscale["axes"]):
        letter, unit = (
            _get_axis_letter(axis),
            axis.get("unit") if isinstance(axis, Mapping) else None,
        )
        value = float(np.prod([scale[number] for scale in scales])) if scales else None
        if letter == "t":
            found["t_s"] = convert_to_seconds(value, unit)
        elif letter in "zyx":
            found[f"{letter}_um"] = convert_to_um(value, unit)
    return Spacing(**found)


def _read_channel_names(ome: Mapping[str, Any]) -> tuple[str, ...]:
    labels = [channel.get("label") for channel in (ome.get("omero") or {}).get("channels", [])]
    return tuple(str(label) for label in labels) if all(labels) else ()


def _list_members(group: zarr.Group) -> str:
    names = sorted(name for name, _ in group.members())
    return json.dumps(names[:8]) if names else "none: it is empty"

"""Write label planes, in any order, into an OME-Zarr 0.5 label image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from yaozarrs import v05
from yaozarrs.write.v05 import prepare_image

from napari_sam2.core.files.atomic import (
    convert_write_errors,
    get_part_path,
    move_into_place,
    remove_path,
)
from napari_sam2.io.writers.label_spec import LabelSpec

CHUNK_PX = 1024
"""Largest side of a chunk of labels in y and x."""

_Axis = v05.SpaceAxis | v05.TimeAxis | v05.ChannelAxis | v05.CustomAxis


class OmeZarrSink:
    """``labels.ome.zarr``: one resolution, with axes, units, scale and image-label metadata."""

    def __init__(self, folder: Path, spec: LabelSpec) -> None:
        self._path = Path(folder) / "labels.ome.zarr"
        self._spec = spec
        self._written_frames: set[int] = set()
        self._array: Any = None
        self._part_path = get_part_path(self._path)

    @property
    def path(self) -> Path:
        """The store that exists after a successful exit."""
        return self._path

    def __enter__(self) -> OmeZarrSink:
        try:
            with convert_write_errors(self._path):
                self._array = self._create_array()
        except BaseException:
            remove_path(self._part_path)
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._array = None
        try:
            if kind is None:
                self._spec.check_complete(self._written_frames)
                with convert_write_errors(self._path):
                    move_into_place(self._part_path, self._path)
        finally:
            remove_path(self._part_path)

    def put(self, frame: int, plane: np.ndarray) -> None:
        """Write the (H, W) labels of a frame; put every frame once, in any order."""
        assert self._array is not None, "a sink is used as a context manager"
        labels = self._spec.convert_plane(frame, plane, self._written_frames)
        with convert_write_errors(self._path):
            self._array[frame] = labels
        self._written_frames.add(frame)

    def _create_array(self) -> Any:
        """Create the array of zeros and its metadata under a temporary name."""
        remove_path(self._part_path)
        return create_label_array(self._part_path, self._spec)


def create_label_array(path: Path, spec: LabelSpec) -> Any:
    """Create a label image at `path`, and return its zarr array of zeros, (frames, H, W)."""
    _, height, width = spec.shape
    chunks = (1, min(height, CHUNK_PX), min(width, CHUNK_PX))
    _, arrays = prepare_image(
        path, _make_image_metadata(spec), (spec.shape, spec.dtype), chunks=chunks, writer="zarr"
    )
    return arrays["0"]


def _make_image_metadata(spec: LabelSpec) -> v05.LabelImage:
    values = {
        "t": spec.spacing.t_s,
        "z": spec.spacing.z_um,
        "y": spec.spacing.y_um,
        "x": spec.spacing.x_um,
    }
    dataset = v05.Dataset(
        path="0",
        coordinateTransformations=[
            v05.ScaleTransformation(scale=[values[axis] or 1.0 for axis in spec.axes])
        ],
    )
    axes: list[_Axis] = [_make_axis(axis, has_unit=values[axis] is not None) for axis in spec.axes]
    scales = v05.Multiscale(name="labels", axes=axes, datasets=[dataset])
    return v05.LabelImage.model_validate(
        {"version": "0.5", "multiscales": [scales], "image-label": {"version": "0.5"}}
    )


def _make_axis(letter: str, *, has_unit: bool) -> _Axis:
    """An axis with its unit, or without one if the spacing is unknown."""
    if letter == "t":
        return v05.TimeAxis(name="t", unit="second" if has_unit else None)
    return v05.SpaceAxis(name=letter, unit="micrometer" if has_unit else None)

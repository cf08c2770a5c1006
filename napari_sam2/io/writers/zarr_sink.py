"""OmeZarrSink: label planes in any order into an OME-Zarr 0.5 label image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from yaozarrs import v05
from yaozarrs.write.v05 import prepare_image

from napari_sam2.io.atomic import part_of, remove, settle, writing
from napari_sam2.io.writers.label_spec import LabelSpec

_CHUNK = 1024  # pixels a side

_Axis = v05.SpaceAxis | v05.TimeAxis | v05.ChannelAxis | v05.CustomAxis


class OmeZarrSink:
    """``labels.ome.zarr``: one resolution, one chunk or more a frame, with axes, units, scale and image-label metadata."""

    def __init__(self, folder: Path, spec: LabelSpec) -> None:
        self._path = Path(folder) / "labels.ome.zarr"
        self._spec = spec
        self._frames: set[int] = set()
        self._array: Any = None
        self._part = part_of(self._path)

    @property
    def path(self) -> Path:
        """What is there after a clean exit."""
        return self._path

    def __enter__(self) -> OmeZarrSink:
        try:
            with writing(self._path):
                self._array = self._prepared()
        except BaseException:
            remove(self._part)
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._array = None
        try:
            if kind is None:
                self._spec.check_whole(self._frames)
                with writing(self._path):
                    settle(self._part, self._path)
        finally:
            remove(self._part)

    def put(self, frame: int, plane: np.ndarray) -> None:
        """Write the (H, W) label plane of one frame; every frame once, in any order."""
        assert self._array is not None, "a sink is used as a context manager"
        labels = self._spec.taken(frame, plane, self._frames)
        with writing(self._path):
            self._array[frame] = labels
        self._frames.add(frame)

    def _prepared(self) -> Any:
        """An array of zeros with its metadata, in the part folder."""
        remove(self._part)
        return prepared(self._part, self._spec)


def prepared(path: Path, spec: LabelSpec) -> Any:
    """A new label image at `path`: a zarr array of zeros, (frames, H, W), with its metadata."""
    frames, height, width = spec.shape
    chunks = (1, min(height, _CHUNK), min(width, _CHUNK))
    return prepare_image(
        path, _image(spec), ((frames, height, width), spec.dtype), chunks=chunks, writer="zarr"
    )[1]["0"]


def _image(spec: LabelSpec) -> v05.LabelImage:
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
    axes: list[_Axis] = [_axis(axis, known=values[axis] is not None) for axis in spec.axes]
    scales = v05.Multiscale(name="labels", axes=axes, datasets=[dataset])
    return v05.LabelImage.model_validate(
        {"version": "0.5", "multiscales": [scales], "image-label": {"version": "0.5"}}
    )


def _axis(letter: str, *, known: bool) -> _Axis:
    """An axis with its unit, or without one where the spacing is not known."""
    if letter == "t":
        return v05.TimeAxis(name="t", unit="second" if known else None)
    return v05.SpaceAxis(name=letter, unit="micrometer" if known else None)

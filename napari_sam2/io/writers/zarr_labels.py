"""Labels inside the OME-Zarr image they belong to: in its own ``labels/`` group, where viewers look for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from yaozarrs import v04, v05
from yaozarrs.write.v05 import LabelsBuilder

from napari_sam2.core.errors import LabelsError, OutputError
from napari_sam2.core.stack import Video
from napari_sam2.io.atomic import convert_write_errors
from napari_sam2.io.readers.lazy import convert_read_errors
from napari_sam2.io.readers.plate import is_plate
from napari_sam2.io.readers.zarr import is_store

_CHUNK_PX = 1024


def write_zarr_labels(
    image: Path | str,
    video: Video,
    get_plane: Callable[[int], np.ndarray],
    *,
    name: str = "sam2",
    replace: bool = False,
) -> Path:
    """Write the label planes of a video into the OME-Zarr image (0.5 or 0.4) it was opened from, and give the group's path.

    Parameters
    ----------
    get_plane
        Gives the (H, W) labels of a frame; one is in memory at a time.
    name
        Of the label image; `replace` one that is there already.

    The labels have the axes of the image but its channels; planes at places that were not walked
    are zero. Raises OutputError for a store that is no such image, or holds labels of that name;
    LabelsError for planes that do not fit.
    """
    root = Path(image)
    _check_target(root, name, replace)
    layout = _LabelLayout.of(root)
    first = np.asarray(get_plane(0))
    with convert_write_errors(root):
        target = root / "labels" / name
        if target.exists():
            shutil.rmtree(target)
        try:
            array = layout.create_array(root / "labels", name, first.dtype)
            for frame in range(len(video)):
                array[layout.get_plane_index(video.axis_indices(frame))] = _check_plane(
                    get_plane(frame), first, frame
                )
        except BaseException:
            _remove_label_image(root / "labels", name)
            raise
    return target


@dataclass(frozen=True)
class _LabelLayout:
    """The image's own axes, but its channels, at full resolution: with their units, and the place and scale of its pixels."""

    axes: tuple[dict[str, Any], ...]
    shape: tuple[int, ...]
    transformations: tuple[dict[str, Any], ...]
    version: str

    @classmethod
    def of(cls, root: Path) -> _LabelLayout:
        """As the metadata of an image say."""
        with convert_read_errors(f"{root}: cannot be read", "an OME-Zarr image"):
            group = zarr.open_group(root, mode="r")
            attributes: Any = group.attrs.asdict()
            scales = attributes.get("ome", attributes)["multiscales"][0]
            version = "0.5" if "ome" in attributes else str(scales.get("version"))
            if version not in ("0.5", "0.4"):
                raise OutputError(
                    f"{root}: is OME-Zarr {version}: labels are written into images of 0.4 and 0.5"
                )
            first = scales["datasets"][0]
            array: Any = group[first["path"]]
            kept = [
                number
                for number, axis in enumerate(scales["axes"])
                if axis.get("type") != "channel"
            ]
            moves = [
                *first["coordinateTransformations"],
                *scales.get("coordinateTransformations", []),
            ]
            return cls(
                tuple(scales["axes"][number] for number in kept),
                tuple(int(array.shape[number]) for number in kept),
                tuple(
                    {**move, move["type"]: [move[move["type"]][number] for number in kept]}
                    for move in moves
                ),
                version,
            )

    def get_plane_index(self, position: Mapping[str, int]) -> tuple[int, ...]:
        """The index of a plane; an axis that the Stack has not is of length 1."""
        return tuple(position.get(str(axis["name"]).lower(), 0) for axis in self.axes[:-2])

    def create_array(self, labels: Path, name: str, dtype: np.dtype[Any]) -> Any:
        """A new label image of this layout in the group `labels`: a zarr array of zeros, with its metadata."""
        chunks = (
            *(1 for _ in self.shape[:-2]),
            min(self.shape[-2], _CHUNK_PX),
            min(self.shape[-1], _CHUNK_PX),
        )
        if self.version == "0.5":
            builder = LabelsBuilder(
                str(labels), writer="zarr", chunks=chunks, overwrite=True
            )  # what is replaced was asked for
            return builder.add_label(
                name, v05.LabelImage.model_validate(self._make_metadata(name)), (self.shape, dtype)
            ).prepare()[1][f"{name}/0"]
        image = v04.LabelImage.model_validate(self._make_metadata(name))
        group = zarr.open_group(labels, mode="a", zarr_format=2)
        listed: Any = group.attrs.get("labels", [])
        own = group.create_group(name)
        own.attrs.update(image.model_dump(mode="json", by_alias=True, exclude_none=True))
        array = own.create_array(
            "0",
            shape=self.shape,
            dtype=dtype,
            chunks=chunks,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        group.attrs["labels"] = [*listed, *(() if name in listed else (name,))]
        return array

    def _make_metadata(self, name: str) -> dict[str, Any]:
        """The metadata of labels of this layout.

        0.4 says its version of each image, 0.5 of all together.
        """
        scales = {
            "name": name,
            "axes": self.axes,
            "datasets": [{"path": "0", "coordinateTransformations": self.transformations}],
        }
        label = {"version": self.version, "source": {"image": "../../"}}
        if self.version == "0.4":
            return {"multiscales": [{"version": "0.4", **scales}], "image-label": label}
        return {"version": "0.5", "multiscales": [scales], "image-label": label}


def _check_target(root: Path, name: str, replace: bool) -> None:
    if not (root.is_dir() and is_store(root)) or is_plate(root):
        raise OutputError(
            f"{root}: is no OME-Zarr image: expected the store the video was opened from"
        )
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise OutputError(f"labels called {name!r}: expected a plain name, without slashes")
    if (root / "labels" / name).exists() and not replace:
        raise OutputError(
            f"{root}: holds labels called {name!r} already: choose another name, or replace=True"
        )


def _check_plane(plane: np.ndarray, first: np.ndarray, frame: int) -> np.ndarray:
    if plane.shape != first.shape or plane.dtype != first.dtype or plane.dtype.kind != "u":
        raise LabelsError(
            f"got {plane.dtype} {plane.shape!r}: expected {first.dtype} {first.shape!r}, unsigned",
            frame=frame,
        )
    return plane


def _remove_label_image(labels: Path, name: str) -> None:
    """Take an unfinished label image out again, and its name out of the list."""
    shutil.rmtree(labels / name, ignore_errors=True)
    if not is_store(labels):
        return
    group = zarr.open_group(labels, mode="a")
    attributes: Any = group.attrs.asdict()
    said = attributes.get("ome", attributes)
    left = {**said, "labels": [other for other in said.get("labels", []) if other != name]}
    group.attrs.update({"ome": left} if "ome" in attributes else left)

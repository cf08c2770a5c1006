"""Write labels into the ``labels/`` group of the OME-Zarr image they belong to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from yaozarrs import v04, v05
from yaozarrs.write.v05 import LabelsBuilder

from napari_sam2.core.errors import LabelsError, OutputError
from napari_sam2.core.files.atomic import convert_write_errors
from napari_sam2.core.stack import Video
from napari_sam2.io.readers.files import convert_read_errors
from napari_sam2.io.readers.plate import is_plate
from napari_sam2.io.readers.zarr import is_store
from napari_sam2.io.writers.zarr_sink import CHUNK_PX


def write_zarr_labels(
    image: Path | str,
    video: Video,
    get_plane: Callable[[int], np.ndarray],
    *,
    name: str = "sam2",
    replace: bool = False,
) -> Path:
    """Write the label planes of a video into the OME-Zarr image (0.5 or 0.4) it was opened from.

    The labels have all axes of the image except channels. Planes that do not belong to the video
    are zero.

    Parameters
    ----------
    image
        The store.
    get_plane
        Returns the (H, W) labels of a frame; one is in memory at a time.
    name
        Name of the label image.
    replace
        Whether to replace labels of this name.

    Returns
    -------
    Path
        The path of the label image.

    Raises
    ------
    OutputError
        If the store is not such an image, or already contains labels of this name.
    LabelsError
        If a plane differs from the first in shape or type, or is not unsigned.
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
                array[layout.get_plane_index(video.get_axis_indices(frame))] = _check_plane(
                    get_plane(frame), first, frame
                )
        except BaseException:
            _remove_label_image(root / "labels", name)
            raise
    return target


@dataclass(frozen=True)
class _LabelLayout:
    """The axes, shape and coordinates of an image at full resolution, without its channels.

    `axes` and `transformations` are entries of the OME-Zarr metadata of `version`.
    """

    axes: tuple[dict[str, Any], ...]
    shape: tuple[int, ...]
    transformations: tuple[dict[str, Any], ...]
    version: str

    @classmethod
    def of(cls, root: Path) -> _LabelLayout:
        """The layout from the metadata of an image."""
        with convert_read_errors(f"{root}: cannot be read", "an OME-Zarr image"):
            group = zarr.open_group(root, mode="r")
            attributes: Any = group.attrs.asdict()
            multiscale = attributes.get("ome", attributes)["multiscales"][0]
            version = "0.5" if "ome" in attributes else str(multiscale.get("version"))
            if version not in ("0.5", "0.4"):
                raise OutputError(
                    f"{root}: is OME-Zarr {version}: expected 0.4 or 0.5; convert the image"
                )
            dataset = multiscale["datasets"][0]
            array: Any = group[dataset["path"]]
            numbers = [
                number
                for number, axis in enumerate(multiscale["axes"])
                if axis.get("type") != "channel"
            ]
            transformations = [
                *dataset["coordinateTransformations"],
                *multiscale.get("coordinateTransformations", []),
            ]
            return cls(
                tuple(multiscale["axes"][number] for number in numbers),
                tuple(int(array.shape[number]) for number in numbers),
                tuple(_select_axes(each, numbers) for each in transformations),
                version,
            )

    def get_plane_index(self, position: Mapping[str, int]) -> tuple[int, ...]:
        """The index of a plane; an axis that the Stack lacks has length 1."""
        return tuple(position.get(str(axis["name"]).lower(), 0) for axis in self.axes[:-2])

    def create_array(self, labels: Path, name: str, dtype: np.dtype[Any]) -> Any:
        """Create a label image in the group `labels`, and return its zarr array of zeros."""
        chunks = (*(1 for _ in self.shape[:-2]), *(min(n, CHUNK_PX) for n in self.shape[-2:]))
        create = self._create_array_05 if self.version == "0.5" else self._create_array_04
        return create(labels, name, dtype, chunks)

    def _create_array_05(
        self, labels: Path, name: str, dtype: np.dtype[Any], chunks: tuple[int, ...]
    ) -> Any:
        image = v05.LabelImage.model_validate(self._make_metadata(name))
        # overwrite, because `write_zarr_labels` has checked that replacing is allowed
        builder = LabelsBuilder(str(labels), writer="zarr", chunks=chunks, overwrite=True)
        _, arrays = builder.add_label(name, image, (self.shape, dtype)).prepare()
        return arrays[f"{name}/0"]

    def _create_array_04(
        self, labels: Path, name: str, dtype: np.dtype[Any], chunks: tuple[int, ...]
    ) -> Any:
        image = v04.LabelImage.model_validate(self._make_metadata(name))
        group = zarr.open_group(labels, mode="a", zarr_format=2)
        listed: Any = group.attrs.get("labels", [])
        label_group = group.create_group(name)
        label_group.attrs.update(image.model_dump(mode="json", by_alias=True, exclude_none=True))
        array = label_group.create_array(
            "0",
            shape=self.shape,
            dtype=dtype,
            chunks=chunks,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        group.attrs["labels"] = [*listed, *(() if name in listed else (name,))]
        return array

    def _make_metadata(self, name: str) -> dict[str, Any]:
        """The metadata of a label image; 0.4 has its version in each multiscale, 0.5 above them."""
        multiscale = {
            "name": name,
            "axes": self.axes,
            "datasets": [{"path": "0", "coordinateTransformations": self.transformations}],
        }
        label = {"version": self.version, "source": {"image": "../../"}}
        if self.version == "0.4":
            return {"multiscales": [{"version": "0.4", **multiscale}], "image-label": label}
        return {"version": "0.5", "multiscales": [multiscale], "image-label": label}


def _select_axes(transformation: Mapping[str, Any], numbers: Sequence[int]) -> dict[str, Any]:
    """A coordinate transformation of only these axes."""
    kind = transformation["type"]
    return {**transformation, kind: [transformation[kind][number] for number in numbers]}


def _check_target(root: Path, name: str, replace: bool) -> None:
    if not (root.is_dir() and is_store(root)) or is_plate(root):
        raise OutputError(
            f"{root}: is not an OME-Zarr image: expected the store that the video was opened from"
        )
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise OutputError(
            f"name of labels {name!r}: expected a plain name, without slashes or a leading dot"
        )
    if (root / "labels" / name).exists() and not replace:
        raise OutputError(
            f"{root}: already contains labels named {name!r}: choose another name, or give "
            "replace=True"
        )


def _check_plane(plane: np.ndarray, first: np.ndarray, frame: int) -> np.ndarray:
    if plane.shape != first.shape or plane.dtype != first.dtype or plane.dtype.kind != "u":
        raise LabelsError(
            f"got {plane.dtype} {plane.shape!r}: expected {first.dtype} {first.shape!r}, unsigned",
            frame=frame,
        )
    return plane


def _remove_label_image(labels: Path, name: str) -> None:
    """Remove an unfinished label image, and its name from the list of labels."""
    shutil.rmtree(labels / name, ignore_errors=True)
    if not is_store(labels):
        return
    group = zarr.open_group(labels, mode="a")
    attributes: Any = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    remaining = {**ome, "labels": [other for other in ome.get("labels", []) if other != name]}
    group.attrs.update({"ome": remaining} if "ome" in attributes else remaining)

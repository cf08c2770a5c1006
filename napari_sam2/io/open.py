"""Open a Stack or a label Stack from a file, a folder, a glob pattern, a zarr store or an array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr

from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.io.readers import registry
from napari_sam2.io.readers.dicom.headers import list_dicom_files
from napari_sam2.io.readers.dicom.series import open_dicom
from napari_sam2.io.readers.files import check_file
from napari_sam2.io.readers.folder import open_folder, open_glob
from napari_sam2.io.readers.opened import (
    OpenedImage,
    ReadRequest,
    open_array,
    override_spacing,
)
from napari_sam2.io.readers.zarr import is_store, open_zarr, open_zarr_array
from napari_sam2.io.units import doubt_spacing


def open_stack(
    path_or_array: Any,
    *,
    axes: str | None = None,
    spacing: Spacing | Sequence[float | None] | None = None,
    interval: float | None = None,
    level: int = 0,
    series: int | None = None,
    channel_names: Sequence[str] | None = None,
    name: str | None = None,
) -> Stack:
    """A Stack that reads its pixels lazily from a file, a folder, a glob pattern or an array.

    It opens TIFF, PNG, JPEG, BMP, .npy, zarr and OME-Zarr; with the extras "medical", "video" and
    "microscopes" also DICOM (a file, or a folder of one series), NIfTI, NRRD, movies, CZI, ND2 and
    LIF.

    Parameters
    ----------
    path_or_array
        A path, or anything with ``shape``, ``dtype`` and NumPy indexing.
    axes
        One letter for each dimension, in the order of the file: T, C, Z, Y, X, and S for the
        samples of a colour image. Default: the axes of the metadata.
    spacing, interval
        (z, y, x) or (y, x) in µm, and seconds between frames. They override the metadata.
    level
        Level of a pyramid; 0 is the full resolution.
    series
        Number of the image, from 0, if the file contains several (positions, scenes).
    channel_names
        They override the names of the metadata.
    name
        Name of the Stack. Default: the name of the file without its ending.

    Raises
    ------
    FileError
        If a file is missing, truncated or not an image; also later, while a plane is read.
    MissingPackageError
        If the format needs an extra that is not installed.
    AxesError
        If the metadata do not name the dimensions and `axes` is not given; the text lists the
        possible axes.
    """
    image = _open_source(path_or_array, ReadRequest(level, series))
    stated, doubts = doubt_spacing(image.spacing, image.source)
    overridden = override_spacing(stated, spacing, interval)
    image = replace(
        image,
        name=name or image.name,
        spacing=overridden,
        notes=(*image.notes, *doubts),
        times_s=image.times_s if overridden.t_s == image.spacing.t_s else (),
    )
    return _name_axes(image, axes).to_stack(channel_names)


def open_labels(path_or_array: Any, *, axes: str | None = None) -> Stack:
    """A Stack of labels, opened as `open_stack` does.

    Raises
    ------
    LabelsError
        If the image has channels or numbers that are not whole; later, while a plane is read, if it
        has negative numbers.
    """
    image = _open_source(path_or_array, ReadRequest(labels=True))
    stack = _name_axes(image, axes).to_stack()
    source = stack.source or "the array"
    if stack.rgb or "c" in stack.axes:
        raise LabelsError(
            f"{source}: has {stack.sizes['c']} channels: expected a label image, with one whole "
            "number for each pixel"
        )
    kind = np.dtype(stack.data.dtype).kind
    if kind == "f":
        raise LabelsError(
            f"{source}: has the type {stack.data.dtype}: expected whole numbers; save the labels "
            "as 16 or 32 bit integers"
        )
    return _check_values_lazily(stack, source) if kind == "i" else stack


def _check_values_lazily(stack: Stack, source: str) -> Stack:
    """The same labels, checked for negative values when a plane is read."""
    data = stack.data
    if not isinstance(data, da.Array):
        data = da.from_array(data, chunks=(*(1 for _ in stack.axes[:-2]), -1, -1), name=False)
    checked = data.map_blocks(_check_not_negative, source, dtype=data.dtype, meta=data._meta)
    return replace(stack, data=checked)


def _check_not_negative(block: np.ndarray, source: str) -> np.ndarray:
    if block.size and block.min() < 0:
        raise LabelsError(
            f"{source}: contains the label {int(block.min())}: expected 0 for the background and "
            "numbers above 0 for objects"
        )
    return block


def _name_axes(image: OpenedImage, axes: str | None) -> OpenedImage:
    return image.with_axes(axes) if axes else image.with_checked_axes()


def _open_source(path_or_array: Any, request: ReadRequest) -> OpenedImage:
    if isinstance(path_or_array, str | os.PathLike):
        return _open_path(os.fspath(path_or_array), request)
    registry.check_single_image("an array", request)
    if isinstance(path_or_array, zarr.Array):
        return open_zarr_array(path_or_array)
    if not (hasattr(path_or_array, "shape") and hasattr(path_or_array, "dtype")):
        raise FileError(
            f"cannot open a {type(path_or_array).__name__}: expected a path or an array"
        )
    return open_array(path_or_array)


def _open_path(path_text: str, request: ReadRequest) -> OpenedImage:
    path = Path(path_text)
    if any(sign in path_text for sign in "*?[") and not path.exists():
        return open_glob(path_text, request)
    if path.is_dir():
        return _open_directory(path, request)
    check_file(path)
    reader = registry.find_reader(path)
    if reader is None:
        raise FileError(
            f"{path}: is of an unknown kind: expected a file ending in "
            f"{', '.join(registry.SUFFIXES)}, a folder of such files, or a zarr store"
        )
    return reader.open(path, request)


def _open_directory(path: Path, request: ReadRequest) -> OpenedImage:
    if is_store(path):
        return open_zarr(path, request)
    if not list_dicom_files(path):
        return open_folder(path, request)
    registry.check_single_image(path, request)
    return open_dicom(path)

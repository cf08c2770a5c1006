"""Open a Stack or a label Stack from a file, a folder, a glob pattern, a zarr store or an array."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import zarr

from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.core.track import convert_to_labels
from napari_sam2.io.readers import registry
from napari_sam2.io.readers.dicom.headers import list_dicom_files
from napari_sam2.io.readers.dicom.series import open_dicom
from napari_sam2.io.readers.files import check_file, convert_read_errors
from napari_sam2.io.readers.folder import open_folder, open_glob
from napari_sam2.io.readers.opened import (
    OpenedImage,
    ReadRequest,
    open_array,
    override_spacing,
)
from napari_sam2.io.readers.zarr import is_store, open_zarr, open_zarr_array
from napari_sam2.io.units import doubt_spacing

log = logging.getLogger(__name__)


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
    stack = _name_axes(image, axes).to_stack(channel_names)
    is_float = np.dtype(stack.data.dtype).kind == "f"
    return _fill_lazily(stack, image.source) if is_float and image.source else stack


def _fill_lazily(stack: Stack, source: str) -> Stack:
    """The same stack; pixels of a file that are no numbers are filled when a plane is read."""
    data = _make_dask_array(stack)
    empty = np.empty((0,) * data.ndim, data.dtype)
    name = f"filled-{uuid4().hex}"  # dask would hash the function, which changes when it has logged
    filled = da.map_blocks(_PixelFiller(source), data, dtype=data.dtype, meta=empty, name=name)
    return replace(stack, data=filled)


class _PixelFiller:
    """Replaces NaN and infinity by the median of the other pixels, and logs the first ones.

    A block without any number stays as it is, and is refused where it is used.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.logged = False

    def __call__(self, block: np.ndarray) -> np.ndarray:
        known = np.isfinite(block)
        if known.all() or not known.any():
            return block
        if not self.logged:
            self.logged = True
            log.warning(
                "%s: %d pixels of a plane are NaN or infinite: here and on other planes they are "
                "filled with the median of their plane, in measurements too",
                self.source,
                int((~known).sum()),
            )
        return np.where(known, block, np.median(block[known])).astype(block.dtype)


def open_labels(path_or_array: Any, *, axes: str | None = None) -> Stack:
    """A Stack of labels, opened as `open_stack` does.

    Raises
    ------
    LabelsError
        If the image has channels, a compression that does not keep numbers, or is an array of
        floats; later, while a plane of a file is read, if it has numbers that are negative or not
        whole.
    """
    image = _open_source(path_or_array, ReadRequest(labels=True))
    stated, doubts = doubt_spacing(image.spacing, image.source)
    image = replace(image, spacing=stated, notes=(*image.notes, *doubts))
    source = image.source or "the array"
    if not image.source and np.dtype(image.data.dtype).kind == "f":
        raise LabelsError(
            f"{source}: has the type {image.data.dtype}: expected whole numbers; convert it to an "
            "integer type"
        )
    if image.lossy:
        raise LabelsError(
            f"{source}: is compressed with {image.lossy}, which changes numbers: expected labels "
            "without loss, as TIFF or PNG; export them again"
        )
    stack = _name_axes(image, axes).to_stack()
    if stack.rgb:
        stack = _merge_equal_colours(stack, source)
    if "c" in stack.axes:
        raise LabelsError(
            f"{source}: has {stack.sizes['c']} channels: expected a label image, with one whole "
            "number for each pixel"
        )
    return stack if np.dtype(stack.data.dtype).kind in "bu" else _convert_lazily(stack, source)


def number_mask(stack: Stack) -> Stack:
    """Labels of 1 bit as 0 and 1; others as they are."""
    if np.dtype(stack.data.dtype).kind != "b":
        return stack
    return replace(stack, data=_make_dask_array(stack).astype(np.uint8))


def _merge_equal_colours(stack: Stack, source: str) -> Stack:
    """Labels of an image whose red, green and blue are equal, as some tools save grey.

    Raises LabelsError for other colours, at once if they are on the first plane.
    """
    axis = stack.axes.index("c")
    data = da.moveaxis(_make_dask_array(stack), axis, 0)
    empty = np.empty((0,) * (data.ndim - 1), data.dtype)
    grey = da.map_blocks(_check_equal_colours, *data, source, dtype=data.dtype, meta=empty)
    merged = replace(stack, data=grey, axes=stack.axes.replace("c", ""), channels=(), rgb=False)
    merged.read_plane(dict.fromkeys(merged.axes[:-2], 0))
    return merged


def _check_equal_colours(
    red: np.ndarray, green: np.ndarray, blue: np.ndarray, source: str
) -> np.ndarray:
    if not (np.array_equal(red, green) and np.array_equal(red, blue)):
        raise LabelsError(
            f"{source}: is in colour, with 3 channels that differ: expected a label image, with "
            "one whole number for each pixel; save it as 16 bit grey, or with a palette"
        )
    return red


def _convert_lazily(stack: Stack, source: str) -> Stack:
    """The same labels, converted to whole numbers and checked when a plane is read."""
    data = _make_dask_array(stack)
    dtype = data.dtype if data.dtype.kind == "i" else np.dtype(np.uint32)
    empty = np.empty((0,) * data.ndim, dtype)
    return replace(
        stack, data=data.map_blocks(convert_to_labels, source=source, dtype=dtype, meta=empty)
    )


def _make_dask_array(stack: Stack) -> da.Array:
    if isinstance(stack.data, da.Array):
        return stack.data
    chunks = (*(1 for _ in stack.axes[:-2]), -1, -1)
    return da.from_array(stack.data, chunks=chunks, name=False)


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
    """Open a file, folder or glob; whatever a broken one makes a reader raise is a FileError."""
    with convert_read_errors(path_text, "an image with pixels, whole and of the kind it is named"):
        return _find_and_open(path_text, request)


def _find_and_open(path_text: str, request: ReadRequest) -> OpenedImage:
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

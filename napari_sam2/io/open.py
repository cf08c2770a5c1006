"""Opening: one door for all that can be a Stack."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr

from napari_sam2.core.errors import AxesError, FileError, LabelsError
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.io.formats import EXTRA_SUFFIXES, open_with_extra
from napari_sam2.io.readers.dicom import list_dicom_files, open_dicom
from napari_sam2.io.readers.folder import (
    IMAGE_FILE_SUFFIXES,
    TIFF_SUFFIXES,
    open_folder,
    open_glob,
    open_single_file,
)
from napari_sam2.io.readers.lazy import check_file, convert_read_errors
from napari_sam2.io.readers.opened import OpenedImage, open_array, override_spacing
from napari_sam2.io.readers.zarr import is_store, open_zarr
from napari_sam2.io.readers.zarr import open_zarr_array as zarr_content


def open_stack(
    path_or_array: Any,
    *,
    axes: str | None = None,
    spacing: Spacing | Sequence[float | None] | None = None,
    interval: float | None = None,
    level: int = 0,
    channel_names: Sequence[str] | None = None,
    name: str | None = None,
) -> Stack:
    """A Stack of a TIFF, a folder or glob of images, a picture, a zarr store, a .npy file or an array, read lazily.

    With the extras of `io.extras` also of DICOM (a file, or a folder of one series), NIfTI, NRRD,
    movies, CZI, ND2 and LIF.

    Parameters
    ----------
    path_or_array
        A path, or anything with ``shape``, ``dtype`` and NumPy indexing.
    axes
        One letter a dimension in the file's order, of TCZYX, and S for the samples of a colour
        image. From the metadata where not given.
    spacing, interval
        (z, y, x) or (y, x) in µm, and seconds between frames; they go before the metadata.
    level
        Of a pyramid; 0 is the full resolution.

    Raises
    ------
    FileError
        A file that is missing, cut off or no image; also later, while a plane is read.
    AxesError
        Dimensions that nobody named: the text lists the readings.
    """
    content = _open_source(path_or_array, level)
    content = replace(
        content,
        name=name or content.name,
        spacing=override_spacing(content.spacing, spacing, interval),
    )
    content = content.with_axes(axes) if axes else content.with_checked_axes()
    return content.to_stack(channel_names)


def open_labels(path_or_array: Any, *, axes: str | None = None) -> Stack:
    """A Stack of labels, opened as `open_stack` does; raises LabelsError for what cannot be labels.

    Negative values, which only show when a plane is read, raise LabelsError then.
    """
    stack = open_stack(path_or_array, axes=axes)
    label = stack.source or "the array"
    if stack.rgb or "c" in stack.axes:
        raise LabelsError(
            f"{label}: has {stack.sizes['c']} channels: expected a label image, with one whole "
            "number for each pixel"
        )
    kind = np.dtype(stack.data.dtype).kind
    if kind == "f":
        raise LabelsError(
            f"{label}: holds {stack.data.dtype}: expected whole numbers; save the labels as 16 "
            "or 32 bit integers"
        )
    if kind == "i":
        planes = (*(1 for _ in stack.axes[:-2]), -1, -1)
        data = (
            stack.data
            if isinstance(stack.data, da.Array)
            else da.from_array(stack.data, chunks=planes, name=False)
        )
        return replace(
            stack,
            data=data.map_blocks(_check_not_negative, label, dtype=data.dtype, meta=data._meta),
        )
    return stack


def _check_not_negative(block: np.ndarray, source: str) -> np.ndarray:
    if block.size and block.min() < 0:
        raise LabelsError(
            f"{source}: holds the label {int(block.min())}: expected 0 for the background and "
            "numbers above it"
        )
    return block


def _open_source(path_or_array: Any, level: int) -> OpenedImage:
    if isinstance(path_or_array, str | os.PathLike):
        return _open_path(os.fspath(path_or_array), level)
    if level:
        raise AxesError(f"level {level!r}: an array has one (0)")
    if isinstance(path_or_array, zarr.Array):
        return zarr_content(path_or_array)
    if not (hasattr(path_or_array, "shape") and hasattr(path_or_array, "dtype")):
        raise FileError(
            f"cannot open a {type(path_or_array).__name__}: expected a path or an array"
        )
    return open_array(path_or_array)


def _open_path(path_text: str, level: int) -> OpenedImage:
    path = Path(path_text)
    if any(sign in path_text for sign in "*?[") and not path.exists():
        return open_glob(path_text)
    if path.is_dir():
        if is_store(path):
            return open_zarr(path, level)
        return _check_single_level(
            open_dicom(path) if list_dicom_files(path) else open_folder(path), level
        )
    check_file(path)
    suffix = path.suffix.lower()
    other = open_with_extra(path)
    if other is not None:
        return _check_single_level(other, level)
    if suffix in TIFF_SUFFIXES + IMAGE_FILE_SUFFIXES:
        return open_single_file(path, level)
    if suffix == ".npy":
        with convert_read_errors(f"{path}: cannot be read as NumPy's .npy", "an array of numbers"):
            return _check_single_level(
                open_array(np.load(path, mmap_mode="r", allow_pickle=False), path.stem, str(path)),
                level,
            )
    known = ", ".join((*TIFF_SUFFIXES, *IMAGE_FILE_SUFFIXES, ".npy", *EXTRA_SUFFIXES))
    raise FileError(
        f"{path}: is of an unknown kind: expected a file ending in {known}, a folder of such, or "
        "a zarr store"
    )


def _check_single_level(content: OpenedImage, level: int) -> OpenedImage:
    if level:
        raise AxesError(f"level {level!r}: {content.source} has one (0)")
    return content

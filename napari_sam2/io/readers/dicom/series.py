"""A DICOM file, or a folder of one series, as one stack."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.core.stack import ImageGeometry, Spacing
from napari_sam2.io.readers.dicom.frames import DicomFrame, check_alike, list_frames
from napari_sam2.io.readers.dicom.headers import list_dicom_files, read_header
from napari_sam2.io.readers.dicom.order import sort_frames
from napari_sam2.io.readers.dicom.values import choose_dtype
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage, make_vector
from napari_sam2.io.units import convert_to_seconds, convert_to_um

_TIME_POINTERS = (0x00181063, 0x00181065)  # FrameTime, FrameTimeVector

_MM_LPS_TO_UM_RAS = np.array([-1e3, -1e3, 1e3])


def open_dicom(path: Path) -> OpenedImage:
    """Open a DICOM file, or a folder of one series, with the values of the modality.

    Slices and frames are sorted by their position along the normal of their planes. Several at one
    position are time points, ordered by what their headers say about time.

    Raises
    ------
    FileError
        If a folder contains several series, slices that are not alike, or too few.
    """
    files = _list_files(path)
    frames = list_frames(files)
    check_alike(frames, path)
    header = read_header(files[0])
    axes, step_mm = "", None
    shape: tuple[int, ...] = ()
    if len(frames) > 1 and (len(files) > 1 or frames[0].position_mm is not None):
        order = sort_frames(frames, path)
        frames, axes, shape, step_mm = list(order.frames), order.axes, order.shape, order.step_mm
    elif len(frames) > 1:
        axes, shape = _name_frame_axis(header), (len(frames),)
    planes = DicomPlanes(
        tuple(frames),
        (*shape, *frames[0].size),
        choose_dtype([(frame.transform, frame.stored) for frame in frames]),
    )
    title = header.get("SeriesDescription") if path.is_dir() else path.stem
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes + "yx",
        _make_spacing(frames[0], step_mm, _read_interval(header) if axes == "t" else None),
        name=str(title or path.name),
        source=str(path),
        max_value=_compute_max_value(frames),
        geometry=_make_geometry(frames, axes, shape),
    )


def _make_geometry(
    frames: Sequence[DicomFrame], axes: str, shape: tuple[int, ...]
) -> ImageGeometry | None:
    """The place of sorted frames in the patient; None if not stated."""
    first = frames[0]
    if first.position_mm is None or first.orientation is None or first.pixel_mm is None:
        return None
    if UNKNOWN_AXIS in axes:
        return None
    to_um = _MM_LPS_TO_UM_RAS
    orientation = np.asarray(first.orientation)
    steps: list[tuple[float, float, float] | None] = [None] * axes.count("t")
    if "z" in axes:
        n_slices = shape[axes.index("z")]
        last = np.asarray(frames[n_slices - 1].position_mm)
        steps.append(make_vector((last - first.position_mm) / (n_slices - 1) * to_um))
    steps.append(make_vector(orientation[3:] * first.pixel_mm[0] * to_um))
    steps.append(make_vector(orientation[:3] * first.pixel_mm[1] * to_um))
    return ImageGeometry(
        "patient", make_vector(np.asarray(first.position_mm) * to_um), tuple(steps)
    )


def _compute_max_value(frames: Sequence[DicomFrame]) -> float:
    """The value of the largest number that all frames can store; NaN if it differs."""
    maxima = {frame.transform.compute_maximum(frame.stored) for frame in frames}
    return maxima.pop() if len(maxima) == 1 else math.nan


def read_source_slices(path: Path) -> list[Any]:
    """The datasets of a series in the order of the Stack, for objects derived from them.

    Raises FileError for a file of several frames.
    """
    frames = list_frames(_list_files(path))
    if any(frame.n_frames > 1 for frame in frames):
        raise FileError(f"{path}: has several frames in one file: expected one slice a file")
    ordered = sort_frames(frames, path).frames if len(frames) > 1 else frames
    return [import_extra("pydicom", MEDICAL, "DICOM").dcmread(frame.file) for frame in ordered]


def _list_files(path: Path) -> list[Path]:
    """The files of one series; raises FileError if there are several series."""
    files = list_dicom_files(path) if path.is_dir() else [path]
    series: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        series[str(read_header(file).get("SeriesInstanceUID"))].append(file)
    if len(series) > 1:
        counts = sorted(len(each) for each in series.values())
        examples = ", ".join(each[0].name for each in list(series.values())[:3])
        raise FileError(
            f"{path}: contains {len(series)} series of {counts} slices (the first of each: "
            f"{examples}): expected one; put each series into its own folder"
        )
    return files


@dataclass(frozen=True, eq=False)
class DicomPlanes:
    """The frames of one series, of `shape` (z, y, x), (t, y, x), (t, z, y, x) or (y, x)."""

    frames: tuple[DicomFrame, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_leading(self) -> int:
        """The number of dimensions before y and x."""
        return len(self.shape) - 2

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One (y, x) frame, in the values of the modality."""
        number = int(np.ravel_multi_index(index, self.shape[:-2])) if index else 0
        frame = self.frames[number]
        return frame.transform.apply(_read_stored(frame), self.dtype)


def _read_stored(frame: DicomFrame) -> np.ndarray:
    pixels = import_extra("pydicom.pixels", MEDICAL, "DICOM")
    return np.asarray(pixels.pixel_array(frame.file, index=frame.number))


def _name_frame_axis(header: Any) -> str:
    """The axis of frames without positions: t if their times are stated, else unknown."""
    return "t" if header.get("FrameIncrementPointer") in _TIME_POINTERS else UNKNOWN_AXIS


def _read_interval(header: Any) -> float | None:
    """Seconds between frames; None if not stated, or if they do not come evenly."""
    vector = [float(value) for value in header.get("FrameTimeVector") or ()][1:]
    if vector and np.ptp(vector) > 0:
        return None
    milliseconds = header.get("FrameTime") or (vector[0] if vector else None)
    return convert_to_seconds(None if milliseconds is None else float(milliseconds), "ms")


def _make_spacing(frame: DicomFrame, step_mm: float | None, interval_s: float | None) -> Spacing:
    y_mm, x_mm = frame.pixel_mm or (None, None)
    return Spacing(
        convert_to_um(step_mm, "mm"),
        convert_to_um(y_mm, "mm"),
        convert_to_um(x_mm, "mm"),
        interval_s,
    )

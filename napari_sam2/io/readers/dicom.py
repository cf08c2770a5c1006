"""DICOM: a folder of slices as one stack, ordered by where they lie in the patient."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.extras import MEDICAL, import_extra
from napari_sam2.io.readers.lazy import convert_read_errors, get_file_stamp, make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage
from napari_sam2.io.units import convert_to_um

SUFFIXES = (".dcm", ".dicom", ".ima")

_DICM_MARKER = b"DICM"  # after a preamble of 128 bytes: DICOM PS3.10, 7.1
_MAX_SPACING_DEVIATION = 0.01  # part of the slice distance by which slices may miss their place
_DEFAULT_ORIENTATION = (1, 0, 0, 0, 1, 0)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its name, or by what stands in it."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # uids end in numbers
        return False
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == _DICM_MARKER
    except OSError:
        return False


def list_dicom_files(folder: Path) -> list[Path]:
    """The DICOM files directly in a folder."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and is_dicom(path)
    ]


def open_dicom(path: Path) -> OpenedImage:
    """What a DICOM file, or a folder of one series, holds: intensities after the rescale that each slice names.

    Slices come in the order of their places along the normal of their plane; several at one place
    are time points, in the order of their numbers. Raises FileError for several series in one
    folder, and where a slice is missing.
    """
    files = list_dicom_files(path) if path.is_dir() else [path]
    heads = [_read_header(str(file), get_file_stamp(file)) for file in files]
    series = Counter(head.get("SeriesInstanceUID") for head in heads)
    if len(series) > 1:
        raise FileError(
            f"{path}: holds {len(series)} series of {sorted(series.values())} slices: expected "
            "one, put each into a folder of its own"
        )
    if len(heads) == 1:
        return _open_single_file(files[0], heads[0])
    order, shape, step_mm = _sort_slices(heads, path)
    planes = DicomPlanes.of(
        [files[number] for number in order], [heads[number] for number in order], shape
    )
    axes = {1: "t", 2: "tz"}[len(shape)] if step_mm is None or len(shape) == 2 else "z"
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes + "yx",
        _make_spacing(heads[0], step_mm),
        name=_get_series_name(heads[0], path),
        source=str(path),
    )


def read_source_slices(path: Path) -> list[Any]:
    """The datasets of a series without their pixels, in the order of the Stack: what derived objects refer to."""
    files = list_dicom_files(path) if path.is_dir() else [path]
    heads = [_read_header(str(file), get_file_stamp(file)) for file in files]
    order = _sort_slices(heads, path)[0] if len(heads) > 1 else [0]
    return [import_extra("pydicom", MEDICAL, "DICOM").dcmread(files[number]) for number in order]


@dataclass(frozen=True)
class DicomPlanes:
    """The slices of one series, one file each, in order; `shape` (z, y, x), (t, y, x) or (t, z, y, x)."""

    files: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls, files: Sequence[Path], headers: Sequence[Any], leading_shape: tuple[int, ...]
    ) -> DicomPlanes:
        """Of slices that are all alike; raises FileError that names the first that is not."""
        size = (int(headers[0].Rows), int(headers[0].Columns))
        for file, head in zip(files, headers, strict=True):
            if (int(head.Rows), int(head.Columns)) != size or int(
                head.get("SamplesPerPixel", 1)
            ) != 1:
                raise FileError(
                    f"{file}: is {head.Rows} × {head.Columns}: expected grey slices of {size[0]} "
                    f"× {size[1]}, as the others"
                )
        return cls(tuple(map(str, files)), (*leading_shape, *size), _choose_dtype(headers))

    @property
    def n_leading(self) -> int:
        """All but y and x."""
        return len(self.shape) - 2

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One slice, rescaled."""
        number = int(np.ravel_multi_index(index, self.shape[:-2])) if index else 0
        dataset = import_extra("pydicom", MEDICAL, "DICOM").dcmread(self.files[number])
        slope, intercept = _get_rescale(dataset)
        pixels = np.asarray(dataset.pixel_array)
        if self.dtype.kind == "f":
            return (pixels.astype(np.float64) * slope + intercept).astype(self.dtype)
        return (pixels.astype(np.int64) * int(slope) + int(intercept)).astype(self.dtype)


def _sort_slices(
    headers: Sequence[Any], path: Path
) -> tuple[list[int], tuple[int, ...], float | None]:
    """The order of the slices, the shape they make, and their distance in mm; None where all are at one place."""
    orientation = np.asarray(
        headers[0].get("ImageOrientationPatient") or _DEFAULT_ORIENTATION, dtype=float
    )
    normal = np.cross(orientation[:3], orientation[3:])
    at: dict[float, list[int]] = defaultdict(list)
    for number, head in enumerate(headers):
        if head.get("ImagePositionPatient") is None:
            raise FileError(
                f"{path}: a slice does not say where it lies (ImagePositionPatient): expected "
                "one series of a scanner"
            )
        at[
            round(float(np.dot(normal, np.asarray(head.ImagePositionPatient, dtype=float))), 4)
        ].append(number)
    times = {len(numbers) for numbers in at.values()}
    if len(times) > 1:
        raise FileError(
            f"{path}: places in the patient have {sorted(times)} slices: expected as many at "
            "each, one may be missing"
        )
    (count,) = times
    places = sorted(at)
    columns = [
        sorted(at[place], key=lambda number: int(headers[number].get("InstanceNumber") or 0))
        for place in places
    ]
    order = [column[time] for time in range(count) for column in columns]
    if len(places) == 1:
        return order, (count,), None
    return (
        order,
        (len(places),) if count == 1 else (count, len(places)),
        _compute_slice_distance(places, path),
    )


def _compute_slice_distance(positions_mm: Sequence[float], path: Path) -> float:
    steps = np.diff(positions_mm)
    step = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - step) > _MAX_SPACING_DEVIATION * step)
    if wrong.size:
        first = int(wrong[0])
        raise FileError(
            f"{path}: slices {first} and {first + 1} are {steps[first]:.4g} mm apart, most "
            f"{step:.4g} mm: a slice is missing, "
            "or there are several scans"
        )
    return float(np.mean(steps))


def _open_single_file(file: Path, header: Any) -> OpenedImage:
    """One file: one slice, or the frames of a multi-frame file, whose meaning a person has to name."""
    frames = int(header.get("NumberOfFrames") or 1)
    planes = DicomPlanes.of([file], [header], ())
    if frames == 1:
        return OpenedImage(
            make_lazy_array(planes, str(file)),
            "yx",
            _make_spacing(header, None),
            name=file.stem,
            source=str(file),
        )
    whole = _MultiFramePlanes(planes, frames)
    return OpenedImage(
        make_lazy_array(whole, str(file)),
        UNKNOWN_AXIS + "yx",
        _make_spacing(header, None),
        name=file.stem,
        source=str(file),
    )


@dataclass(frozen=True)
class _MultiFramePlanes:
    """All frames of one file, read together: compressed frames have no index that one could rely on."""

    slices: DicomPlanes
    n_frames: int
    n_leading: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n_frames, *self.slices.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.slices.dtype

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        return self.slices(index)


def _make_spacing(header: Any, step_mm: float | None) -> Spacing:
    rows, columns = (
        convert_to_um(float(value), "mm") for value in header.get("PixelSpacing") or (0.0, 0.0)
    )
    return Spacing(z_um=convert_to_um(step_mm, "mm"), y_um=rows, x_um=columns)


def _get_rescale(header: Any) -> tuple[float, float]:
    return float(header.get("RescaleSlope", 1) or 1), float(header.get("RescaleIntercept", 0) or 0)


def _choose_dtype(headers: Sequence[Any]) -> np.dtype[Any]:
    """Whole numbers stay whole, in the smallest of the usual types; another slope makes them floats."""
    values = {_get_rescale(head) for head in headers}
    if not all(float(number).is_integer() for pair in values for number in pair):
        return np.dtype(np.float32)
    bits, signed = (
        int(headers[0].get("BitsStored") or 16),
        bool(int(headers[0].get("PixelRepresentation") or 0)),
    )
    ends = [
        ((-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1))[side] * slope
        + add
        for slope, add in values
        for side in (0, 1)
    ]
    low, high = min(ends), max(ends)
    return next(
        np.dtype(kind)
        for kind in (np.uint8, np.uint16, np.int16, np.int32, np.int64)
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
    )


def _get_series_name(header: Any, path: Path) -> str:
    return str(header.get("SeriesDescription") or path.name)


@lru_cache(maxsize=4096)  # heads of slices, no pixels
def _read_header(path: str, _: tuple[int, int]) -> Any:
    with convert_read_errors(f"{path}: cannot be read as DICOM", "a whole DICOM file"):
        return import_extra("pydicom", MEDICAL, f"{path}: DICOM").dcmread(
            path, stop_before_pixels=True
        )

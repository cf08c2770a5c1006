"""DICOM: a series of slices as one stack, in the order of their positions in the patient."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.files import convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import PlaneReader, make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage
from napari_sam2.io.units import convert_to_um

SUFFIXES = (".dcm", ".dicom", ".ima")

_DICM_MARKER = b"DICM"  # after a preamble of 128 bytes, see DICOM PS3.10, 7.1
_MAX_SPACING_DEVIATION = 0.01  # of a slice distance, relative to the median distance
_DEFAULT_ORIENTATION = (1, 0, 0, 0, 1, 0)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by the ending of its name or by its content."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # files are often named by a UID
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
    """Open a DICOM file, or a folder of one series, with intensities after the rescale.

    Slices are sorted by their position along the normal of their planes. Several slices at one
    position are time points, in the order of their instance numbers.

    Raises
    ------
    FileError
        If a folder contains several series, or a slice is missing.
    """
    files = list_dicom_files(path) if path.is_dir() else [path]
    headers = [_read_header(str(file), get_file_stamp(file)) for file in files]
    series = Counter(header.get("SeriesInstanceUID") for header in headers)
    if len(series) > 1:
        raise FileError(
            f"{path}: contains {len(series)} series of {sorted(series.values())} slices: expected "
            "one; put each series into its own folder"
        )
    if len(headers) == 1:
        return _open_single_file(files[0], headers[0])
    order = _sort_slices(headers, path)
    planes = DicomPlanes.of(
        [files[number] for number in order.slices],
        [headers[number] for number in order.slices],
        order.shape,
    )
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        order.axes + "yx",
        _make_spacing(headers[0], order.step_mm),
        name=str(headers[0].get("SeriesDescription") or path.name),
        source=str(path),
    )


def read_source_slices(path: Path) -> list[Any]:
    """The datasets of a series in the order of the Stack, for objects derived from them."""
    files = list_dicom_files(path) if path.is_dir() else [path]
    headers = [_read_header(str(file), get_file_stamp(file)) for file in files]
    order = _sort_slices(headers, path).slices if len(headers) > 1 else [0]
    return [import_extra("pydicom", MEDICAL, "DICOM").dcmread(files[number]) for number in order]


@dataclass(frozen=True)
class DicomPlanes:
    """The slices of one series, one file each, of `shape` (z, y, x), (t, y, x) or (t, z, y, x)."""

    files: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls, files: Sequence[Path], headers: Sequence[Any], leading_shape: tuple[int, ...]
    ) -> DicomPlanes:
        """The slices in the order of `files`; raises FileError if one has another size."""
        size = (int(headers[0].Rows), int(headers[0].Columns))
        for file, header in zip(files, headers, strict=True):
            n_samples = int(header.get("SamplesPerPixel", 1))
            if (int(header.Rows), int(header.Columns)) != size or n_samples != 1:
                raise FileError(
                    f"{file}: is {header.Rows} × {header.Columns} with {n_samples} values a pixel: "
                    f"expected grey slices of {size[0]} × {size[1]} like the others"
                )
        return cls(tuple(map(str, files)), (*leading_shape, *size), _choose_dtype(headers))

    @property
    def n_leading(self) -> int:
        """The number of dimensions before y and x."""
        return len(self.shape) - 2

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One (y, x) slice, rescaled."""
        number = int(np.ravel_multi_index(index, self.shape[:-2])) if index else 0
        dataset = import_extra("pydicom", MEDICAL, "DICOM").dcmread(self.files[number])
        slope, intercept = _get_rescale(dataset)
        pixels = np.asarray(dataset.pixel_array)
        if self.dtype.kind == "f":
            return (pixels.astype(np.float64) * slope + intercept).astype(self.dtype)
        return (pixels.astype(np.int64) * int(slope) + int(intercept)).astype(self.dtype)


@dataclass(frozen=True)
class _SliceOrder:
    """The order of the slices of a series.

    `slices` are the positions of the slices in the list of files, flattened from `shape`, whose
    dimensions are `axes`: "z", "t" or "tz". `step_mm` is None for a single position.
    """

    slices: list[int]
    axes: str
    shape: tuple[int, ...]
    step_mm: float | None


def _sort_slices(headers: Sequence[Any], path: Path) -> _SliceOrder:
    by_position = _group_by_position(headers, path)
    counts = {len(numbers) for numbers in by_position.values()}
    if len(counts) > 1:
        raise FileError(
            f"{path}: positions in the patient have {sorted(counts)} slices: expected the same "
            "number at each; a slice may be missing"
        )
    (n_times,) = counts
    positions = sorted(by_position)
    columns = [
        sorted(
            by_position[each], key=lambda number: int(headers[number].get("InstanceNumber") or 0)
        )
        for each in positions
    ]
    slices = [column[time] for time in range(n_times) for column in columns]
    if len(positions) == 1:
        return _SliceOrder(slices, "t", (n_times,), None)
    step_mm = _compute_slice_distance(positions, path)
    if n_times == 1:
        return _SliceOrder(slices, "z", (len(positions),), step_mm)
    return _SliceOrder(slices, "tz", (n_times, len(positions)), step_mm)


def _group_by_position(headers: Sequence[Any], path: Path) -> dict[float, list[int]]:
    """The numbers of the slices by their position in mm along the normal of the planes."""
    orientation = np.asarray(
        headers[0].get("ImageOrientationPatient") or _DEFAULT_ORIENTATION, dtype=float
    )
    normal = np.cross(orientation[:3], orientation[3:])
    by_position: dict[float, list[int]] = defaultdict(list)
    for number, header in enumerate(headers):
        if header.get("ImagePositionPatient") is None:
            raise FileError(
                f"{path}: a slice has no position (ImagePositionPatient): expected one series of "
                "a scanner"
            )
        corner = np.asarray(header.ImagePositionPatient, dtype=float)
        by_position[round(float(np.dot(normal, corner)), 4)].append(number)
    return by_position


def _compute_slice_distance(positions_mm: Sequence[float], path: Path) -> float:
    """The mean distance of slices in mm; raises FileError if one distance differs."""
    steps = np.diff(positions_mm)
    step = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - step) > _MAX_SPACING_DEVIATION * step)
    if wrong.size:
        first = int(wrong[0])
        raise FileError(
            f"{path}: slices {first} and {first + 1} are {steps[first]:.4g} mm apart, most "
            f"{step:.4g} mm: a slice is missing, or there are several scans"
        )
    return float(np.mean(steps))


def _open_single_file(file: Path, header: Any) -> OpenedImage:
    """Open one slice, or a multi-frame file; the axis of its frames is unknown."""
    n_frames = int(header.get("NumberOfFrames") or 1)
    planes: PlaneReader = DicomPlanes.of([file], [header], ())
    axes = "yx"
    if n_frames > 1:
        planes, axes = _MultiFramePlanes(planes, n_frames), UNKNOWN_AXIS + axes
    return OpenedImage(
        make_lazy_array(planes, str(file)),
        axes,
        _make_spacing(header, None),
        name=file.stem,
        source=str(file),
    )


@dataclass(frozen=True)
class _MultiFramePlanes:
    """All frames of one file, read together, because compressed frames have no reliable index."""

    slices: PlaneReader
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
    y_um, x_um = (
        convert_to_um(float(value), "mm") for value in header.get("PixelSpacing") or (0.0, 0.0)
    )
    return Spacing(z_um=convert_to_um(step_mm, "mm"), y_um=y_um, x_um=x_um)


def _get_rescale(header: Any) -> tuple[float, float]:
    """Slope and intercept."""
    return float(header.get("RescaleSlope", 1) or 1), float(header.get("RescaleIntercept", 0) or 0)


def _choose_dtype(headers: Sequence[Any]) -> np.dtype[Any]:
    """The smallest integer type for the rescaled values; float32 if the rescale is fractional."""
    rescales = {_get_rescale(header) for header in headers}
    if not all(number.is_integer() for pair in rescales for number in pair):
        return np.dtype(np.float32)
    bits = int(headers[0].get("BitsStored") or 16)
    signed = bool(int(headers[0].get("PixelRepresentation") or 0))
    stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    rescaled = [value * slope + intercept for slope, intercept in rescales for value in stored]
    low, high = min(rescaled), max(rescaled)
    return next(
        np.dtype(kind)
        for kind in (np.uint8, np.uint16, np.int16, np.int32, np.int64)
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
    )


@lru_cache(maxsize=4096)  # headers of slices, no pixels
def _read_header(path: str, _: tuple[int, int]) -> Any:
    with convert_read_errors(f"{path}: cannot be read as DICOM", "a whole DICOM file"):
        return import_extra("pydicom", MEDICAL, f"{path}: DICOM").dcmread(
            path, stop_before_pixels=True
        )

"""Values of DICOM pixels: from stored numbers to those of the modality, such as HU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam2.core.files.extras import MEDICAL, import_extra

_INTEGER_TYPES = (np.uint8, np.uint16, np.int16, np.int32, np.int64)


@dataclass(frozen=True)
class ModalityTransform:
    """The Modality LUT or the rescale of a frame, see DICOM PS3.3, C.11.1.

    Parameters
    ----------
    slope, intercept
        The rescale.
    table
        The dataset with a Modality LUT Sequence, which replaces the rescale; None without one.
    """

    slope: float = 1.0
    intercept: float = 0.0
    table: Any = None

    def apply(self, stored: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """The values of stored numbers, as `dtype` of `choose_dtype`."""
        if self.table is not None:
            pixels = import_extra("pydicom.pixels", MEDICAL, "DICOM")
            return np.asarray(pixels.apply_modality_lut(stored, self.table)).astype(dtype)
        if dtype.kind == "f":
            return (stored.astype(np.float64) * self.slope + self.intercept).astype(dtype)
        return (stored.astype(np.int64) * int(self.slope) + int(self.intercept)).astype(dtype)

    def compute_range(self, stored: tuple[int, int]) -> tuple[float, float]:
        """The smallest and the largest value of a range of stored numbers."""
        if self.table is None:
            ends = [number * self.slope + self.intercept for number in stored]
        else:
            first = int(self.table.ModalityLUTSequence[0].LUTDescriptor[1])
            n_entries = int(self.table.ModalityLUTSequence[0].LUTDescriptor[0]) or 2**16
            ends = self.apply(np.arange(first, first + n_entries), np.dtype(np.float64)).tolist()
        return min(ends), max(ends)

    def compute_maximum(self, stored: tuple[int, int]) -> float:
        """The value of the largest stored number: a detector saturates there."""
        largest = np.array([stored[1]])
        return float(self.apply(largest, np.dtype(np.float64))[0])

    @property
    def integral(self) -> bool:
        """Whether whole numbers stay whole."""
        return self.table is not None or (self.slope.is_integer() and self.intercept.is_integer())


def make_transform(header: Any, elements: Mapping[str, Any]) -> ModalityTransform:
    """The transform of a frame, from its functional groups, else from the header of its file."""
    if header.get("ModalityLUTSequence"):
        return ModalityTransform(table=header)
    slope, intercept = (
        header.get(name) if elements.get(name) is None else elements[name]
        for name in ("RescaleSlope", "RescaleIntercept")
    )
    return ModalityTransform(float(slope or 1), float(intercept or 0))


def get_stored_range(header: Any) -> tuple[int, int]:
    """The smallest and the largest number that the bits of a file can store."""
    bits = int(header.get("BitsStored") or header.get("BitsAllocated") or 16)
    if int(header.get("PixelRepresentation") or 0):
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def choose_dtype(
    transforms: Sequence[tuple[ModalityTransform, tuple[int, int]]],
) -> np.dtype[Any]:
    """The smallest integer type for all values; float32 if a rescale is fractional.

    Parameters
    ----------
    transforms
        The transform and the stored range of each frame.
    """
    if not all(transform.integral for transform, _ in transforms):
        return np.dtype(np.float32)
    ranges = [transform.compute_range(stored) for transform, stored in transforms]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if not (math.isfinite(low) and math.isfinite(high)):
        return np.dtype(np.float32)
    return next(
        (
            np.dtype(kind)
            for kind in _INTEGER_TYPES
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
        ),
        np.dtype(np.float32),
    )

"""ImageJ's metadata: pixel sizes in the unit it names, and calibrated values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial.polynomial import polyval
from tifffile import TiffPage

from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.calibration.resolution import (
    read_page_sizes,
    read_pixels_per_unit,
)
from napari_sam2.io.units import convert_to_seconds, convert_to_um

_PLAUSIBLE_UM = (1e-3, 100.0)  # pixel sizes of electron to stereo microscopes
_MAX_DISAGREEMENT = 0.01  # of two pixel sizes, relative
_INTEGER_TYPES = (np.uint8, np.uint16, np.int16, np.int32, np.int64)

# ij.measure.Calibration and CurveFitter number their functions; p are the coefficients
_FUNCTIONS: Mapping[int, tuple[int, Callable[[np.ndarray, tuple[float, ...]], np.ndarray]]] = {
    0: (2, lambda x, p: p[0] + p[1] * x),
    1: (3, polyval),
    2: (4, polyval),
    3: (5, polyval),
    4: (2, lambda x, p: p[0] * np.exp(p[1] * x)),
    5: (2, lambda x, p: p[0] * x ** p[1]),
    6: (2, lambda x, p: p[0] * np.log(p[1] * x)),
    7: (4, lambda x, p: p[3] + (p[0] - p[3]) / (1 + (x / p[2]) ** p[1])),
    11: (3, lambda x, p: p[0] * np.exp(-p[1] * x) + p[2]),
}
_UNCALIBRATED = 20


@dataclass(frozen=True)
class ValueFunction:
    """A calibration function of ImageJ, from stored to calibrated values.

    Parameters
    ----------
    number
        0 is a straight line, 1 to 3 are polynomials; see `_FUNCTIONS`.
    coefficients
        As many as the function has.
    """

    number: int
    coefficients: tuple[float, ...]

    def apply(self, stored: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """The calibrated values, as `dtype` of `choose_dtype`."""
        if dtype.kind != "f":
            offset, slope = (int(value) for value in self.coefficients)
            return (stored.astype(np.int64) * slope + offset).astype(dtype)
        with np.errstate(all="ignore"):
            return _FUNCTIONS[self.number][1](stored.astype(np.float64), self.coefficients).astype(
                dtype
            )

    def choose_dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """The smallest integer type for the values of whole numbers; else float32."""
        if not self.integral or stored.kind not in "ui":
            return np.dtype(np.float32)
        info = np.iinfo(stored)
        ends = [
            value * self.coefficients[1] + self.coefficients[0] for value in (info.min, info.max)
        ]
        return next(
            (
                np.dtype(kind)
                for kind in _INTEGER_TYPES
                if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max
            ),
            np.dtype(np.float32),
        )

    @property
    def integral(self) -> bool:
        """Whether whole numbers stay whole."""
        return self.number == 0 and all(value.is_integer() for value in self.coefficients)


def read_value_function(
    metadata: Mapping[str, Any],
) -> tuple[ValueFunction | None, tuple[str, ...]]:
    """The calibration function of ImageJ's metadata, and a note about one that is not applied."""
    number = metadata.get("cf")
    if number is None or number == _UNCALIBRATED:
        return None, ()
    n_coefficients = _FUNCTIONS.get(number, (0, None))[0]
    values = [metadata.get(f"c{index}") for index in range(n_coefficients)]
    coefficients = [float(value) for value in values if isinstance(value, int | float)]
    if not n_coefficients or len(coefficients) < n_coefficients:
        note = f"its calibration function of ImageJ (number {number}) is not applied"
        return None, (f"{note}: values are uncalibrated",)
    if number == 0 and coefficients == [0.0, 1.0]:
        return None, ()
    return ValueFunction(int(number), tuple(coefficients)), ()


def read_imagej_spacing(
    metadata: Mapping[str, Any], page: TiffPage
) -> tuple[Spacing, tuple[str, ...]]:
    """Spacing from `unit`, `spacing` and `finterval`, and notes.

    The resolution tags count pixels in the unit that ImageJ names; writers other than ImageJ give
    them in the unit of the tags. If these differ, the one that a microscope can have is used.
    """
    interval_s = convert_to_seconds(metadata.get("finterval"), metadata.get("tunit", "s"))
    unit = metadata.get("unit")
    if unit is None or convert_to_um(1.0, unit) is None:
        return Spacing(t_s=interval_s), ()
    x, y = read_pixels_per_unit(page)
    words = (
        convert_to_um(1 / y if y else None, metadata.get("yunit", unit)),
        convert_to_um(1 / x if x else None, unit),
    )
    sizes, notes = _choose_sizes(words, read_page_sizes(page))
    z_um = convert_to_um(metadata.get("spacing"), metadata.get("zunit", unit))
    return Spacing(z_um, *sizes, interval_s), notes


def _choose_sizes(
    words: tuple[float | None, float | None], tags: tuple[float | None, float | None]
) -> tuple[tuple[float | None, float | None], tuple[str, ...]]:
    """The (y, x) pixel size of ImageJ's unit or of the tags' unit, and a note if they differ."""
    if None in words or None in tags or _agree(words, tags):
        return words, ()
    plausible = [sizes for sizes in (words, tags) if _are_plausible(sizes)]
    said = f"a pixel of {words[1]:.3g} µm by ImageJ's unit, of {tags[1]:.3g} µm by the TIFF tags"
    if len(plausible) != 1:
        return (None, None), (f"says {said}: neither is used; give the spacing (--spacing)",)
    return plausible[0], (f"says {said}: {plausible[0][1]:.3g} µm is used",)


def _agree(
    words: tuple[float | None, float | None], tags: tuple[float | None, float | None]
) -> bool:
    return all(
        first is not None and second is not None and abs(first / second - 1) < _MAX_DISAGREEMENT
        for first, second in zip(words, tags, strict=True)
    )


def _are_plausible(sizes: tuple[float | None, float | None]) -> bool:
    low, high = _PLAUSIBLE_UM
    return all(size is not None and low <= size <= high for size in sizes)

"""Planes as the learned detector takes them: full contrast, without padding and dead lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam2.core.contrast import estimate_noise, subsample_pixels, widen_contrast_range

Plane = NDArray[np.float32]

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8
"""The intensities that become 0 and 1."""
# standard deviations of the pixel noise: a range that holds nothing else is not stretched
_MIN_RANGE_SIGMAS = 10.0
_MIN_RANGE_FRACTION = 0.25  # of the range of the stack: so that dim frames stay dim
# A field of view in padding: constant pixels, at least this share of the plane at its edge ...
_MIN_PADDING_FRACTION = 0.01
_MIN_FIELD_FRACTION = 0.4  # ... around one piece that is at least so much of it
_LINE_SIGMAS = 8.0  # a line that differs so much from its neighbours is a defect of the camera
_MIN_LINE_FRACTION = 0.1  # and by so much of the range


@dataclass(frozen=True, eq=False)
class PreparedPlane:
    """A plane as the detector takes it.

    Parameters
    ----------
    pixels
        (H, W) intensities in 0..1.
    field
        (H, W) pixels that were recorded; None: all.
    noise
        Standard deviation of the noise of a pixel.
    """

    pixels: Plane
    field: NDArray[np.bool_] | None = None
    noise: float = 0.0

    @classmethod
    def of(
        cls, grey: Plane, field: NDArray[np.bool_] | None, low: float, high: float
    ) -> PreparedPlane:
        """A plane with the intensities between `low` and `high` stretched to 0..1."""
        inner = grey if field is None else grey[_find_inner_part(field)]
        # smooth noise shows itself only at a distance
        noise = max(estimate_noise(inner, lag=lag) for lag in (1, 3))
        return cls(scale_intensities(grey, low, high), field, noise / (high - low))


def scale_intensities(grey: NDArray[Any], low: float, high: float) -> Plane:
    """From `low`..`high` to 0..1, clipped."""
    scaled = (np.asarray(grey, np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-6))
    return np.asarray(np.clip(scaled, 0, 1, out=scaled))


@dataclass(frozen=True)
class StackRange:
    """The intensities that become 0 and 1 if all planes of a stack are shown alike."""

    low: float
    high: float

    @classmethod
    def of(cls, planes: Sequence[NDArray[Any]]) -> StackRange:
        """Of some (H, W) planes, padding and dead lines left out."""
        cleaned = [_clean_plane(np.asarray(plane, np.float32)) for plane in planes]
        pixels = [
            subsample_pixels(grey if field is None else grey[field][:, None])
            for grey, field in cleaned
        ]
        low, high = np.percentile(
            np.concatenate([each.ravel() for each in pixels]), [LOW_PERCENTILE, HIGH_PERCENTILE]
        )
        return cls(*_widen([grey for grey, _ in cleaned], float(low), float(high)))


def prepare_plane(
    plane: NDArray[Any], stack: StackRange | None = None, *, alike: bool = False
) -> PreparedPlane | None:
    """A plane as the detector takes it; None if it shows nothing at all.

    Padding around the field of view gets the intensity of its rim, and dead lines those of their
    neighbours, so that neither is an edge. The contrast is stretched, but not if the plane holds
    nothing but noise, or is empty beside the others.

    Parameters
    ----------
    plane
        (H, W) intensities, finite.
    stack
        Of the stack that the plane is from.
    alike
        Whether the plane is shown as all others of the stack: for volumes.
    """
    grey = np.asarray(plane, np.float32)
    if not grey.size or grey.min() == grey.max():
        return None
    grey, field = _clean_plane(grey)
    if stack is not None and alike:
        return PreparedPlane.of(grey, field, stack.low, stack.high)
    recorded = subsample_pixels(grey if field is None else grey[field][:, None])
    low, high = np.percentile(recorded, [LOW_PERCENTILE, HIGH_PERCENTILE])
    low, high = _widen([grey], float(low), float(high))
    if stack is not None:
        high = max(high, low + _MIN_RANGE_FRACTION * (stack.high - stack.low))
    return PreparedPlane.of(grey, field, low, high)


def _clean_plane(grey: Plane) -> tuple[Plane, NDArray[np.bool_] | None]:
    """The plane without padding and dead lines, and the field of view in padding."""
    field = _find_field(grey)
    if field is not None:
        grey = np.where(field, grey, _measure_rim(grey, field))
    return _mend_lines(grey), field


def _widen(planes: Sequence[Plane], low: float, high: float) -> tuple[float, float]:
    """A range of intensities that sparse objects are in, and that noise does not fill."""
    low, high = widen_contrast_range(planes, low, high)
    noise = float(np.median([estimate_noise(plane) for plane in planes]))
    return low, max(high, low + max(_MIN_RANGE_SIGMAS * noise, 1e-6))


def _find_field(grey: Plane) -> NDArray[np.bool_] | None:
    """The pixels of a field of view in constant padding; None if there is no padding.

    An image without any background, or with many objects on a background of exactly 0, has none:
    what is not padding must be one piece that is a large part of the plane.
    """
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    values, counts = np.unique(edge, return_counts=True)
    value = values[counts.argmax()]
    constant = grey == value
    if constant.sum() < _MIN_PADDING_FRACTION * grey.size or min(grey.shape) < 8:
        return None
    padding = ndi.binary_opening(np.pad(constant, 3, mode="edge"), np.ones((5, 5), bool))[
        3:-3, 3:-3
    ]
    pieces, _ = ndi.label(padding)
    at_edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    padding = np.isin(pieces, at_edge[at_edge > 0])
    if padding.sum() < _MIN_PADDING_FRACTION * grey.size:
        return None
    pieces = ndi.label(~padding)[0]
    largest = int(np.bincount(pieces.ravel())[1:].max(initial=0))
    if largest < max(_MIN_FIELD_FRACTION * grey.size, 0.95 * np.count_nonzero(~padding)):
        return None
    field = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    return field if np.ptp(grey[field]) > 0 else None


def _find_inner_part(field: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The middle of a field of view, without its padding."""
    rows, columns = (np.flatnonzero(field.any(axis)) for axis in (1, 0))
    low, high = (slice(len(each) // 4, 3 * len(each) // 4 + 1) for each in (rows, columns))
    return slice(*rows[low][[0, -1]]), slice(*columns[high][[0, -1]])


def _measure_rim(grey: Plane, field: NDArray[np.bool_]) -> float:
    """The typical intensity of the field of view beside its padding."""
    inner = ndi.binary_erosion(field, iterations=2, border_value=1)
    rim = inner & ~ndi.binary_erosion(inner, iterations=6, border_value=1)
    return float(np.median(grey[rim] if rim.any() else grey[field]))


def _mend_lines(grey: Plane) -> Plane:
    """Rows and columns that differ from both neighbours over their whole length, interpolated."""
    if min(grey.shape) < 8:
        return grey
    low, high = np.percentile(subsample_pixels(grey), [LOW_PERCENTILE, HIGH_PERCENTILE])
    for axis in (0, 1):
        lines = grey if axis == 0 else grey.T
        level = np.median(lines, axis=1)
        usual = ndi.median_filter(level, 5, mode="nearest")
        off = np.abs(level - usual)
        limit = max(
            _LINE_SIGMAS * 1.4826 * float(np.median(off)), _MIN_LINE_FRACTION * float(high - low)
        )
        bad = off > limit
        if bad.any() and bad.sum() <= 0.1 * len(bad):
            mended = np.array(lines)
            good = np.flatnonzero(~bad)
            for row in np.flatnonzero(bad):
                above = good[good < row][-1:] if (good < row).any() else good[:1]
                below = good[good > row][:1] if (good > row).any() else good[-1:]
                mended[row] = (lines[above[0]] + lines[below[0]]) / 2
            grey = mended if axis == 0 else mended.T
    return np.ascontiguousarray(grey)

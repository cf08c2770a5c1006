"""The order of DICOM frames: by position along the normal of their planes, then by time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.io.readers.dicom.frames import (
    TIME_KEYS,
    DicomFrame,
    compute_normal,
    name_frames,
)

_MAX_SPACING_DEVIATION = 0.01  # of a slice distance, relative to the median distance
_MAX_SIDEWAYS_PX = 0.5  # that a slice may be away from the line of the others


@dataclass(frozen=True)
class FrameOrder:
    """The order of the frames of a series.

    `frames` are sorted and flattened from `shape`, whose dimensions are `axes`: "z", "t" or "tz".
    `step_mm` is the distance of slices; None for a single position.
    """

    frames: tuple[DicomFrame, ...]
    axes: str
    shape: tuple[int, ...]
    step_mm: float | None


def sort_frames(frames: Sequence[DicomFrame], source: Path) -> FrameOrder:
    """Sort frames by position, those at one position by time.

    Raises
    ------
    FileError
        If a position is missing, frames lie beside each other, or the frames at one position have
        no order in time.
    """
    by_position = _group_by_position(frames, source)
    positions = sorted(by_position)
    counts = {len(group) for group in by_position.values()}
    if len(counts) > 1:
        fewest = min(by_position.values(), key=len)
        raise FileError(
            f"{source}: positions in the patient have {sorted(counts)} slices: expected the same "
            f"number at each; a slice may be missing beside {name_frames(fewest)}"
        )
    (n_times,) = counts
    columns = _sort_times([by_position[each] for each in positions], source)
    ordered = tuple(column[time] for time in range(n_times) for column in columns)
    if len(positions) == 1:
        return FrameOrder(ordered, "t", (n_times,), None)
    step_mm = _compute_slice_distance(positions, source)
    _check_line([column[0] for column in columns], positions, source)
    if n_times == 1:
        return FrameOrder(ordered, "z", (len(positions),), step_mm)
    return FrameOrder(ordered, "tz", (n_times, len(positions)), step_mm)


def _group_by_position(
    frames: Sequence[DicomFrame], source: Path
) -> Mapping[float, list[DicomFrame]]:
    """The frames by their position in mm along the normal of the planes."""
    normal = compute_normal(frames[0].orientation)
    by_position: dict[float, list[DicomFrame]] = defaultdict(list)
    for frame in frames:
        if frame.position_mm is None:
            raise FileError(
                f"{source}: {frame.label} has no position (ImagePositionPatient): expected one "
                "series of a scanner"
            )
        by_position[round(float(np.dot(normal, frame.position_mm)), 4)].append(frame)
    return by_position


def _sort_times(
    columns: Sequence[Sequence[DicomFrame]], source: Path
) -> list[Sequence[DicomFrame]]:
    """Sort the frames at each position by the first element that orders all of them."""
    if len(columns[0]) == 1:
        return list(columns)
    for name in TIME_KEYS:
        values = [
            [_get_sort_key(frame.times[name]) for frame in column if name in frame.times]
            for column in columns
        ]
        if any(len(set(each)) != len(columns[0]) for each in values):
            continue
        if name.startswith("TemporalPosition") and len(set(map(frozenset, values))) > 1:
            raise FileError(
                f"{source}: {name} differs between positions in the patient: expected the same "
                "times at each; a slice may be missing"
            )
        return [
            [column[number] for number in sorted(range(len(keys)), key=keys.__getitem__)]
            for column, keys in zip(columns, values, strict=True)
        ]
    raise FileError(
        f"{source}: {name_frames(columns[0])} are at one position, and neither times nor "
        "InstanceNumber tell their order: expected TemporalPositionIdentifier or different "
        "instance numbers; export the series again"
    )


def _get_sort_key(value: object) -> tuple[float, str]:
    """Numbers by value, dates and times by their text."""
    return (float(value), "") if isinstance(value, int | float) else (0.0, str(value))


def _compute_slice_distance(positions_mm: Sequence[float], source: Path) -> float:
    """The mean distance of slices in mm; raises FileError if one distance differs."""
    steps = np.diff(positions_mm)
    step = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - step) > _MAX_SPACING_DEVIATION * step)
    if wrong.size:
        first = int(wrong[0])
        raise FileError(
            f"{source}: slices {first} and {first + 1} are {steps[first]:.4g} mm apart, most "
            f"{step:.4g} mm: a slice is missing, or there are several scans"
        )
    return float(np.mean(steps))


def _check_line(frames: Sequence[DicomFrame], positions_mm: Sequence[float], source: Path) -> None:
    """Raise FileError if a slice lies beside the line through the first and the last one.

    The line may be oblique, as with a tilted gantry.
    """
    corners = np.array([frame.position_mm for frame in frames], dtype=float)
    fraction = (np.asarray(positions_mm) - positions_mm[0]) / (positions_mm[-1] - positions_mm[0])
    expected = corners[0] + fraction[:, None] * (corners[-1] - corners[0])
    deviation = np.linalg.norm(corners - expected, axis=1)
    allowed_mm = _MAX_SIDEWAYS_PX * min(frames[0].pixel_mm or (1.0, 1.0))
    worst = int(np.argmax(deviation))
    if deviation[worst] > allowed_mm:
        raise FileError(
            f"{source}: {frames[worst].label} lies {deviation[worst]:.4g} mm beside the line of "
            "the other slices: expected one scan; put the others into their own folder"
        )

"""The table of objects: position, size, shape and intensity on each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.stack import Video
from napari_sam2.core.track import Track
from napari_sam2.measurement.columns import get_object_columns, make_table
from napari_sam2.measurement.features.colocalisation import (
    COEFFICIENTS,
    compute_colocalisation,
    list_channel_pairs,
)
from napari_sam2.measurement.features.cytoplasm import (
    CYTOPLASM_COLUMNS,
    find_cytoplasm_pixels,
    measure_cytoplasm,
)
from napari_sam2.measurement.features.intensity import (
    count_saturated_pixels,
    measure_extra_intensities,
    measure_intensities,
)
from napari_sam2.measurement.features.options import MeasurementOptions
from napari_sam2.measurement.features.regions import LabelRegions
from napari_sam2.measurement.features.shape import SHAPE_COLUMNS, measure_shapes
from napari_sam2.measurement.features.spots import measure_plane_spots
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.measurement.track_status import TrackStatus, TrackStatuses


def measure_objects(
    video: Video,
    planes: Any,
    *,
    statuses: TrackStatuses | None = None,
    tracks: Sequence[Track] = (),
    options: MeasurementOptions | None = None,
) -> pd.DataFrame:
    """The table ``objects.csv``: a row for each frame and track that has pixels on it.

    Parameters
    ----------
    video
        The video of the labels. Intensities are measured on the raw pixels of all its channels.
    planes
        A callable that returns the (H, W) label plane of a frame, or (frames, H, W) labels; see
        `LabelPlanes.of`. One frame is in memory at a time.
    statuses
        Score and presence by (track, frame); these cells are empty if unknown. A status without
        pixels has no row.
    tracks
        Tracks with categories (``PromptLog.tracks``).
    options
        What is measured beyond the fixed columns. The columns are always the same; those that are
        not measured are empty.

    Returns
    -------
    pd.DataFrame
        Sorted by frame, then track. `t` and `z` are the indices along these axes, empty if the
        stack does not have them. `y` and `x` are the centroid in pixels, from the centre of the
        first pixel, `y_um` and `x_um` the same in µm. A column that needs an unknown spacing is
        empty. `time_s`, the last column, is the time of the frame; the table has it only if the
        frames come unevenly. For the other columns see the modules `intensity`, `shape`,
        `cytoplasm`, `spots` and `colocalisation`.

    Raises
    ------
    LabelsError
        If the labels do not have the shape of the video, or are not whole numbers from 0.
    IntensityError
        If a channel has pixels that are not numbers.
    """
    source = LabelPlanes.of(planes, video.shape)
    inputs = _MeasurementInputs(statuses or {}, tracks, options or MeasurementOptions())
    parts = (_measure_frame(video, frame, source[frame], inputs) for frame in range(len(video)))
    return make_table(_get_columns(video), parts)


def measure_frame_objects(
    video: Video,
    frame: int,
    plane: np.ndarray,
    *,
    statuses: TrackStatuses | None = None,
    tracks: Sequence[Track] = (),
    options: MeasurementOptions | None = None,
) -> pd.DataFrame:
    """The rows of `measure_objects` for one frame, from its (H, W) label plane."""
    checked = LabelPlanes.of(lambda _: plane, video.shape)[frame]
    inputs = _MeasurementInputs(statuses or {}, tracks, options or MeasurementOptions())
    part = _measure_frame(video, frame, checked, inputs)
    return make_table(_get_columns(video), [part])


def _get_columns(video: Video) -> dict[str, str]:
    return get_object_columns(count_channels(video), timed=bool(video.times_s))


def count_channels(video: Video) -> int:
    """The number of channels of the stack of a video."""
    return video.stack.sizes.get("c", 1)


@dataclass(frozen=True, eq=False)
class _MeasurementInputs:
    """Everything that rows depend on, except the pixels."""

    statuses: TrackStatuses
    tracks: Sequence[Track]
    options: MeasurementOptions


def _measure_frame(
    video: Video, frame: int, plane: np.ndarray, inputs: _MeasurementInputs
) -> dict[str, np.ndarray]:
    regions = LabelRegions.of(plane)
    columns = {
        **_make_identity_columns(video, frame, regions, inputs.tracks),
        **_make_geometry_columns(video, regions),
        **_make_status_columns(frame, regions, inputs.statuses),
    }
    if video.times_s:
        columns["time_s"] = np.full(len(regions), video.times_s[frame])
    if not len(regions):
        return columns
    options = inputs.options
    if options.shape:
        columns |= measure_shapes(regions, video.spacing)
    else:
        columns |= dict.fromkeys(SHAPE_COLUMNS, np.full(len(regions), None, dtype=object))
    n_channels = count_channels(video)
    planes = [video.read_raw_plane(frame, channel) for channel in range(n_channels)]
    cytoplasm = _find_cytoplasm(video, frame, regions, options)
    for channel, pixels in enumerate(planes):
        level = options.get_saturation_level(channel, pixels.dtype, video.stack.max_value)
        measured = _measure_channel(regions, pixels, cytoplasm, level, options)
        columns |= {f"{name}_c{channel}": values for name, values in measured.items()}
    if n_channels > 1 and options.colocalisation:
        columns |= compute_colocalisation(regions, planes)
    else:
        unknown = np.full(len(regions), np.nan)
        for pair in list_channel_pairs(n_channels):
            columns |= {f"{coefficient}_{pair}": unknown for coefficient in COEFFICIENTS}
    return columns


def _find_cytoplasm(
    video: Video, frame: int, regions: LabelRegions, options: MeasurementOptions
) -> list[np.ndarray] | None:
    """The pixels of the cytoplasm of each object; None if it is not measured."""
    cells = None if options.cells is None else LabelPlanes.of(options.cells, video.shape)[frame]
    if cells is None and options.cytoplasm_px is None:
        return None
    return find_cytoplasm_pixels(regions, reach_px=options.cytoplasm_px or 0, cells=cells)


def _measure_channel(
    regions: LabelRegions,
    pixels: np.ndarray,
    cytoplasm_pixels: list[np.ndarray] | None,
    saturation_level: float | None,
    options: MeasurementOptions,
) -> dict[str, np.ndarray]:
    """All columns of one channel, without their endings."""
    columns = measure_intensities(regions, pixels)
    columns |= measure_extra_intensities(regions, pixels, columns["sum"])
    unknown = np.full(len(regions), np.nan)
    if cytoplasm_pixels is None:
        columns |= dict.fromkeys(CYTOPLASM_COLUMNS, unknown)
    else:
        columns |= measure_cytoplasm(regions, pixels, cytoplasm_pixels, columns["mean"])
    columns["spots"], columns["spots_sum"] = (
        (unknown, unknown)
        if options.spots is None
        else measure_plane_spots(regions, pixels, options.spots)
    )
    saturated = count_saturated_pixels(regions, pixels, saturation_level)
    columns["saturated_px"] = saturated
    columns["saturated"] = np.array(
        [None if np.isnan(count) else count > 0 for count in saturated], dtype=object
    )
    return columns


def _make_identity_columns(
    video: Video, frame: int, regions: LabelRegions, tracks: Sequence[Track]
) -> dict[str, np.ndarray]:
    count = regions.ids.size
    categories = {track.id: track.category for track in tracks}
    position = video.get_axis_indices(frame)
    return {
        "track": regions.ids.astype(np.int64),
        "frame": np.full(count, frame),
        "t": np.full(count, position.get("t", np.nan), dtype=np.float64),
        "z": np.full(count, position.get("z", np.nan), dtype=np.float64),
        "category": np.array(
            [categories.get(int(track), "") for track in regions.ids], dtype=object
        ),
    }


def _make_geometry_columns(video: Video, regions: LabelRegions) -> dict[str, np.ndarray]:
    spacing = video.spacing
    return {
        "area_px": regions.area_px,
        "area_um2": _scale(regions.area_px, spacing.pixel_um2),
        "y": regions.y,
        "x": regions.x,
        "y_um": _scale(regions.y, spacing.y_um),
        "x_um": _scale(regions.x, spacing.x_um),
    }


def _make_status_columns(
    frame: int, regions: LabelRegions, statuses: TrackStatuses
) -> dict[str, np.ndarray]:
    by_object: list[TrackStatus | None] = [
        statuses.get((int(track), frame)) for track in regions.ids
    ]
    scores = [
        np.nan if status is None or status.score is None else status.score for status in by_object
    ]
    presence = [None if status is None else status.presence.value for status in by_object]
    return {
        "score": np.array(scores, dtype=np.float64),
        "presence": np.array(presence, dtype=object),
    }


def _scale(values: np.ndarray, unit: float | None) -> np.ndarray:
    """The values in µm or µm²; NaN if the size of a pixel is unknown."""
    return values * (np.nan if unit is None else unit)

"""One row per object and frame: where it is, how large, how bright, in pixels and in µm."""

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
from napari_sam2.measurement.features.cytoplasm import CYTOPLASM_COLUMNS as AROUND
from napari_sam2.measurement.features.cytoplasm import find_cytoplasm_pixels, measure_cytoplasm
from napari_sam2.measurement.features.intensity import (
    count_saturated_pixels,
    measure_extra_intensities,
    measure_intensities,
)
from napari_sam2.measurement.features.options import MeasurementOptions
from napari_sam2.measurement.features.regions import LabelRegions
from napari_sam2.measurement.features.shape import SHAPE_COLUMNS as SHAPE
from napari_sam2.measurement.features.shape import measure_shapes
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
    """The table ``objects.csv``: a row for each track and frame on which the track has pixels, by frame, then track.

    Parameters
    ----------
    video
        What the labels belong to. Intensities are of the raw pixels of all its channels, not only
        the one walked.
    planes
        A callable that gives the (H, W) label plane of a frame, or (frames, H, W) labels; see
        `LabelPlanes.of`. One frame is in memory at a time.
    statuses
        Score and presence by (track, frame); these cells are empty where nothing is known. No fact
        makes a row.
    tracks
        Tracks that have a category (``PromptLog.tracks``).
    options
        What is measured beyond the fixed columns; all of it where not given. The columns are always
        the same, and empty where something is not measured.

    `t` and `z` are the indices along these axes, empty where the stack has none; `y`, `x` the
    centroid, from the centre of the first pixel, and `y_um`, `x_um` the same in µm. What needs a
    spacing that is not known is empty. For the intensities see `intensity.intensities` and
    `more_intensities`, for the rest `shape`, `spots`, `neighbourhood` and `colocalisation`.

    Raises
    ------
    LabelsError
        Labels of another shape than the video, or that are not whole numbers from 0.
    IntensityError
        A channel with pixels that are not numbers.
    """
    source = LabelPlanes.of(planes, video.shape)
    asked = _MeasurementInputs(statuses or {}, tracks, options or MeasurementOptions())
    parts = (_measure_frame(video, frame, source[frame], asked) for frame in range(len(video)))
    return make_table(get_object_columns(count_channels(video)), parts)


def measure_frame_objects(
    video: Video,
    frame: int,
    plane: np.ndarray,
    *,
    statuses: TrackStatuses | None = None,
    tracks: Sequence[Track] = (),
    options: MeasurementOptions | None = None,
) -> pd.DataFrame:
    """The rows of `measure_objects` of one frame, from its (H, W) label plane: what changes when one plane does."""
    checked = LabelPlanes.of(lambda _: plane, video.shape)[frame]
    return make_table(
        get_object_columns(count_channels(video)),
        [
            _measure_frame(
                video,
                frame,
                checked,
                _MeasurementInputs(statuses or {}, tracks, options or MeasurementOptions()),
            )
        ],
    )


def count_channels(video: Video) -> int:
    """How many channels the stack of a video has."""
    return video.stack.sizes.get("c", 1)


@dataclass(frozen=True, eq=False)
class _MeasurementInputs:
    """What is known beside the pixels, and what is to be measured."""

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
    if not len(regions):
        return columns
    empty = np.full(len(regions), None, dtype=object)
    columns |= (
        measure_shapes(regions, video.spacing)
        if inputs.options.shape
        else dict.fromkeys(SHAPE, empty)
    )
    channels = count_channels(video)
    pixels = [video.read_raw_plane(frame, channel) for channel in range(channels)]
    around = _find_cytoplasm(video, frame, regions, inputs.options)
    for channel, each in enumerate(pixels):
        columns |= {
            f"{name}_c{channel}": values
            for name, values in _measure_channel(
                regions, each, around, channel, inputs.options
            ).items()
        }
    if channels > 1 and inputs.options.colocalisation:
        columns |= compute_colocalisation(regions, pixels)
    else:
        unmeasured = np.full(len(regions), np.nan)
        columns |= {
            f"{name}_{pair}": unmeasured
            for pair in list_channel_pairs(channels)
            for name in COEFFICIENTS
        }
    return columns


def _find_cytoplasm(
    video: Video, frame: int, regions: LabelRegions, options: MeasurementOptions
) -> list[np.ndarray] | None:
    """Per object the pixels of its cytoplasm; None where nobody asked."""
    cells = None if options.cells is None else LabelPlanes.of(options.cells, video.shape)[frame]
    if cells is None and options.cytoplasm_px is None:
        return None
    return find_cytoplasm_pixels(regions, reach_px=options.cytoplasm_px or 0, cells=cells)


def _measure_channel(
    regions: LabelRegions,
    pixels: np.ndarray,
    cytoplasm_pixels: list[np.ndarray] | None,
    channel: int,
    options: MeasurementOptions,
) -> dict[str, np.ndarray]:
    """All columns of one channel, without their endings."""
    found = measure_intensities(regions, pixels)
    found |= measure_extra_intensities(regions, pixels, found["sum"])
    nothing = np.full(len(regions), np.nan)
    found |= (
        dict.fromkeys(AROUND, nothing)
        if cytoplasm_pixels is None
        else measure_cytoplasm(regions, pixels, cytoplasm_pixels, found["mean"])
    )
    count, total = (
        (nothing, nothing)
        if options.spots is None
        else measure_plane_spots(regions, pixels, options.spots)
    )
    full = count_saturated_pixels(
        regions, pixels, options.get_saturation_level(channel, pixels.dtype)
    )
    flags = np.array([None if np.isnan(value) else value > 0 for value in full], dtype=object)
    return {**found, "spots": count, "spots_sum": total, "saturated_px": full, "saturated": flags}


def _make_identity_columns(
    video: Video, frame: int, regions: LabelRegions, tracks: Sequence[Track]
) -> dict[str, np.ndarray]:
    count = regions.ids.size
    categories = {track.id: track.category for track in tracks}
    position = video.axis_indices(frame)
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
    known: list[TrackStatus | None] = [statuses.get((int(track), frame)) for track in regions.ids]
    scores = [np.nan if fact is None or fact.score is None else fact.score for fact in known]
    presence = [None if fact is None else fact.presence.value for fact in known]
    return {
        "score": np.array(scores, dtype=np.float64),
        "presence": np.array(presence, dtype=object),
    }


def _scale(values: np.ndarray, unit: float | None) -> np.ndarray:
    return values * (np.nan if unit is None else unit)

"""One row per object and frame: where it is, how large, how bright, in pixels and in µm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.track import Track
from napari_sam2.core.video import Video
from napari_sam2.measurement.columns import object_columns, table
from napari_sam2.measurement.features.colocalisation import COEFFICIENTS, colocalisation, pair_names
from napari_sam2.measurement.features.cytoplasm import COLUMNS as AROUND
from napari_sam2.measurement.features.cytoplasm import cytoplasm_columns, cytoplasms
from napari_sam2.measurement.features.intensity import intensities, more_intensities, saturated
from napari_sam2.measurement.features.options import Scope
from napari_sam2.measurement.features.regions import Regions
from napari_sam2.measurement.features.shape import COLUMNS as SHAPE
from napari_sam2.measurement.features.shape import shapes
from napari_sam2.measurement.features.spots import plane_spots
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.measurement.track_status import Fact, Facts


def objects(
    video: Video,
    planes: Any,
    *,
    facts: Facts | None = None,
    tracks: Sequence[Track] = (),
    scope: Scope | None = None,
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
    facts
        Score and presence by (track, frame); these cells are empty where nothing is known. No fact
        makes a row.
    tracks
        Tracks that have a category (``PromptLog.tracks``).
    scope
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
    asked = _Asked(facts or {}, tracks, scope or Scope())
    parts = (_columns(video, frame, source[frame], asked) for frame in range(len(video)))
    return table(object_columns(channel_count(video)), parts)


def frame_objects(
    video: Video,
    frame: int,
    plane: np.ndarray,
    *,
    facts: Facts | None = None,
    tracks: Sequence[Track] = (),
    scope: Scope | None = None,
) -> pd.DataFrame:
    """The rows of `objects` of one frame, from its (H, W) label plane: what changes when one plane does."""
    checked = LabelPlanes.of(lambda _: plane, video.shape)[frame]
    return table(
        object_columns(channel_count(video)),
        [_columns(video, frame, checked, _Asked(facts or {}, tracks, scope or Scope()))],
    )


def channel_count(video: Video) -> int:
    """How many channels the stack of a video has."""
    return video.stack.sizes.get("c", 1)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is known beside the pixels, and what is to be measured."""

    facts: Facts
    tracks: Sequence[Track]
    scope: Scope


def _columns(video: Video, frame: int, plane: np.ndarray, asked: _Asked) -> dict[str, np.ndarray]:
    regions = Regions.of(plane)
    columns = {
        **_identity(video, frame, regions, asked.tracks),
        **_geometry(video, regions),
        **_known(frame, regions, asked.facts),
    }
    if not len(regions):
        return columns
    empty = np.full(len(regions), None, dtype=object)
    columns |= shapes(regions, video.spacing) if asked.scope.shape else dict.fromkeys(SHAPE, empty)
    channels = channel_count(video)
    pixels = [video.raw(frame, channel) for channel in range(channels)]
    around = _around(video, frame, regions, asked.scope)
    for channel, each in enumerate(pixels):
        columns |= {
            f"{name}_c{channel}": values
            for name, values in _intensities(regions, each, around, channel, asked.scope).items()
        }
    if channels > 1 and asked.scope.colocalisation:
        columns |= colocalisation(regions, pixels)
    else:
        unmeasured = np.full(len(regions), np.nan)
        columns |= {
            f"{name}_{pair}": unmeasured for pair in pair_names(channels) for name in COEFFICIENTS
        }
    return columns


def _around(video: Video, frame: int, regions: Regions, scope: Scope) -> list[np.ndarray] | None:
    """Per object the pixels of its cytoplasm; None where nobody asked."""
    cells = None if scope.cells is None else LabelPlanes.of(scope.cells, video.shape)[frame]
    if cells is None and scope.cytoplasm_px is None:
        return None
    return cytoplasms(regions, reach_px=scope.cytoplasm_px or 0, cells=cells)


def _intensities(
    regions: Regions,
    pixels: np.ndarray,
    around: list[np.ndarray] | None,
    channel: int,
    scope: Scope,
) -> dict[str, np.ndarray]:
    """All columns of one channel, without their endings."""
    found = intensities(regions, pixels)
    found |= more_intensities(regions, pixels, found["sum"])
    nothing = np.full(len(regions), np.nan)
    found |= (
        dict.fromkeys(AROUND, nothing)
        if around is None
        else cytoplasm_columns(regions, pixels, around, found["mean"])
    )
    count, total = (
        (nothing, nothing) if scope.puncta is None else plane_spots(regions, pixels, scope.puncta)
    )
    full = saturated(regions, pixels, scope.saturated_from(channel, pixels.dtype))
    flags = np.array([None if np.isnan(value) else value > 0 for value in full], dtype=object)
    return {**found, "spots": count, "spots_sum": total, "saturated_px": full, "saturated": flags}


def _identity(
    video: Video, frame: int, regions: Regions, tracks: Sequence[Track]
) -> dict[str, np.ndarray]:
    count = regions.ids.size
    categories = {track.id: track.category for track in tracks}
    position = video.position(frame)
    return {
        "track": regions.ids.astype(np.int64),
        "frame": np.full(count, frame),
        "t": np.full(count, position.get("t", np.nan), dtype=np.float64),
        "z": np.full(count, position.get("z", np.nan), dtype=np.float64),
        "category": np.array(
            [categories.get(int(track), "") for track in regions.ids], dtype=object
        ),
    }


def _geometry(video: Video, regions: Regions) -> dict[str, np.ndarray]:
    spacing = video.spacing
    return {
        "area_px": regions.area_px,
        "area_um2": _scaled(regions.area_px, spacing.pixel_um2),
        "y": regions.y,
        "x": regions.x,
        "y_um": _scaled(regions.y, spacing.y_um),
        "x_um": _scaled(regions.x, spacing.x_um),
    }


def _known(frame: int, regions: Regions, facts: Facts) -> dict[str, np.ndarray]:
    known: list[Fact | None] = [facts.get((int(track), frame)) for track in regions.ids]
    scores = [np.nan if fact is None or fact.score is None else fact.score for fact in known]
    presence = [None if fact is None else fact.presence.value for fact in known]
    return {
        "score": np.array(scores, dtype=np.float64),
        "presence": np.array(presence, dtype=object),
    }


def _scaled(values: np.ndarray, unit: float | None) -> np.ndarray:
    return values * (np.nan if unit is None else unit)

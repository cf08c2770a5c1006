"""Tables of label planes: of a session, or of labels that exist already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from napari_sam2.core.errors import AxesError, LabelsError
from napari_sam2.core.stack import Stack, Video
from napari_sam2.core.track import Track
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.io.output_folder import check_output
from napari_sam2.io.tables import write_tables
from napari_sam2.measurement.counts import count_objects
from napari_sam2.measurement.features.objects import measure_objects
from napari_sam2.measurement.features.options import MeasurementOptions
from napari_sam2.measurement.features.track_spots import measure_track_spots
from napari_sam2.measurement.features.tracks import measure_tracks
from napari_sam2.measurement.report.overview import draw_overview
from napari_sam2.measurement.track_status import TrackStatus, TrackStatuses
from napari_sam2.propagation.results import ResultSource


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables ``objects.csv``, ``tracks.csv`` and ``counts.csv`` as DataFrames."""

    objects: pd.DataFrame
    tracks: pd.DataFrame
    counts: pd.DataFrame


def compute_tables(
    video: Video,
    label_planes: Any,
    *,
    statuses: TrackStatuses | None = None,
    known_tracks: Sequence[Track] = (),
    options: MeasurementOptions | None = None,
) -> Tables:
    """Measure the label planes of a video; see `measure_objects` for the parameters."""
    rows = measure_objects(
        video, label_planes, statuses=statuses, tracks=known_tracks, options=options
    )
    spots = (
        measure_track_spots(video, label_planes, rows, options=options)
        if video.along == "z"
        else None
    )
    return Tables(
        rows,
        measure_tracks(rows, video, known_tracks, spots=spots),
        count_objects(rows, len(video)),
    )


def compute_session_tables(session: ResultSource) -> Tables:
    """The tables of everything a session has propagated."""
    statuses = {
        key: TrackStatus(record.iou, record.presence)
        for key, record in session.get_records().items()
    }
    return compute_tables(
        session.video,
        session.compute_label_plane,
        statuses=statuses,
        known_tracks=session.log.tracks,
    )


def open_labels_for(path_or_array: Any, video: Video) -> Stack:
    """Open the labels of a video.

    A file that does not name its axes is taken to have those of the video.

    Raises
    ------
    LabelsError
        Such a file has another shape than the video.
    """
    try:
        return open_labels(path_or_array)
    except AxesError:
        found = open_labels(path_or_array, axes=video.axes)
        if found.data.shape != video.shape:
            raise LabelsError(
                f"labels {path_or_array} of shape {found.data.shape!r}: expected "
                f"{video.shape!r}, the frames, height and width of the video"
            ) from None
        return found


def measure(
    labels: Any,
    image: Any,
    *,
    along: str | None = None,
    channel: int | None = None,
    at: dict[str, int] | None = None,
    options: MeasurementOptions | None = None,
    out: str | Path | None = None,
) -> Tables:
    """Measure every object of a label stack in the raw pixels of an image.

    Parameters
    ----------
    labels
        Labels of the frames of the image, (frames, H, W) or (H, W): a path, an array or a
        Stack.
    image
        A path, an array or a Stack.
    along, channel, at
        The axis of the frames, the channel, and indices of other axes; see `Stack.as_video`.
    options
        What is measured beyond the fixed columns; see `MeasurementOptions`.
    out
        Folder that the tables and an overview are written to.

    Raises
    ------
    LabelsError
        Labels of another shape than the image, or that are not whole numbers.
    """
    stack = image if isinstance(image, Stack) else open_stack(image)
    video = Video.of(stack, along=along, channel=channel, at=at)
    found = labels if isinstance(labels, Stack) else open_labels_for(labels, video)
    shape = tuple(found.data.shape) if found.data.ndim == 3 else (1, *found.data.shape)
    if shape != video.shape:
        raise LabelsError(
            f"labels of shape {shape!r}: expected {video.shape!r}, the frames, height and width "
            f"of the image along {video.along}"
        )
    planes = found.data if found.data.ndim == 3 else found.data[None]
    made = compute_tables(video, planes, options=options)
    if out is not None:
        folder = Path(out)
        check_output(folder)
        write_tables(folder, made.objects, made.tracks, made.counts)
        draw_overview(video, planes, made.objects, made.counts, folder / "overview.png")
    return made

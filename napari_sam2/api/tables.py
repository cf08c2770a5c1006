"""Tables of label planes: of a session, or of labels that exist already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import AxesError, IntensityError, LabelsError
from napari_sam2.core.stack import Stack, Video
from napari_sam2.core.track import Track
from napari_sam2.io.geometry import align_labels
from napari_sam2.io.open import number_mask, open_labels, open_stack
from napari_sam2.io.output_folder import check_output
from napari_sam2.io.tables import write_tables
from napari_sam2.io.writers.label_spec import LabelSpec
from napari_sam2.io.writers.sinks import open_sink
from napari_sam2.measurement.counts import count_objects
from napari_sam2.measurement.features.objects import measure_objects
from napari_sam2.measurement.features.options import MeasurementOptions
from napari_sam2.measurement.features.track_spots import measure_track_spots
from napari_sam2.measurement.features.tracks import measure_tracks
from napari_sam2.measurement.label_faults import LabelFaults
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.measurement.report.overview import draw_overview
from napari_sam2.measurement.track_status import TrackStatus, TrackStatuses
from napari_sam2.propagation.results import ResultSource
from napari_sam2.tracking.relabel import Relabeling, relabel_planes


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables ``objects.csv``, ``tracks.csv`` and ``counts.csv`` as DataFrames, and notes."""

    objects: pd.DataFrame
    tracks: pd.DataFrame
    counts: pd.DataFrame
    notes: tuple[str, ...] = ()


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

    A file that does not name its axes is taken to have those of the video. Labels that state where
    they lie in space are matched to the image there, see `align_labels`.

    Raises
    ------
    LabelsError
        Such a file has another shape than the video, or the labels lie elsewhere.
    """
    try:
        return number_mask(align_labels(open_labels(path_or_array), video.stack))
    except AxesError:
        found = number_mask(open_labels(path_or_array, axes=video.axes))
        if found.data.shape != video.shape:
            raise LabelsError(
                f"labels {path_or_array} of shape {found.data.shape!r}: expected "
                f"{video.shape!r}, the frames, height and width of the video"
            ) from None
        return align_labels(found, video.stack)


def select_measured_video(
    stack: Stack,
    *,
    along: str | None = None,
    channel: int | None = None,
    at: dict[str, int] | None = None,
) -> Video:
    """The video to measure. A contrast is only for its picture: it may be blank."""
    try:
        return Video.of(stack, along=along, channel=channel, at=at)
    except IntensityError:
        return Video.of(stack, along=along, channel=channel, at=at, contrast=Contrast(0.0, 1.0))


def measure(
    labels: Any,
    image: Any,
    *,
    along: str | None = None,
    channel: int | None = None,
    at: dict[str, int] | None = None,
    options: MeasurementOptions | None = None,
    relabel: Relabeling | None = None,
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
    relabel
        New numbers for the labels: "components" for each connected object, as of a mask of 0 and
        255; "linked" for labels that were numbered anew on each frame. See `relabel_planes`.
    out
        Folder that the tables and an overview are written to, and new labels as ``labels.ome.tif``.

    Raises
    ------
    LabelsError
        Labels of another shape than the image, or that are not whole numbers.
    """
    stack = image if isinstance(image, Stack) else open_stack(image)
    video = select_measured_video(stack, along=along, channel=channel, at=at)
    found = (
        align_labels(labels, stack) if isinstance(labels, Stack) else open_labels_for(labels, video)
    )
    shape = tuple(found.data.shape) if found.data.ndim == 3 else (1, *found.data.shape)
    if shape != video.shape:
        raise LabelsError(
            f"labels of shape {shape!r}: expected {video.shape!r}, the frames, height and width "
            f"of the image along {video.along}"
        )
    planes = LabelPlanes.of(found, video.shape)
    faults = () if relabel else LabelFaults.of(planes).describe()
    if relabel:
        planes = relabel_planes(planes, relabel, video.along)
    made = compute_tables(video, planes, options=options)
    made = replace(made, notes=(*stack.notes, *found.notes, *faults))
    if out is not None:
        folder = Path(out)
        check_output(folder)
        if relabel:
            _write_labels(folder, video, planes, max(made.tracks["track"], default=0))
        write_tables(folder, made.objects, made.tracks, made.counts)
        draw_overview(video, planes, made.objects, made.counts, folder / "overview.png")
    return made


def _write_labels(folder: Path, video: Video, planes: LabelPlanes, max_label: int) -> None:
    with open_sink(folder, LabelSpec.of(video, max_label), format="tiff") as sink:
        for frame, plane in enumerate(planes):
            sink.put(frame, plane)

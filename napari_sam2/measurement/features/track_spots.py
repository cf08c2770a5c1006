"""Spots of tracks in a z-stack, detected in 3D, so that each counts once on all its slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.stack import Video
from napari_sam2.measurement.features.objects import count_channels
from napari_sam2.measurement.features.options import MeasurementOptions, SpotOptions
from napari_sam2.measurement.features.spots import detect_spots
from napari_sam2.measurement.label_planes import LabelPlanes


def measure_track_spots(
    video: Video, planes: Any, objects: pd.DataFrame, *, options: MeasurementOptions | None = None
) -> pd.DataFrame:
    """The number of spots of each track and their total intensity, in 3D.

    Each frame is read once. Of each track, only its box is in memory, between its first and its
    last slice.

    Parameters
    ----------
    planes
        As in `measure_objects`.
    objects
        The table that `measure_objects` returned for them.
    options
        If its `spots` is None, all cells are empty.

    Returns
    -------
    pd.DataFrame
        The columns `spots_cN` and `spots_sum_cN` of each channel, with the index `track`.
    """
    spot_options = (options or MeasurementOptions()).spots
    names = [
        f"{name}_c{channel}"
        for channel in range(count_channels(video))
        for name in ("spots", "spots_sum")
    ]
    ids = sorted(objects["track"].unique())
    if spot_options is None:
        return pd.DataFrame(np.nan, index=pd.Index(ids, name="track"), columns=names)
    crops = _iterate_track_crops(video, LabelPlanes.of(planes, video.shape), objects)
    values = {crop.track: _measure_crop(crop, spot_options) for crop in crops}
    rows = pd.DataFrame.from_dict(values, orient="index", columns=names, dtype="float64")
    return rows.reindex(ids).rename_axis("track")


@dataclass(frozen=True, eq=False)
class _TrackCrop:
    """The box of one track: its (d, h, w) mask, and the raw pixels of each channel."""

    track: int
    mask: np.ndarray
    pixels: Sequence[np.ndarray]


def _measure_crop(crop: _TrackCrop, options: SpotOptions) -> list[float]:
    """The values of a row: the number of spots and their total intensity, for each channel."""
    spots = [detect_spots(pixels, crop.mask, options) for pixels in crop.pixels]
    return [value for each in spots for value in (float(len(each)), each.total_intensity)]


def _iterate_track_crops(
    video: Video, planes: LabelPlanes, objects: pd.DataFrame
) -> Iterator[_TrackCrop]:
    """Yield each track after its last slice was read."""
    spans = objects.groupby("track")["frame"].agg(["min", "max"])
    boxes = _compute_track_boxes(planes, objects)
    open_crops: dict[int, list[tuple[np.ndarray, list[np.ndarray]]]] = defaultdict(list)
    for frame in range(len(video)):
        tracks = spans.index[(spans["min"] <= frame) & (frame <= spans["max"])]
        if not len(tracks):
            continue
        plane = planes[frame]
        pixels = [video.read_raw_plane(frame, channel) for channel in range(count_channels(video))]
        for track in (int(track) for track in tracks):
            box = boxes[track]
            crop = [channel[box].copy() for channel in pixels]
            open_crops[track].append((plane[box] == track, crop))
            if frame == spans.loc[track, "max"]:
                masks, crops = zip(*open_crops.pop(track), strict=True)
                channels = [np.stack(slices) for slices in zip(*crops, strict=True)]
                yield _TrackCrop(track, np.stack(masks), channels)


def _compute_track_boxes(
    planes: LabelPlanes, objects: pd.DataFrame
) -> dict[int, tuple[slice, slice]]:
    """The rows and columns of each track on all its slices together."""
    boxes: dict[int, tuple[slice, slice]] = {}
    for frame in sorted(objects["frame"].unique()):
        for track, box in _compute_label_boxes(planes[int(frame)]).items():
            boxes[track] = _unite_boxes(boxes[track], box) if track in boxes else box
    return boxes


def _compute_label_boxes(plane: np.ndarray) -> dict[int, tuple[slice, slice]]:
    """The rows and columns of each label of a plane.

    Not `ndimage.find_objects`, because that allocates memory up to the largest label.
    """
    rows, columns = np.nonzero(plane)
    ids, indices = np.unique(plane[rows, columns], return_inverse=True)
    sides = []
    for positions in (rows, columns):
        low = np.full(ids.size, np.iinfo(np.int64).max)
        high = np.zeros(ids.size, dtype=np.int64)
        np.minimum.at(low, indices, positions)
        np.maximum.at(high, indices, positions)
        sides.append(
            [slice(int(first), int(last) + 1) for first, last in zip(low, high, strict=True)]
        )
    return {int(track): (height, width) for track, height, width in zip(ids, *sides, strict=True)}


def _unite_boxes(first: tuple[slice, slice], second: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = (
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
    return rows, columns

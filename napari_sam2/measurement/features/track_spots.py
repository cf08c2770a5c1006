"""Spots of whole tracks in a z-stack: found in three dimensions, so that one that is seen on four slices is one."""

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
    """Index `track`; `spots_cN`, `spots_sum_cN` of each channel: spots of a z-stack in three dimensions, and their light.

    `planes` as in `objects.objects`, `objects` the table that gave. The frames are gone through
    once; of each track only the box around it is held, from its first slice to its last. Empty
    cells where the scope asks for no spots.
    """
    puncta = (options or MeasurementOptions()).spots
    channels = count_channels(video)
    names = [f"{name}_c{channel}" for channel in range(channels) for name in ("spots", "spots_sum")]
    ids = sorted(objects["track"].unique())
    if puncta is None:
        return pd.DataFrame(np.nan, index=pd.Index(ids, name="track"), columns=names)
    found = {
        body.track: _measure_crop(body, puncta)
        for body in _iterate_track_crops(video, LabelPlanes.of(planes, video.shape), objects)
    }
    rows = pd.DataFrame.from_dict(found, orient="index", columns=names, dtype="float64")
    return rows.reindex(ids).rename_axis("track")


@dataclass(frozen=True, eq=False)
class _TrackCrop:
    """One track's box: (d, h, w) mask and, for each channel, raw pixels."""

    track: int
    mask: np.ndarray
    pixels: Sequence[np.ndarray]


def _measure_crop(crop: _TrackCrop, options: SpotOptions) -> list[float]:
    found = [detect_spots(pixels, crop.mask, options) for pixels in crop.pixels]
    return [value for each in found for value in (float(len(each)), each.total_intensity)]


def _iterate_track_crops(
    video: Video, planes: LabelPlanes, objects: pd.DataFrame
) -> Iterator[_TrackCrop]:
    """Every track when its last slice has come."""
    spans = objects.groupby("track")["frame"].agg(["min", "max"])
    boxes = _compute_track_boxes(planes, objects)
    held: dict[int, list[tuple[np.ndarray, list[np.ndarray]]]] = defaultdict(list)
    for frame in range(len(video)):
        on = spans.index[(spans["min"] <= frame) & (frame <= spans["max"])]
        if not len(on):
            continue
        plane, pixels = (
            planes[frame],
            [video.read_raw_plane(frame, channel) for channel in range(count_channels(video))],
        )
        for track in (int(track) for track in on):
            box = boxes[track]
            held[track].append((plane[box] == track, [each[box].copy() for each in pixels]))
            if frame == spans.loc[track, "max"]:
                slices = held.pop(track)
                channels = zip(*(channels for _, channels in slices), strict=True)
                yield _TrackCrop(
                    track,
                    np.stack([mask for mask, _ in slices]),
                    [np.stack(each) for each in channels],
                )


def _compute_track_boxes(
    planes: LabelPlanes, objects: pd.DataFrame
) -> dict[int, tuple[slice, slice]]:
    """Rows and columns each track reaches over, on all its slices together."""
    ends: dict[int, list[int]] = {}
    for frame in sorted(objects["frame"].unique()):
        plane = planes[int(frame)]
        rows, columns = np.nonzero(plane)
        ids, place = np.unique(plane[rows, columns], return_inverse=True)
        low = [np.full(ids.size, side.size and side.max()) for side in (rows, columns)]
        high = [np.zeros(ids.size, dtype=np.int64) for _ in range(2)]
        for axis, side in enumerate((rows, columns)):
            np.minimum.at(low[axis], place, side)
            np.maximum.at(high[axis], place, side)
        for number, track in enumerate(ids):
            box = [
                int(low[0][number]),
                int(high[0][number]) + 1,
                int(low[1][number]),
                int(high[1][number]) + 1,
            ]
            old = ends.get(int(track), box)
            ends[int(track)] = [
                min(old[0], box[0]),
                max(old[1], box[1]),
                min(old[2], box[2]),
                max(old[3], box[3]),
            ]
    return {track: (slice(box[0], box[1]), slice(box[2], box[3])) for track, box in ends.items()}

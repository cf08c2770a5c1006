"""LiveTables: the tables of a session, filled frame by frame.

No Qt; it may be filled and read from any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pandas as pd

from napari_sam2.core.stack import Video
from napari_sam2.core.track import Track
from napari_sam2.measurement.columns import get_object_columns, make_table
from napari_sam2.measurement.counts import ALL, count_objects
from napari_sam2.measurement.features.objects import count_channels, measure_frame_objects
from napari_sam2.measurement.features.tracks import measure_tracks
from napari_sam2.measurement.track_status import TrackStatuses


@dataclass(frozen=True, eq=False)
class TableSet:
    """The tables ``objects``, ``tracks`` and ``counts`` of a video of `frame_count` frames."""

    objects: pd.DataFrame
    tracks: pd.DataFrame
    counts: pd.DataFrame
    frame_count: int

    def extract_lines(self, column: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Frames and values of a column of `objects` by track; missing values are left out."""
        known = self.objects[["track", "frame", column]].dropna().sort_values(["track", "frame"])
        if not len(known):
            return {}
        ids, starts = np.unique(known["track"].to_numpy(), return_index=True)
        frames, values = (
            np.split(known[name].to_numpy(), starts[1:]) for name in ("frame", column)
        )
        return {
            int(track): (own_frames, own_values)
            for track, own_frames, own_values in zip(ids, frames, values, strict=True)
        }

    def count_by_category(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Frames and counts of objects by category."""
        rows = self.counts[self.counts["frame"] != ALL]
        return {
            str(name): (group["frame"].astype(int).to_numpy(), group["n"].to_numpy())
            for name, group in rows.groupby("category", sort=True)
        }


class LiveTables:
    """The rows of each frame, from when it was measured last."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self._rows: dict[int, pd.DataFrame] = {}
        self._tracks: tuple[Track, ...] = ()
        self._lock = Lock()

    def measure_frame(
        self, frame: int, plane: np.ndarray, statuses: TrackStatuses | None = None
    ) -> None:
        """Measure the (H, W) labels of a frame. It reads pixels: not for the window's thread."""
        self.set_rows(frame, measure_frame_objects(self.video, frame, plane, statuses=statuses))

    def set_rows(self, frame: int, rows: pd.DataFrame) -> None:
        """Set the rows of a frame; see `measure_frame_objects`."""
        with self._lock:
            self._rows[frame] = rows

    def set_descriptions(self, tracks: Iterable[Track]) -> None:
        """Set categories and parents for all frames; nothing is measured again."""
        with self._lock:
            self._tracks = tuple(tracks)

    def clear(self) -> None:
        """Remove all rows."""
        with self._lock:
            self._rows.clear()

    def make_tables(self) -> TableSet:
        """Make the three tables as they are now."""
        with self._lock:
            parts, described = [self._rows[frame] for frame in sorted(self._rows)], self._tracks
        parts = [part for part in parts if len(part)]
        objects = (
            pd.concat(parts, ignore_index=True)
            if parts
            else make_table(get_object_columns(count_channels(self.video)), ())
        )
        objects["category"] = _map_categories(
            objects["track"], {track.id: track.category for track in described}
        )
        frames = len(self.video)
        return TableSet(
            objects,
            measure_tracks(objects, self.video, described),
            count_objects(objects, frames),
            frames,
        )


def _map_categories(ids: pd.Series, categories: Mapping[int, str]) -> pd.Series:
    return ids.map(categories).astype("string").fillna("")

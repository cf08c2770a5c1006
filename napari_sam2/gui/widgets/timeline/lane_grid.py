"""LaneGrid: the presence of every track on every frame, which grows as results arrive. No Qt."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from napari_sam2.core.track import NOT_PROPAGATED, PRESENCE_CODES, Presence, Track
from napari_sam2.propagation.review import ReviewFlag

_PRESENCE_BY_CODE = {code: presence for presence, code in PRESENCE_CODES.items()}
_INITIAL_ROWS = 16


class LaneGrid:
    """The presence of each track on each of `frames` frames; tracks ascend from row 0."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._codes = np.zeros((_INITIAL_ROWS, frames), dtype=np.uint8)
        self._tracks: list[int] = []
        # row of the array by row of the lanes, so that a new track moves no pixels
        self._storage_rows: list[int] = []
        self._free_rows: list[int] = []
        self._descriptions: dict[int, Track] = {}
        self._flags: dict[tuple[int, int], tuple[ReviewFlag, ...]] = {}
        self._flagged_by_track: dict[int, list[int]] = {}
        self._flagged_frames: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def tracks(self) -> tuple[int, ...]:
        """The track ids, ascending; one for each row."""
        return tuple(self._tracks)

    @property
    def flagged_frames(self) -> tuple[int, ...]:
        """Frames with review flags, ascending."""
        return self._flagged_frames

    def find_row(self, track: int) -> int | None:
        """The row of a track; None if it has none."""
        row = bisect_left(self._tracks, track)
        return row if row < len(self._tracks) and self._tracks[row] == track else None

    def set_presence(self, track: int, frame: int, presence: Presence | None) -> None:
        """Set the presence of a track on a frame; None: it was never propagated there."""
        code = NOT_PROPAGATED if presence is None else PRESENCE_CODES[presence]
        row = self._ensure_storage_row(track)  # first, because it may replace the array
        self._codes[row, frame] = code

    def set_frame(self, frame: int, presences: Mapping[int, Presence]) -> None:
        """Set the presences of all tracks on a frame; other tracks were not propagated there."""
        self._codes[:, frame] = NOT_PROPAGATED
        for track, presence in presences.items():
            self.set_presence(track, frame, presence)

    def set_all(self, presences: Mapping[tuple[int, int], Presence]) -> None:
        """Set all presences by (track, frame)."""
        self._codes[:] = NOT_PROPAGATED
        self.set_tracks({track for track, _ in presences})
        storage_rows = dict(zip(self._tracks, self._storage_rows, strict=True))
        rows = [storage_rows[track] for track, _ in presences]
        self._codes[rows, [frame for _, frame in presences]] = [
            PRESENCE_CODES[presence] for presence in presences.values()
        ]

    def set_tracks(self, tracks: Iterable[int]) -> None:
        """Remove all other tracks, and add rows for new ones."""
        ids = set(tracks)
        for track in [each for each in self._tracks if each not in ids]:
            row = self._tracks.index(track)
            storage_row = self._storage_rows.pop(row)
            del self._tracks[row]
            self._codes[storage_row] = NOT_PROPAGATED
            self._free_rows.append(storage_row)
        for track in sorted(ids):
            self._ensure_storage_row(track)

    def set_descriptions(self, tracks: Iterable[Track]) -> None:
        """Set names and categories."""
        self._descriptions = {track.id: track for track in tracks}

    def get_name(self, track: int) -> str:
        """The name of a track."""
        known = self._descriptions.get(track)
        return known.name if known and known.name else f"object {track}"

    def set_review_flags(self, review_flags: Iterable[ReviewFlag]) -> None:
        """Set all review flags."""
        marks: dict[tuple[int, int], list[ReviewFlag]] = defaultdict(list)
        for each in review_flags:
            for track in (each.track, each.other):
                if track is not None:
                    marks[track, each.frame].append(each)
        self._flags = {key: tuple(found) for key, found in marks.items()}
        self._flagged_by_track = defaultdict(list)
        for track, frame in sorted(self._flags):
            self._flagged_by_track[track].append(frame)
        self._flagged_frames = tuple(sorted({frame for _, frame in self._flags}))

    def get_flagged_frames(self, track: int) -> list[int]:
        """The frames with review flags of a track, ascending."""
        return self._flagged_by_track.get(track, [])

    def get_presence(self, track: int, frame: int) -> Presence | None:
        """The presence of a track on a frame; None if it was never propagated there."""
        row = self.find_row(track)
        return (
            None
            if row is None
            else _PRESENCE_BY_CODE.get(int(self._codes[self._storage_rows[row], frame]))
        )

    def describe_frame(self, track: int, frame: int) -> str:
        """Describe a track on a frame: name, presence, and the reasons of review flags."""
        known = self._descriptions.get(track)
        category = f" ({known.category})" if known and known.category else ""
        presence = self.get_presence(track, frame)
        lines = [
            f"{self.get_name(track)}{category} · frame {frame} · {presence or 'not propagated'}"
        ]
        for each in self._flags.get((track, frame), ()):
            other = (
                f"touches {self.get_name(each.track if each.other == track else each.other)}"
                if each.other is not None
                else each.detail
            )
            lines.append(f"{each.reason}: {other}" if other else str(each.reason))
        return "\n".join(lines)

    def render_columns(
        self, rows: range, first: float, frames_per_px: float, width: int
    ) -> np.ndarray:
        """Make the (rows, width) uint8 codes to draw, one column for each pixel.

        Pixel x shows the frames from `first` + x × `frames_per_px` up to those of the next pixel:
        their highest code. Pixels beyond the last frame are `NOT_PROPAGATED`.
        """
        shown = self._codes[self._storage_rows[rows.start : rows.stop]]
        edges = first + np.arange(width + 1) * frames_per_px
        starts = np.floor(edges[:-1] + 1e-9).astype(int)
        inside = (starts >= 0) & (starts < self.frames)
        found = np.zeros((len(shown), width), dtype=np.uint8)
        if not inside.any() or not len(shown):
            return found
        starts = starts[inside]
        if frames_per_px <= 1:
            found[:, inside] = shown[:, starts]
        else:  # each pixel shows the frames up to the first one of the next pixel
            last = min(self.frames, max(starts[-1] + 1, int(edges[1:][inside][-1] + 1e-9)))
            found[:, inside] = np.maximum.reduceat(shown[:, :last], starts, axis=1)
        return found

    def _ensure_storage_row(self, track: int) -> int:
        """The row of a track in the array; a new one if it has none."""
        row = bisect_left(self._tracks, track)
        if row < len(self._tracks) and self._tracks[row] == track:
            return self._storage_rows[row]
        storage_row = self._free_rows.pop() if self._free_rows else len(self._tracks)
        if storage_row == len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
        self._tracks.insert(row, track)
        self._storage_rows.insert(row, storage_row)
        return storage_row

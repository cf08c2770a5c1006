"""Lanes: what every track is on every frame, as a grid that grows as results arrive. No Qt."""

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
        self._storage_rows: list[
            int
        ] = []  # row of the array by row of the lanes: a new track moves no pixels
        self._free_rows: list[int] = []
        self._descriptions: dict[int, Track] = {}
        self._flags: dict[tuple[int, int], tuple[ReviewFlag, ...]] = {}
        self._flagged_by_track: dict[int, list[int]] = {}
        self._flagged_frames: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def tracks(self) -> tuple[int, ...]:
        """Ids, ascending: one a row."""
        return tuple(self._tracks)

    @property
    def flagged_frames(self) -> tuple[int, ...]:
        """Frames with anything suspicious, ascending."""
        return self._flagged_frames

    def find_row(self, track: int) -> int | None:
        """The row of a track, None where it has none."""
        place = bisect_left(self._tracks, track)
        return place if place < len(self._tracks) and self._tracks[place] == track else None

    def set_presence(self, track: int, frame: int, presence: Presence | None) -> None:
        """What a track is on a frame; None: it was never carried there."""
        code = NOT_PROPAGATED if presence is None else PRESENCE_CODES[presence]
        place = self._ensure_storage_row(track)  # first: it may make room, in another array
        self._codes[place, frame] = code

    def set_frame(self, frame: int, presences: Mapping[int, Presence]) -> None:
        """All that is known of a frame, by track: other tracks are not there.

        What a step of a walk changes.
        """
        self._codes[:, frame] = NOT_PROPAGATED
        for track, presence in presences.items():
            self.set_presence(track, frame, presence)

    def set_all(self, presences: Mapping[tuple[int, int], Presence]) -> None:
        """All there is, by (track, frame): as after an undo, or for another video of as many frames."""
        self._codes[:] = NOT_PROPAGATED
        self.set_tracks({track for track, _ in presences})
        places = dict(zip(self._tracks, self._storage_rows, strict=True))
        rows = [places[track] for track, _ in presences]
        self._codes[rows, [frame for _, frame in presences]] = [
            PRESENCE_CODES[presence] for presence in presences.values()
        ]

    def set_tracks(self, tracks: Iterable[int]) -> None:
        """Remove all other tracks; those that are new get a row."""
        wanted = set(tracks)
        for track in [each for each in self._tracks if each not in wanted]:
            row = self._tracks.index(track)
            place = self._storage_rows.pop(row)
            del self._tracks[row]
            self._codes[place] = NOT_PROPAGATED
            self._free_rows.append(place)
        for track in sorted(wanted):
            self._ensure_storage_row(track)

    def set_descriptions(self, tracks: Iterable[Track]) -> None:
        """Names and categories."""
        self._descriptions = {track.id: track for track in tracks}

    def get_name(self, track: int) -> str:
        """What a track is called."""
        known = self._descriptions.get(track)
        return known.name if known and known.name else f"object {track}"

    def set_review_flags(self, review_flags: Iterable[ReviewFlag]) -> None:
        """The places worth a look: all there are."""
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
        """The suspicious frames of a track, ascending."""
        return self._flagged_by_track.get(track, [])

    def get_presence(self, track: int, frame: int) -> Presence | None:
        """What a track is on a frame, None where it was never carried there."""
        row = self.find_row(track)
        return (
            None
            if row is None
            else _PRESENCE_BY_CODE.get(int(self._codes[self._storage_rows[row], frame]))
        )

    def describe_frame(self, track: int, frame: int) -> str:
        """A place in words: whose, where, what it is, and why it is worth a look."""
        known = self._descriptions.get(track)
        category = f" ({known.category})" if known and known.category else ""
        presence = self.get_presence(track, frame)
        lines = [
            f"{self.get_name(track)}{category} · frame {frame} · {presence or 'not carried here'}"
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
        """(rows, width) uint8 codes as they are drawn, one column a pixel.

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
        else:  # the pixels' frames follow each other: each reaches up to the next one's first
            last = min(self.frames, max(starts[-1] + 1, int(edges[1:][inside][-1] + 1e-9)))
            found[:, inside] = np.maximum.reduceat(shown[:, :last], starts, axis=1)
        return found

    def _ensure_storage_row(self, track: int) -> int:
        """Row of the array of a track, which gets one where it has none."""
        row = bisect_left(self._tracks, track)
        if row < len(self._tracks) and self._tracks[row] == track:
            return self._storage_rows[row]
        place = self._free_rows.pop() if self._free_rows else len(self._tracks)
        if place == len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
        self._tracks.insert(row, track)
        self._storage_rows.insert(row, place)
        return place

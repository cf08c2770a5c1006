"""Index of the objects on each frame, updated while propagation fills the stack."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from napari_sam2.notebook.views import SegmentRecords
from napari_sam2.propagation.session import Session

_Signature = tuple[tuple[int, int], ...]


@dataclass(eq=False)
class FrameIndex:
    """Objects by frame; only frames whose segments changed are read again.

    Objects are counted as in ``counts.csv``: an object is on a frame if it has pixels there after
    overlaps are resolved.
    """

    session: Session
    _frames: dict[int, tuple[_Signature, frozenset[int]]] = field(default_factory=dict)

    def update(self, records: SegmentRecords) -> dict[int, frozenset[int]]:
        """Read the frames that changed, and return the track ids of every frame with segments."""
        signatures = _make_signatures(records)
        for frame in self._frames.keys() - signatures.keys():
            del self._frames[frame]
        for frame, signature in signatures.items():
            entry = self._frames.get(frame)
            if entry is None or entry[0] != signature:
                labels = np.unique(self.session.compute_label_plane(frame))
                self._frames[frame] = signature, frozenset(int(track) for track in labels if track)
        return {frame: tracks for frame, (_, tracks) in self._frames.items()}

    def make_rows(self, records: SegmentRecords, frame: int) -> list[dict[str, str | int]]:
        """Count the objects on this frame and in the stack, by category and in all."""
        tracks_by_frame = self.update(records)
        on_frame = tracks_by_frame.get(frame, frozenset())
        in_stack = frozenset[int]().union(*tracks_by_frame.values())
        log = self.session.log
        categories = {track: log.get_track(track).category for track in in_stack}
        names = sorted(set(categories.values()))
        rows: list[dict[str, str | int]] = [
            {
                "category": name or "–",
                "frame": _count_category(on_frame, categories, name),
                "stack": _count_category(in_stack, categories, name),
            }
            for name in names
        ]
        return [
            *(rows if names != [""] else []),
            {"category": "all", "frame": len(on_frame), "stack": len(in_stack)},
        ]


def _make_signatures(records: SegmentRecords) -> dict[int, _Signature]:
    """List the (track, log entry) pairs of each frame; a new entry means a new segment."""
    by_frame: dict[int, list[tuple[int, int]]] = {}
    for (track, frame), record in records.items():
        by_frame.setdefault(frame, []).append((track, record.entry))
    return {frame: tuple(sorted(entries)) for frame, entries in by_frame.items()}


def _count_category(tracks: frozenset[int], categories: dict[int, str], name: str) -> int:
    return sum(categories[track] == name for track in tracks)

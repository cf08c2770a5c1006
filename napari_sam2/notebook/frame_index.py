"""Census: which objects have pixels on which frame, kept up to date while a stack fills."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from napari_sam2.notebook.views import SegmentRecords
from napari_sam2.propagation.session import Session

_Signature = tuple[tuple[int, int], ...]


@dataclass(eq=False)
class FrameIndex:
    """Objects by frame. A frame is looked at again only when an answer on it is a new one.

    Objects are counted as `counts.csv` counts them: those that have pixels once overlaps are
    settled.
    """

    session: Session
    _frames: dict[int, tuple[_Signature, frozenset[int]]] = field(default_factory=dict)

    def update(self, records: SegmentRecords) -> dict[int, frozenset[int]]:
        """Track ids by frame, of all frames that hold any answer."""
        signatures = _make_signatures(records)
        for gone in self._frames.keys() - signatures.keys():
            del self._frames[gone]
        for frame, signature in signatures.items():
            known = self._frames.get(frame)
            if known is None or known[0] != signature:
                found = np.unique(self.session.compute_label_plane(frame))
                self._frames[frame] = signature, frozenset(int(track) for track in found if track)
        return {frame: tracks for frame, (_, tracks) in self._frames.items()}

    def make_rows(self, records: SegmentRecords, frame: int) -> list[dict[str, str | int]]:
        """What the table shows: by category, and for all, how many objects on this frame and in the whole stack."""
        found = self.update(records)
        here, everywhere = found.get(frame, frozenset()), frozenset[int]().union(*found.values())
        log = self.session.log
        categories = {track: log.get_track(track).category for track in everywhere}
        names = sorted(set(categories.values()))
        rows: list[dict[str, str | int]] = [
            {
                "category": name or "–",
                "frame": _count_category(here, categories, name),
                "stack": _count_category(everywhere, categories, name),
            }
            for name in names
        ]
        return [
            *(rows if names != [""] else []),
            {"category": "all", "frame": len(here), "stack": len(everywhere)},
        ]


def _make_signatures(records: SegmentRecords) -> dict[int, _Signature]:
    """Which answers stand on each frame: another number of a log entry is another answer."""
    by_frame: dict[int, list[tuple[int, int]]] = {}
    for (track, frame), trace in records.items():
        by_frame.setdefault(frame, []).append((track, trace.entry))
    return {frame: tuple(sorted(entries)) for frame, entries in by_frame.items()}


def _count_category(tracks: frozenset[int], categories: dict[int, str], name: str) -> int:
    return sum(categories[track] == name for track in tracks)

"""Census: which objects have pixels on which frame, kept up to date while a stack fills."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from napari_sam2.notebook.views import Traces
from napari_sam2.propagation.session import Session

_Signature = tuple[tuple[int, int], ...]


@dataclass(eq=False)
class Census:
    """Objects by frame. A frame is looked at again only when an answer on it is a new one.

    Objects are counted as `counts.csv` counts them: those that have pixels once overlaps are
    settled.
    """

    session: Session
    _seen: dict[int, tuple[_Signature, frozenset[int]]] = field(default_factory=dict)

    def take(self, traces: Traces) -> dict[int, frozenset[int]]:
        """Track ids by frame, of all frames that hold any answer."""
        signatures = _signatures(traces)
        for gone in self._seen.keys() - signatures.keys():
            del self._seen[gone]
        for frame, signature in signatures.items():
            known = self._seen.get(frame)
            if known is None or known[0] != signature:
                found = np.unique(self.session.plane(frame))
                self._seen[frame] = signature, frozenset(int(track) for track in found if track)
        return {frame: tracks for frame, (_, tracks) in self._seen.items()}

    def rows(self, traces: Traces, frame: int) -> list[dict[str, str | int]]:
        """What the table shows: by category, and for all, how many objects on this frame and in the whole stack."""
        found = self.take(traces)
        here, everywhere = found.get(frame, frozenset()), frozenset[int]().union(*found.values())
        log = self.session.log
        categories = {track: log.track(track).category for track in everywhere}
        names = sorted(set(categories.values()))
        rows: list[dict[str, str | int]] = [
            {
                "category": name or "–",
                "frame": _count(here, categories, name),
                "stack": _count(everywhere, categories, name),
            }
            for name in names
        ]
        return [
            *(rows if names != [""] else []),
            {"category": "all", "frame": len(here), "stack": len(everywhere)},
        ]


def _signatures(traces: Traces) -> dict[int, _Signature]:
    """Which answers stand on each frame: another number of a log entry is another answer."""
    by_frame: dict[int, list[tuple[int, int]]] = {}
    for (track, frame), trace in traces.items():
        by_frame.setdefault(frame, []).append((track, trace.entry))
    return {frame: tuple(sorted(entries)) for frame, entries in by_frame.items()}


def _count(tracks: frozenset[int], categories: dict[int, str], name: str) -> int:
    return sum(categories[track] == name for track in tracks)

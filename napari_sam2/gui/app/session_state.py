"""Book: what the main thread knows of one place: the log, the facts, and who is who.

Made of what the desk reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import Prompt, PromptLog
from napari_sam2.core.track import CONDITIONING_PRESENCES, Presence, Track
from napari_sam2.gui.app.counting_task import Seed
from napari_sam2.gui.app.session_update import SessionUpdate
from napari_sam2.gui.app.view import ObjectRow
from napari_sam2.measurement.track_status import TrackStatus

MAX_LABEL = int(np.iinfo(np.uint16).max)
"""The largest id that a labels layer of 16 bit can show."""


@dataclass
class SessionState:
    """A mirror of one desk.

    `drafts` are objects that were made and are not in the log yet, `submitted_drafts` those of them whose
    first prompt is on its way; `current` is 0 where there is none; `seeds` are what the last search
    found.
    """

    log: PromptLog = field(default_factory=PromptLog)
    statuses: dict[tuple[int, int], TrackStatus] = field(default_factory=dict)
    drafts: dict[int, Track] = field(default_factory=dict)
    submitted_drafts: set[int] = field(default_factory=set)
    seeds: list[Seed] = field(default_factory=list)
    current: int = 0
    category: str = ""
    undoable: bool = False
    redoable: bool = False
    unfinished: bool = False
    alternative_count: int = 0
    shown_alternative: int = 0
    _last_id: int = 0
    _presence_counts: dict[int, Counter[Presence]] = field(default_factory=dict)

    def apply(self, update: SessionUpdate) -> None:
        """Note what a desk reported."""
        self.log = update.log
        self.undoable, self.redoable, self.unfinished = (
            update.undoable,
            update.redoable,
            update.unfinished,
        )
        self.alternative_count = update.alternative_count
        known = update.log.track_ids
        for track in [track for track in self.drafts if track in known]:
            del self.drafts[track]
            self.submitted_drafts.discard(track)
        if self.current not in (
            0,
            *known,
            *self.drafts,
            *update.log.removed,
        ):  # its first prompt was undone: it can be prompted anew
            self.drafts[self.current] = update.log.track(self.current)
        if update.complete:
            self.statuses.clear()
            self._presence_counts.clear()
        self._apply_statuses(update.statuses)

    def allocate_track_id(self) -> int:
        """An id that was never used."""
        used = (prompt.track for prompt in self.log.prompts)
        self._last_id = max((self._last_id, *self.drafts, *used), default=0) + 1
        return self._last_id

    def claim_track_id(self, requested_id: int, category: str = "") -> int:
        """A new object with the id `requested_id`, or another one where that was used."""
        used = {*self.drafts, *(prompt.track for prompt in self.log.prompts)}
        number = (
            self.allocate_track_id()
            if requested_id in used or requested_id > MAX_LABEL
            else requested_id
        )
        self._last_id = max(self._last_id, number)
        self.drafts[number] = Track(number, category=category or self.category)
        return number

    def start_draft(self) -> int:
        """A new object, made the current one; one that was made and not prompted is taken again."""
        unused = min(self.drafts.keys() - self.submitted_drafts, default=0)
        self.current = unused or self.allocate_track_id()
        self.drafts.setdefault(self.current, Track(self.current, category=self.category))
        return self.current

    def discard_drafts(self, tracks: Iterable[int]) -> None:
        """Prompts that were brought did not come through: their objects are not there."""
        for track in tracks:
            self.drafts.pop(track, None)
            self.submitted_drafts.discard(track)

    @property
    def tracks(self) -> tuple[int, ...]:
        """All objects, prompted or not, ascending."""
        return tuple(sorted({*self.log.track_ids, *self.drafts}))

    def get_track(self, track_id: int) -> Track:
        """Name and category."""
        return self.drafts.get(track_id) or self.log.track(track_id)

    @property
    def rows(self) -> tuple[ObjectRow, ...]:
        """The list of objects."""
        prompted = Counter(
            track for track, _ in {(prompt.track, prompt.frame) for prompt in self.log.prompts}
        )
        waiting = self._find_outdated_tracks()
        return tuple(
            self._make_row(track, prompted[track], track in waiting) for track in self.tracks
        )

    def _find_outdated_tracks(self) -> set[int]:
        """Tracks that were carried, and corrected since."""
        carried, waiting = set[int](), set[int]()
        for entry in self.log:
            if isinstance(entry, Propagation):
                carried |= set(entry.tracks)
                waiting -= set(entry.tracks)
            elif isinstance(entry, Prompt) and entry.track in carried:
                waiting.add(entry.track)
        return waiting

    def _make_row(self, track_id: int, prompted_frames: int, outdated: bool) -> ObjectRow:
        counts, track = self._presence_counts.get(track_id, Counter()), self.get_track(track_id)
        present = sum(counts.values()) - counts[Presence.ABSENT]
        return ObjectRow(
            track_id,
            track.name,
            track.category,
            present,
            prompted_frames,
            counts[Presence.UNCERTAIN],
            counts[Presence.LOCKED],
            outdated,
        )

    def _apply_statuses(self, statuses: Mapping[tuple[int, int], TrackStatus]) -> None:
        for (track, frame), fact in statuses.items():
            counts = self._presence_counts.setdefault(track, Counter())
            old = self.statuses.get((track, frame))
            if old is not None:
                counts[old.presence] -= 1
            counts[fact.presence] += 1
            self.statuses[track, frame] = fact

    def is_conditioned(self, track: int, frame: int) -> bool:
        """Whether a track was prompted or locked on a frame."""
        fact = self.statuses.get((track, frame))
        return fact is not None and fact.presence in CONDITIONING_PRESENCES

    def replace_description(
        self, track: int, *, name: str | None = None, category: str | None = None
    ) -> Track:
        """A track with another name or category."""
        known = self.get_track(track)
        return replace(
            known,
            name=known.name if name is None else name,
            category=known.category if category is None else category,
        )

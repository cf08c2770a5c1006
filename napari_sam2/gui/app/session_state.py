"""SessionState: what the main thread knows of one session, from the updates of its worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import Prompt, PromptLog
from napari_sam2.core.track import Presence, Track
from napari_sam2.gui.app.session_update import SessionUpdate
from napari_sam2.gui.app.view import ObjectRow
from napari_sam2.measurement.track_status import TrackStatus
from napari_sam2.tracking.seeds import Seed

MAX_LABEL = int(np.iinfo(np.uint16).max)
"""The largest track id that fits into a 16-bit labels layer."""


@dataclass
class SessionState:
    """A copy of the state of one session worker, and the objects that have no prompt yet.

    Parameters
    ----------
    drafts, submitted_drafts
        Objects that are not in the log yet, and those of them whose first prompt is pending.
    seeds
        What the last detection found.
    current
        The track that prompts belong to; 0 if there is none.
    category
        The category of new objects.
    alternative_count, shown_alternative
        How many masks the model offers for the last click, and the index of the one shown.
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
        """Take over what a worker reported."""
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
        if self.current not in (0, *known, *self.drafts, *update.log.removed):
            # its first prompt was undone, so it is a draft again
            self.drafts[self.current] = update.log.get_track(self.current)
        if update.complete:
            self.statuses.clear()
            self._presence_counts.clear()
        self._apply_statuses(update.statuses)

    def allocate_track_id(self) -> int:
        """Reserve an id that was never used."""
        used = (prompt.track for prompt in self.log.prompts)
        self._last_id = max((self._last_id, *self.drafts, *used), default=0) + 1
        return self._last_id

    def claim_track_id(self, requested_id: int, category: str = "") -> int:
        """Make a draft with the id `requested_id`, or with another one if that was used."""
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
        """Make a new object the current one; a draft without a prompt is used again."""
        unused = min(self.drafts.keys() - self.submitted_drafts, default=0)
        self.current = unused or self.allocate_track_id()
        self.drafts.setdefault(self.current, Track(self.current, category=self.category))
        return self.current

    def ensure_current(self) -> int:
        """The current track; a new one if there is none."""
        return self.current if self.current in self.tracks else self.start_draft()

    def discard_drafts(self, tracks: Iterable[int]) -> None:
        """Remove objects whose first prompts failed."""
        for track in tracks:
            self.drafts.pop(track, None)
            self.submitted_drafts.discard(track)

    @property
    def tracks(self) -> tuple[int, ...]:
        """The ids of all objects, prompted or not, ascending."""
        return tuple(sorted({*self.log.track_ids, *self.drafts}))

    def get_track(self, track_id: int) -> Track:
        """The name and category of a track."""
        return self.drafts.get(track_id) or self.log.get_track(track_id)

    @property
    def rows(self) -> tuple[ObjectRow, ...]:
        """The rows of the list of objects."""
        prompted = Counter(
            track for track, _ in {(prompt.track, prompt.frame) for prompt in self.log.prompts}
        )
        outdated = self._find_outdated_tracks()
        return tuple(
            self._make_row(track, prompted[track], track in outdated) for track in self.tracks
        )

    def _find_outdated_tracks(self) -> set[int]:
        """Tracks that were prompted again after they were propagated."""
        propagated, outdated = set[int](), set[int]()
        for entry in self.log:
            if isinstance(entry, Propagation):
                propagated |= set(entry.tracks)
                outdated -= set(entry.tracks)
            elif isinstance(entry, Prompt) and entry.track in propagated:
                outdated.add(entry.track)
        return outdated

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
        for (track, frame), status in statuses.items():
            counts = self._presence_counts.setdefault(track, Counter())
            old = self.statuses.get((track, frame))
            if old is not None:
                counts[old.presence] -= 1
            counts[status.presence] += 1
            self.statuses[track, frame] = status

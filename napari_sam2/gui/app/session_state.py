"""Book: what the main thread knows of one place: the log, the facts, and who is who.

Made of what the desk reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from napari_sam2.core.plan import Propagation
from napari_sam2.core.presence import CONDITIONING, Presence
from napari_sam2.core.prompt import Prompt, PromptLog
from napari_sam2.core.track import Track
from napari_sam2.gui.app.counting_task import Seed
from napari_sam2.gui.app.session_update import Changed
from napari_sam2.gui.app.view import ObjectRow
from napari_sam2.measurement.track_status import Fact

MAX_LABEL = int(np.iinfo(np.uint16).max)
"""The largest id that a labels layer of 16 bit can show."""


@dataclass
class Book:
    """A mirror of one desk.

    `drafts` are objects that were made and are not in the log yet, `asked` those of them whose
    first prompt is on its way; `current` is 0 where there is none; `seeds` are what the last search
    found.
    """

    log: PromptLog = field(default_factory=PromptLog)
    facts: dict[tuple[int, int], Fact] = field(default_factory=dict)
    drafts: dict[int, Track] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    seeds: list[Seed] = field(default_factory=list)
    current: int = 0
    category: str = ""
    undoable: bool = False
    redoable: bool = False
    unfinished: bool = False
    offered: int = 0
    shown: int = 0
    _last: int = 0
    _counts: dict[int, Counter[Presence]] = field(default_factory=dict)

    def take(self, changed: Changed) -> None:
        """Note what a desk reported."""
        self.log = changed.log
        self.undoable, self.redoable, self.unfinished = (
            changed.undoable,
            changed.redoable,
            changed.unfinished,
        )
        self.offered = changed.offered
        known = changed.log.track_ids
        for track in [track for track in self.drafts if track in known]:
            del self.drafts[track]
            self.asked.discard(track)
        if self.current not in (
            0,
            *known,
            *self.drafts,
            *changed.log.removed,
        ):  # its first prompt was undone: it can be prompted anew
            self.drafts[self.current] = changed.log.track(self.current)
        if changed.whole:
            self.facts.clear()
            self._counts.clear()
        self._note(changed.facts)

    def fresh(self) -> int:
        """An id that was never used."""
        used = (prompt.track for prompt in self.log.prompts)
        self._last = max((self._last, *self.drafts, *used), default=0) + 1
        return self._last

    def claim(self, wanted: int, category: str = "") -> int:
        """A new object with the id `wanted`, or another one where that was used."""
        used = {*self.drafts, *(prompt.track for prompt in self.log.prompts)}
        number = self.fresh() if wanted in used or wanted > MAX_LABEL else wanted
        self._last = max(self._last, number)
        self.drafts[number] = Track(number, category=category or self.category)
        return number

    def draft(self) -> int:
        """A new object, made the current one; one that was made and not prompted is taken again."""
        unused = min(self.drafts.keys() - self.asked, default=0)
        self.current = unused or self.fresh()
        self.drafts.setdefault(self.current, Track(self.current, category=self.category))
        return self.current

    def abandon(self, tracks: Iterable[int]) -> None:
        """Prompts that were brought did not come through: their objects are not there."""
        for track in tracks:
            self.drafts.pop(track, None)
            self.asked.discard(track)

    @property
    def tracks(self) -> tuple[int, ...]:
        """All objects, prompted or not, ascending."""
        return tuple(sorted({*self.log.track_ids, *self.drafts}))

    def track(self, number: int) -> Track:
        """Name and category."""
        return self.drafts.get(number) or self.log.track(number)

    @property
    def rows(self) -> tuple[ObjectRow, ...]:
        """The list of objects."""
        prompted = Counter(
            track for track, _ in {(prompt.track, prompt.frame) for prompt in self.log.prompts}
        )
        waiting = self._waiting()
        return tuple(self._row(track, prompted[track], track in waiting) for track in self.tracks)

    def _waiting(self) -> set[int]:
        """Tracks that were carried, and corrected since."""
        carried, waiting = set[int](), set[int]()
        for entry in self.log:
            if isinstance(entry, Propagation):
                carried |= set(entry.tracks)
                waiting -= set(entry.tracks)
            elif isinstance(entry, Prompt) and entry.track in carried:
                waiting.add(entry.track)
        return waiting

    def _row(self, number: int, prompted: int, waiting: bool) -> ObjectRow:
        counts, track = self._counts.get(number, Counter()), self.track(number)
        present = sum(counts.values()) - counts[Presence.ABSENT]
        return ObjectRow(
            number,
            track.name,
            track.category,
            present,
            prompted,
            counts[Presence.UNCERTAIN],
            counts[Presence.LOCKED],
            waiting,
        )

    def _note(self, facts: Mapping[tuple[int, int], Fact]) -> None:
        for (track, frame), fact in facts.items():
            counts = self._counts.setdefault(track, Counter())
            old = self.facts.get((track, frame))
            if old is not None:
                counts[old.presence] -= 1
            counts[fact.presence] += 1
            self.facts[track, frame] = fact

    def conditioned(self, track: int, frame: int) -> bool:
        """Whether a track was prompted or locked on a frame."""
        fact = self.facts.get((track, frame))
        return fact is not None and fact.presence in CONDITIONING

    def renamed(self, track: int, *, name: str | None = None, category: str | None = None) -> Track:
        """A track with another name or category."""
        known = self.track(track)
        return replace(
            known,
            name=known.name if name is None else name,
            category=known.category if category is None else category,
        )

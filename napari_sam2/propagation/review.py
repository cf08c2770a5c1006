"""Review: the places worth a look after a walk, each with its reason, in the order in which a person goes through them."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import overload

import numpy as np

from napari_sam2.core.presence import CONDITIONING, Presence
from napari_sam2.core.video import Video
from napari_sam2.propagation.segment_store import Trace
from napari_sam2.propagation.session import Session


class Reason(StrEnum):
    """Why a place is worth a look, from the gravest to the least."""

    LOST = "lost"
    """It was there on the frame before, and is not any more."""
    AREA = "area jump"
    """It became much larger or smaller than on the frame before."""
    UNCERTAIN = "uncertain"
    """The model doubts it here, and did not on the frame before."""
    SCORE = "falling score"
    """The IoU the model predicts fell below that of the frames before."""
    TOUCHING = "touching"
    """It shares an outline with another object, and did not on the frame before."""
    BORDER = "border"
    """It reaches the edge of the image, and did not on the frame before."""


@dataclass(frozen=True)
class Suspicion:
    """A Track on a Frame that is worth a look.

    `severity` is 0 to 1. `detail` says what was seen, in words and figures. `other` is the track
    that it touches.
    """

    track: int
    frame: int
    reason: Reason
    severity: float
    detail: str = ""
    other: int | None = None


@dataclass(frozen=True)
class Thresholds:
    """From when on a place is worth a look.

    "Before" is the frame walked before: the higher one for a walk that goes back.

    Parameters
    ----------
    area_ratio, area_share
        An area this many times larger or smaller than before is a jump, where it is also this share
        of the track's median area away from what the two frames before lead to expect: a nucleus
        grows and shrinks steadily along z.
    area_px
        Objects that are smaller than this before and after never jump: one row of pixels changes
        them by as much.
    score_fall, score_frames
        A predicted IoU this much below the best of so many frames before is falling.
    lost_share
        An object smaller than this share of its median area ends, and is not lost: so objects end
        in z.
    contact_share
        Objects touch where this share of the smaller one's outline is shared.
    new_frames
        A contact, with an object or with the border, is new where there was none on so many frames
        before: what touches on every other frame is one place to look at.
    """

    area_ratio: float = 1.6
    area_share: float = 0.35
    area_px: int = 30
    score_fall: float = 0.15
    score_frames: int = 5
    lost_share: float = 0.3
    contact_share: float = 0.12
    new_frames: int = 3


@dataclass(frozen=True)
class Extent:
    """One object on one label plane: its area, its outline in pixel edges, those shared with others by track, those at the edge."""

    area_px: int
    outline_px: int
    contacts: Mapping[int, int] = field(default_factory=dict)
    border_px: int = 0


Extents = Mapping[int, Mapping[int, Extent]]
"""By frame, then by track."""


class Review(Sequence[Suspicion]):
    """Suspicions in order of frames; on one frame the gravest first."""

    def __init__(self, suspicions: Iterable[Suspicion] = ()) -> None:
        self._all = tuple(sorted(suspicions, key=_order))
        self._keys = [_order(each) for each in self._all]

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, place: int) -> Suspicion: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Suspicion, ...]: ...

    def __getitem__(self, place: int | slice) -> Suspicion | tuple[Suspicion, ...]:
        return self._all[place]

    def __iter__(self) -> Iterator[Suspicion]:
        return iter(self._all)

    def at(self, track: int, frame: int) -> tuple[Suspicion, ...]:
        """All that is suspicious about a track on a frame, the gravest first; what touches it too."""
        low, high = bisect_left(self._keys, (frame,)), bisect_left(self._keys, (frame + 1,))
        return tuple(each for each in self._all[low:high] if track in (each.track, each.other))

    def next(self, frame: int, current: Suspicion | None = None) -> Suspicion | None:
        """The first one after `current`, or after `frame` where none is given; None at the end."""
        place = (
            bisect_right(self._keys, _order(current))
            if current
            else bisect_left(self._keys, (frame + 1,))
        )
        return self._all[place] if place < len(self._all) else None

    def previous(self, frame: int, current: Suspicion | None = None) -> Suspicion | None:
        """The last one before `current`, or before `frame` where none is given; None at the beginning."""
        place = bisect_left(self._keys, _order(current) if current else (frame,))
        return self._all[place - 1] if place else None

    def gravest(self) -> tuple[Suspicion, ...]:
        """All of them, the gravest first."""
        return tuple(sorted(self._all, key=lambda each: (-each.severity, _order(each))))


def review(session: Session, *, thresholds: Thresholds | None = None) -> Review:
    """What is worth a look in a session; each label plane is read once."""
    return suspicions(
        session.traces(), planes_extents(session.video, session.plane), thresholds=thresholds
    )


def planes_extents(
    video: Video, plane: Callable[[int], np.ndarray]
) -> dict[int, dict[int, Extent]]:
    """The extents of all frames of a video, `plane` giving the (H, W) labels of one."""
    return {frame: extents(plane(frame)) for frame in range(len(video))}


def suspicions(
    traces: Mapping[tuple[int, int], Trace], seen: Extents, *, thresholds: Thresholds | None = None
) -> Review:
    """What is worth a look, from the Trace by (track, frame) and what the label planes show.

    Pure. Prompted and locked places never are: a person said what is there. A track that comes back
    from a jump to what it was does not jump again.
    """
    limits = thresholds or Thresholds()
    by_track: dict[int, dict[int, _Place]] = defaultdict(dict)
    for (track, frame), trace in traces.items():
        by_track[track][frame] = _Place(trace, seen.get(frame, {}).get(track))
    found: list[Suspicion] = []
    for track, places in by_track.items():
        found += _Lane(track, places, limits).suspicions()
    return Review(found + _touching(by_track, limits))


def extents(plane: np.ndarray) -> dict[int, Extent]:
    """The objects of one (H, W) label plane.

    Contacts and outlines count the edges between neighbouring pixels.
    """
    ids, codes = np.unique(plane, return_inverse=True)
    codes = codes.reshape(plane.shape)
    area = np.bincount(codes.ravel(), minlength=len(ids))
    pairs = np.concatenate(
        [
            np.stack([a.ravel(), b.ravel()])
            for a, b in ((codes[1:], codes[:-1]), (codes[:, 1:], codes[:, :-1]))
        ],
        axis=1,
    )
    pairs = np.sort(pairs[:, pairs[0] != pairs[1]], axis=0)
    shared, count = np.unique(pairs, axis=1, return_counts=True)
    rim = np.concatenate([codes[0], codes[-1], codes[:, 0], codes[:, -1]])
    border = np.bincount(rim, minlength=len(ids))
    outline = (
        np.bincount(shared[0], count, len(ids)) + np.bincount(shared[1], count, len(ids)) + border
    )
    contacts: dict[int, dict[int, int]] = defaultdict(dict)
    for (one, other), edges in zip(ids[shared].T.tolist(), count.tolist(), strict=True):
        if one and other:
            contacts[one][other] = contacts[other][one] = edges
    return {
        track: Extent(
            int(area[code]), int(outline[code]), contacts.get(track, {}), int(border[code])
        )
        for code, track in enumerate(ids.tolist())
        if track
    }


@dataclass(frozen=True)
class _Place:
    """One track on one frame: what the model said, and what is seen of it (nothing where it is absent or hidden)."""

    trace: Trace
    extent: Extent | None

    @property
    def said(self) -> bool:
        """Whether a person said what is here."""
        return self.trace.presence in CONDITIONING

    @property
    def area_px(self) -> int:
        return self.extent.area_px if self.extent and self.trace.presence != Presence.ABSENT else 0

    @property
    def before(self) -> int:
        """The frame walked before."""
        return self.trace.frame + self.back

    @property
    def back(self) -> int:
        """One frame towards where the walk came from."""
        return 1 if self.trace.forward is False else -1

    def behind(self, count: int) -> range:
        """So many frames walked before, the nearest first."""
        return range(self.before, self.before + count * self.back, self.back)


@dataclass(frozen=True)
class _Lane:
    """All places of one track."""

    track: int
    places: Mapping[int, _Place]
    limits: Thresholds

    def suspicions(self) -> list[Suspicion]:
        usual_px = median([place.area_px for place in self.places.values() if place.area_px] or [0])
        found: list[Suspicion | None] = []
        for place in self.places.values():
            before = self.places.get(place.before)
            if place.said or before is None or not before.area_px:
                continue
            if not place.area_px:
                found.append(self._lost(place, before, usual_px))
                continue
            found += [
                self._jump(place, before, usual_px),
                self._doubt(place, before),
                self._border(place),
            ]
        return [each for each in found if each]

    def _found(self, place: _Place, reason: Reason, severity: float, detail: str) -> Suspicion:
        return Suspicion(
            self.track, place.trace.frame, reason, round(min(1.0, max(0.0, severity)), 3), detail
        )

    def _lost(self, place: _Place, before: _Place, usual_px: float) -> Suspicion | None:
        share = before.area_px / usual_px
        if share < self.limits.lost_share:
            return None
        assert before.extent
        if place.trace.presence != Presence.ABSENT:
            return self._found(place, Reason.LOST, 0.9, "hidden by other objects")
        left = before.extent.border_px > 0  # as what moves out of the image does
        return self._found(
            place,
            Reason.LOST,
            share * (0.5 if left else 1.0),
            f"was {before.area_px} px" + (" at the border" if left else ""),
        )

    def _jump(self, place: _Place, before: _Place, usual_px: float) -> Suspicion | None:
        if not self._jumps(before, place, usual_px):
            return None
        earlier = self.places.get(before.before)
        if (
            earlier
            and not before.said
            and self._jumps(earlier, before, usual_px)
            and not self._jumps(earlier, place, usual_px)
        ):
            return None  # back from a jump
        change = abs(math.log(place.area_px / before.area_px))
        return self._found(
            place, Reason.AREA, 0.4 + 0.3 * change, f"{before.area_px} → {place.area_px} px"
        )

    def _jumps(self, one: _Place, other: _Place, usual_px: float) -> bool:
        """Whether `other` is no continuation of `one`, which was walked before it."""
        limits = self.limits
        small, large = sorted((one.area_px, other.area_px))
        if not small or large < limits.area_px or large < limits.area_ratio * small:
            return False
        earlier = self.places.get(one.before)
        expected = (
            max(0, 2 * one.area_px - earlier.area_px)
            if earlier and earlier.area_px
            else one.area_px
        )
        return abs(other.area_px - expected) >= limits.area_share * usual_px

    def _doubt(self, place: _Place, before: _Place) -> Suspicion | None:
        if place.trace.presence == Presence.UNCERTAIN:
            if before.trace.presence == Presence.UNCERTAIN:
                return None
            return self._found(
                place,
                Reason.UNCERTAIN,
                0.9 - place.trace.score / 2,
                f"predicted IoU {place.trace.score:.2f}",
            )
        best = self._best_before(place)
        fall = best - place.trace.score
        if (
            fall < self.limits.score_fall
            or self._best_before(before) - before.trace.score >= self.limits.score_fall
        ):
            return None
        return self._found(
            place, Reason.SCORE, 0.3 + fall, f"predicted IoU {best:.2f} → {place.trace.score:.2f}"
        )

    def _best_before(self, place: _Place) -> float:
        """The best predicted IoU of the frames walked before, the place's own where there are none."""
        frames = [frame for frame in place.behind(self.limits.score_frames) if frame in self.places]
        return max((self.places[frame].trace.score for frame in frames), default=place.trace.score)

    def _border(self, place: _Place) -> Suspicion | None:
        assert place.extent
        behind = [
            self.places[frame].extent
            for frame in place.behind(self.limits.new_frames)
            if frame in self.places
        ]
        if not place.extent.border_px or any(extent and extent.border_px for extent in behind):
            return None
        return self._found(
            place,
            Reason.BORDER,
            0.1 + place.extent.border_px / place.extent.outline_px,
            "reaches the edge of the image",
        )


def _touching(by_track: Mapping[int, Mapping[int, _Place]], limits: Thresholds) -> list[Suspicion]:
    """Each pair once, with the track that nobody said anything about, or the lower id."""
    found = []
    for track, places in by_track.items():
        for frame, place in places.items():
            for other in place.extent.contacts if place.extent else ():
                theirs = by_track.get(other, {}).get(frame)
                if theirs is None or place.said or (track > other and not theirs.said):
                    continue
                share = _share(by_track, track, other, frame)
                behind = [
                    _share(by_track, track, other, earlier)
                    for earlier in place.behind(limits.new_frames)
                ]
                if share >= limits.contact_share > max(behind):
                    severity = round(min(1.0, 0.2 + share), 3)
                    found.append(
                        Suspicion(
                            track,
                            frame,
                            Reason.TOUCHING,
                            severity,
                            f"touches object {other}",
                            other,
                        )
                    )
    return found


def _share(
    by_track: Mapping[int, Mapping[int, _Place]], track: int, other: int, frame: int
) -> float:
    """How much of the smaller one's outline two tracks share on a frame."""
    one, two = (by_track[each].get(frame) for each in (track, other))
    if one is None or two is None or one.extent is None or two.extent is None:
        return 0.0
    return one.extent.contacts.get(other, 0) / min(one.extent.outline_px, two.extent.outline_px)


_GRAVITY = {reason: number for number, reason in enumerate(Reason)}


def _order(each: Suspicion) -> tuple[int, ...]:
    """By frame, then the gravest (in thousandths, so that the key is whole numbers), then by track."""
    return (
        each.frame,
        -round(each.severity * 1000),
        _GRAVITY[each.reason],
        each.track,
        each.other or 0,
    )

"""Review: flags for masks that may be wrong after a propagation, each with its reason."""

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

from napari_sam2.core.protocols import ObjectEvidence
from napari_sam2.core.result import FrameDetections
from napari_sam2.core.stack import Video
from napari_sam2.core.track import CONDITIONING_PRESENCES, Presence
from napari_sam2.propagation.segment_store import SegmentRecord
from napari_sam2.propagation.session import Session


class Reason(StrEnum):
    """Why a mask needs review, from the most to the least severe."""

    LOST = "lost"
    """The object was present on the frame before and is absent here."""
    AREA = "area jump"
    """It is much larger or smaller than on the frame before."""
    UNCERTAIN = "uncertain"
    """The model is uncertain here, and was not on the frame before."""
    SCORE = "falling score"
    """The predicted IoU is well below that of the frames before."""
    TOUCHING = "touching"
    """It touches another object, and did not on the frames before."""
    BORDER = "border"
    """It reaches the edge of the image, and did not on the frames before."""
    UNSEEN = "tracked, not detected"
    """The detector sees no object under its mask, and did on the frame before."""
    UNTRACKED = "detected, not tracked"
    """The detector surely sees an object that has no track; the track of the flag is 0."""


@dataclass(frozen=True)
class ReviewFlag:
    """A track on a frame that needs review.

    Parameters
    ----------
    severity
        0 to 1.
    detail
        A short text with the observed values.
    other
        The track that it touches.
    yx
        Where the object is that has no track, (y, x) in data pixels.
    """

    track: int
    frame: int
    reason: Reason
    severity: float
    detail: str = ""
    other: int | None = None
    yx: tuple[float, float] | None = None


@dataclass(frozen=True)
class Thresholds:
    """Limits beyond which a mask is flagged.

    "Before" is in the direction of propagation: the next higher frame for a backward propagation.

    Parameters
    ----------
    area_ratio, area_share
        An area is a jump if it is this many times larger or smaller than before, and also differs
        from the extrapolation of the two frames before by this share of the track's median area.
        The latter is because nuclei grow and shrink steadily along z.
    area_px
        Objects smaller than this before and after never jump, because one row of pixels changes
        them by as much.
    score_fall, score_frames
        A predicted IoU is falling if it is this much below the best of so many frames before.
    lost_share
        An object that disappears from less than this share of its median area is not lost,
        because objects end like that in z.
    contact_share
        Objects touch if they share this part of the smaller one's outline.
    new_frames
        A contact with an object or the border is flagged if there was none on so many frames
        before, so that a contact on every other frame is flagged once.
    """

    area_ratio: float = 1.6
    area_share: float = 0.35
    area_px: int = 30
    score_fall: float = 0.15
    score_frames: int = 5
    lost_share: float = 0.3
    contact_share: float = 0.12
    new_frames: int = 3
    detected_share: float = 0.5
    sureness: float = 0.7


@dataclass(frozen=True)
class ObjectExtent:
    """The area of an object on a label plane, and the length of its outline in pixel edges.

    `contacts` are the edges shared with other tracks, `border_px` those at the image border.
    """

    area_px: int
    outline_px: int
    contacts: Mapping[int, int] = field(default_factory=dict)
    border_px: int = 0


FrameExtents = Mapping[int, Mapping[int, ObjectExtent]]
"""Extents by frame, then by track."""


class Review(Sequence[ReviewFlag]):
    """Flags in order of frames; on one frame the most severe first."""

    def __init__(self, review_flags: Iterable[ReviewFlag] = ()) -> None:
        self._flags = tuple(sorted(review_flags, key=_make_sort_key))
        self._sort_keys = [_make_sort_key(each) for each in self._flags]

    def __len__(self) -> int:
        return len(self._flags)

    @overload
    def __getitem__(self, index: int) -> ReviewFlag: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ReviewFlag, ...]: ...

    def __getitem__(self, index: int | slice) -> ReviewFlag | tuple[ReviewFlag, ...]:
        return self._flags[index]

    def __iter__(self) -> Iterator[ReviewFlag]:
        return iter(self._flags)

    def get_flags(self, track: int, frame: int) -> tuple[ReviewFlag, ...]:
        """The flags of a track on a frame and of the tracks touching it, most severe first."""
        low, high = (
            bisect_left(self._sort_keys, (frame,)),
            bisect_left(self._sort_keys, (frame + 1,)),
        )
        return tuple(each for each in self._flags[low:high] if track in (each.track, each.other))

    def find_next(self, frame: int, current: ReviewFlag | None = None) -> ReviewFlag | None:
        """The first flag after `current`, or after `frame` if none is given; None at the end."""
        index = (
            bisect_right(self._sort_keys, _make_sort_key(current))
            if current
            else bisect_left(self._sort_keys, (frame + 1,))
        )
        return self._flags[index] if index < len(self._flags) else None

    def find_previous(self, frame: int, current: ReviewFlag | None = None) -> ReviewFlag | None:
        """The last flag before `current`, or before `frame` if none is given; None at the start."""
        index = bisect_left(self._sort_keys, _make_sort_key(current) if current else (frame,))
        return self._flags[index - 1] if index else None

    def sort_by_severity(self) -> tuple[ReviewFlag, ...]:
        """All flags, the most severe first."""
        return tuple(sorted(self._flags, key=lambda each: (-each.severity, _make_sort_key(each))))


def review_session(session: Session, *, thresholds: Thresholds | None = None) -> Review:
    """The review of a session; each label plane is read once."""
    found = find_review_flags(
        session.get_records(),
        compute_frame_extents(session.video, session.compute_label_plane),
        thresholds=thresholds,
    )
    if session.evidence is None or "review" not in session.settings.evidence_parts:
        return found
    compared = compare_detections(session, session.evidence, thresholds or Thresholds())
    return Review([*found, *compared])


def compare_detections(
    session: Session, evidence: ObjectEvidence, thresholds: Thresholds
) -> Iterator[ReviewFlag]:
    """Flags of tracks that are not detected, and of detected objects that are not tracked.

    Only frames that were propagated over are compared. An object or a track is flagged once, on
    the first frame of those in a row on which it is so.
    """
    records = session.get_records()
    before: dict[int, bool] = {}
    missed: np.ndarray | None = None
    for frame in sorted({frame for _, frame in records}):
        labels, detections = session.compute_label_plane(frame), evidence.get_frame(frame)
        for track in np.unique(labels[labels > 0]).tolist():
            on = detections.labels[labels == track] > 0
            seen = bool(on.mean() >= thresholds.detected_share)
            record = records.get((track, frame))
            prompted = record is not None and record.presence in CONDITIONING_PRESENCES
            if not seen and not prompted and before.get(track, True):
                detail = f"{round(100 * float(on.mean()))} % of it is detected"
                yield ReviewFlag(track, frame, Reason.UNSEEN, 0.6, detail)
            before[track] = seen
        untracked = np.zeros(labels.shape, bool)
        for label in _find_untracked(labels, detections, thresholds):
            mask = detections.labels == label
            untracked |= mask
            if missed is not None and (missed & mask).any():
                continue
            y, x = np.argwhere(mask).mean(axis=0)
            sureness = float(detections.sureness[label - 1])
            where = f"at y {y:.0f}, x {x:.0f}"
            yield ReviewFlag(
                0, frame, Reason.UNTRACKED, round(sureness / 2, 3), where, yx=(float(y), float(x))
            )
        missed = untracked


def _find_untracked(
    labels: np.ndarray, detections: FrameDetections, thresholds: Thresholds
) -> list[int]:
    """The labels of sure detections that no track covers."""
    count = len(detections.sureness) + 1
    area = np.bincount(detections.labels.ravel(), minlength=count)
    covered = np.bincount(detections.labels[labels > 0], minlength=count)
    sure = np.concatenate([[False], detections.sureness >= thresholds.sureness])
    free = sure & (area > 0) & (covered < thresholds.detected_share * area)
    return [int(label) for label in np.flatnonzero(free)]


def compute_frame_extents(
    video: Video, read_label_plane: Callable[[int], np.ndarray]
) -> dict[int, dict[int, ObjectExtent]]:
    """The extents of all frames of a video; `read_label_plane` gives the labels of a frame."""
    return {frame: compute_extents(read_label_plane(frame)) for frame in range(len(video))}


def find_review_flags(
    records: Mapping[tuple[int, int], SegmentRecord],
    extents: FrameExtents,
    *,
    thresholds: Thresholds | None = None,
) -> Review:
    """Review records by (track, frame) and the extents of the label planes.

    Locked masks are never flagged, prompted ones only if other objects have all of their pixels.
    A track that returns from a jump to its former area is not flagged again.
    """
    limits = thresholds or Thresholds()
    by_track: dict[int, dict[int, _TrackFrame]] = defaultdict(dict)
    for (track, frame), record in records.items():
        by_track[track][frame] = _TrackFrame(record, extents.get(frame, {}).get(track))
    found: list[ReviewFlag] = []
    for track, track_frames in by_track.items():
        found += _TrackReview(track, track_frames, limits).find_flags()
    return Review(found + _find_touching(by_track, limits))


def compute_extents(plane: np.ndarray) -> dict[int, ObjectExtent]:
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
        track: ObjectExtent(
            int(area[code]), int(outline[code]), contacts.get(track, {}), int(border[code])
        )
        for code, track in enumerate(ids.tolist())
        if track
    }


@dataclass(frozen=True)
class _TrackFrame:
    """One track on one frame: its record, and its extent (None if absent or hidden)."""

    record: SegmentRecord
    extent: ObjectExtent | None

    @property
    def conditioning(self) -> bool:
        """Whether it is prompted or locked."""
        return self.record.presence in CONDITIONING_PRESENCES

    @property
    def area_px(self) -> int:
        return self.extent.area_px if self.extent and self.record.presence != Presence.ABSENT else 0

    @property
    def previous_frame(self) -> int:
        """The frame before, in the direction of propagation."""
        return self.record.frame + self.backward_step

    @property
    def backward_step(self) -> int:
        """The step to the frame before."""
        return 1 if self.record.forward is False else -1

    def previous_frames(self, count: int) -> range:
        """The given number of frames before, the nearest first."""
        return range(
            self.previous_frame,
            self.previous_frame + count * self.backward_step,
            self.backward_step,
        )


@dataclass(frozen=True)
class _TrackReview:
    """All frames of one track."""

    track: int
    track_frames: Mapping[int, _TrackFrame]
    thresholds: Thresholds

    def find_flags(self) -> list[ReviewFlag]:
        usual_px = median(
            [
                track_frame.area_px
                for track_frame in self.track_frames.values()
                if track_frame.area_px
            ]
            or [0]
        )
        found: list[ReviewFlag | None] = []
        for track_frame in self.track_frames.values():
            before = self.track_frames.get(track_frame.previous_frame)
            if track_frame.record.presence == Presence.PROMPTED and not track_frame.area_px:
                found.append(
                    self._make_flag(track_frame, Reason.LOST, 0.9, "hidden by other objects")
                )
            if track_frame.conditioning or before is None or not before.area_px:
                continue
            if not track_frame.area_px:
                found.append(self._check_lost(track_frame, before, usual_px))
                continue
            found += [
                self._check_area_jump(track_frame, before, usual_px),
                self._check_iou(track_frame, before),
                self._check_border(track_frame),
            ]
        return [each for each in found if each]

    def _make_flag(
        self, track_frame: _TrackFrame, reason: Reason, severity: float, detail: str
    ) -> ReviewFlag:
        return ReviewFlag(
            self.track,
            track_frame.record.frame,
            reason,
            round(min(1.0, max(0.0, severity)), 3),
            detail,
        )

    def _check_lost(
        self, track_frame: _TrackFrame, previous: _TrackFrame, median_px: float
    ) -> ReviewFlag | None:
        share = previous.area_px / median_px
        if share < self.thresholds.lost_share:
            return None
        assert previous.extent
        if track_frame.record.presence != Presence.ABSENT:
            return self._make_flag(track_frame, Reason.LOST, 0.9, "hidden by other objects")
        left = previous.extent.border_px > 0  # it may have moved out of the image
        return self._make_flag(
            track_frame,
            Reason.LOST,
            share * (0.5 if left else 1.0),
            f"was {previous.area_px} px" + (" at the border" if left else ""),
        )

    def _check_area_jump(
        self, track_frame: _TrackFrame, previous: _TrackFrame, median_px: float
    ) -> ReviewFlag | None:
        if not self._is_area_jump(previous, track_frame, median_px):
            return None
        earlier = self.track_frames.get(previous.previous_frame)
        if (
            earlier
            and not previous.conditioning
            and self._is_area_jump(earlier, previous, median_px)
            and not self._is_area_jump(earlier, track_frame, median_px)
        ):
            return None  # it returns from a jump
        change = abs(math.log(track_frame.area_px / previous.area_px))
        return self._make_flag(
            track_frame,
            Reason.AREA,
            0.4 + 0.3 * change,
            f"{previous.area_px} → {track_frame.area_px} px",
        )

    def _is_area_jump(self, one: _TrackFrame, other: _TrackFrame, median_px: float) -> bool:
        """Whether the area of `other` does not continue that of `one`, which comes before it."""
        limits = self.thresholds
        small, large = sorted((one.area_px, other.area_px))
        if not small or large < limits.area_px or large < limits.area_ratio * small:
            return False
        earlier = self.track_frames.get(one.previous_frame)
        expected = (
            max(0, 2 * one.area_px - earlier.area_px)
            if earlier and earlier.area_px
            else one.area_px
        )
        return abs(other.area_px - expected) >= limits.area_share * median_px

    def _check_iou(self, track_frame: _TrackFrame, previous: _TrackFrame) -> ReviewFlag | None:
        if track_frame.record.presence == Presence.UNCERTAIN:
            if previous.record.presence == Presence.UNCERTAIN:
                return None
            return self._make_flag(
                track_frame,
                Reason.UNCERTAIN,
                0.9 - track_frame.record.iou / 2,
                f"predicted IoU {track_frame.record.iou:.2f}",
            )
        best = self._compute_best_previous_iou(track_frame)
        fall = best - track_frame.record.iou
        if (
            fall < self.thresholds.score_fall
            or self._compute_best_previous_iou(previous) - previous.record.iou
            >= self.thresholds.score_fall
        ):
            return None
        return self._make_flag(
            track_frame,
            Reason.SCORE,
            0.3 + fall,
            f"predicted IoU {best:.2f} → {track_frame.record.iou:.2f}",
        )

    def _compute_best_previous_iou(self, track_frame: _TrackFrame) -> float:
        """The best predicted IoU of the frames before, or the frame's own if there are none."""
        frames = [
            frame
            for frame in track_frame.previous_frames(self.thresholds.score_frames)
            if frame in self.track_frames
        ]
        return max(
            (self.track_frames[frame].record.iou for frame in frames),
            default=track_frame.record.iou,
        )

    def _check_border(self, track_frame: _TrackFrame) -> ReviewFlag | None:
        assert track_frame.extent
        behind = [
            self.track_frames[frame].extent
            for frame in track_frame.previous_frames(self.thresholds.new_frames)
            if frame in self.track_frames
        ]
        if not track_frame.extent.border_px or any(
            extent and extent.border_px for extent in behind
        ):
            return None
        return self._make_flag(
            track_frame,
            Reason.BORDER,
            0.1 + track_frame.extent.border_px / track_frame.extent.outline_px,
            "reaches the edge of the image",
        )


def _find_touching(
    by_track: Mapping[int, Mapping[int, _TrackFrame]], thresholds: Thresholds
) -> list[ReviewFlag]:
    """Flags of touching objects, once per pair: for the unprompted track, else the lower id."""
    found = []
    for track, track_frames in by_track.items():
        for frame, track_frame in track_frames.items():
            for other in track_frame.extent.contacts if track_frame.extent else ():
                theirs = by_track.get(other, {}).get(frame)
                if (
                    theirs is None
                    or track_frame.conditioning
                    or (track > other and not theirs.conditioning)
                ):
                    continue
                share = _compute_contact_share(by_track, track, other, frame)
                behind = [
                    _compute_contact_share(by_track, track, other, earlier)
                    for earlier in track_frame.previous_frames(thresholds.new_frames)
                ]
                if share >= thresholds.contact_share > max(behind):
                    severity = round(min(1.0, 0.2 + share), 3)
                    found.append(
                        ReviewFlag(
                            track,
                            frame,
                            Reason.TOUCHING,
                            severity,
                            f"touches object {other}",
                            other,
                        )
                    )
    return found


def _compute_contact_share(
    by_track: Mapping[int, Mapping[int, _TrackFrame]], track: int, other: int, frame: int
) -> float:
    """The part of the smaller one's outline that two tracks share on a frame."""
    one, two = (by_track[each].get(frame) for each in (track, other))
    if one is None or two is None or one.extent is None or two.extent is None:
        return 0.0
    return one.extent.contacts.get(other, 0) / min(one.extent.outline_px, two.extent.outline_px)


_REASON_RANK = {reason: number for number, reason in enumerate(Reason)}


def _make_sort_key(flag: ReviewFlag) -> tuple[int, ...]:
    """By frame, then the most severe (in thousandths, for whole numbers), then by track."""
    return (
        flag.frame,
        -round(flag.severity * 1000),
        _REASON_RANK[flag.reason],
        flag.track,
        flag.other or 0,
    )

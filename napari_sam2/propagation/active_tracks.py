"""ActiveTracks: the tracks that are still propagating; each starts and ends on its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sam2.core.plan import Propagation, PropagationRange, Step
from napari_sam2.core.result import Segment, compute_segment_iou

UNCHANGED_PROBABILITY = 0.02
"""Two masks are equal if no cell's probability differs by more than this.

They can then differ only in cells with probabilities of 0.48 to 0.52, and their memories by less
than the model's own noise.
"""

UNCHANGED_IOU = 0.85
"""Masks propagated in opposite directions are equal from this IoU on.

They are never identical, because a moving object is drawn a little towards where it came from (IoU
0.87 to 0.91 for nuclei of 22 pixels that move by 1.4).
"""

UNCHANGED_FRAMES = 2
"""Equal masks in a row after which a correction stops propagating."""


@dataclass
class _ActiveTrack:
    stop_when_unchanged: bool
    absent_frames: int = 0
    unchanged_frames: int = 0


@dataclass
class ActiveTracks:
    """The tracks that are propagating in a plan.

    `patience` is the number of frames in a row a track may be absent before it ends; None: it
    propagates to the end of its range.
    """

    plan: Propagation
    patience: int | None
    _active: dict[tuple[int, bool], _ActiveTrack] = field(default_factory=dict)
    _ranges: dict[tuple[int, bool], list[PropagationRange]] = field(init=False)

    def __post_init__(self) -> None:
        self._ranges = defaultdict(list)
        for each in self.plan.ranges:
            if each.frames:
                self._ranges[(each.frames[0], each.forward)].append(each)

    def start(self, step: Step) -> list[int]:
        """Start the ranges that begin on this step and return their tracks."""
        started = self._ranges[(step.frame, step.forward)]
        for each in started:
            self._active[(each.track, step.forward)] = _ActiveTrack(each.stop_when_unchanged)
        return [each.track for each in started]

    def get_tracks(self, step: Step) -> list[int]:
        """The tracks that are active on this step."""
        return [track for track in step.tracks if (track, step.forward) in self._active]

    def can_stop_when_unchanged(self, track: int, step: Step) -> bool:
        """Whether this track may stop as soon as its masks do not change."""
        return self._active[(track, step.forward)].stop_when_unchanged

    def update(
        self, step: Step, segment: Segment, old: Segment | None, *, reversed_direction: bool = False
    ) -> None:
        """Register a new segment; the track ends if it is lost or does not change any more.

        Parameters
        ----------
        old
            The segment on that frame before this propagation.
        reversed_direction
            Whether `old` was propagated in the other direction.
        """
        key = (segment.track, step.forward)
        active = self._active[key]
        active.absent_frames = 0 if segment.present else active.absent_frames + 1
        agrees = (
            active.stop_when_unchanged
            and old is not None
            and (is_unchanged(old, segment) or (reversed_direction and is_similar(old, segment)))
        )
        active.unchanged_frames = active.unchanged_frames + 1 if agrees else 0
        lost = self.patience is not None and active.absent_frames >= self.patience
        if lost or active.unchanged_frames >= UNCHANGED_FRAMES:
            del self._active[key]

    def pass_conditioning_frame(self, step: Step, track: int) -> None:
        """Register a prompted or locked frame, on which the track is kept as it is."""
        active = self._active[(track, step.forward)]
        active.absent_frames = active.unchanged_frames = 0

    def export_state(self) -> list[Any]:
        """The state to continue later, as JSON values."""
        return [
            [
                track,
                forward,
                active.stop_when_unchanged,
                active.absent_frames,
                active.unchanged_frames,
            ]
            for (track, forward), active in self._active.items()
        ]

    def restore_state(self, state: list[Any]) -> None:
        """Continue from a state made by `export_state`."""
        self._active = {(track, forward): _ActiveTrack(*rest) for track, forward, *rest in state}


def is_unchanged(old: Segment, new: Segment) -> bool:
    """Whether two segments of a track on a frame are equal within `UNCHANGED_PROBABILITY`."""
    if (
        old.present != new.present
        or old.logits.shape != new.logits.shape
        or (old.window, old.local_memory) != (new.window, new.local_memory)
    ):
        return False
    return bool(
        np.abs(_compute_probability(old.logits) - _compute_probability(new.logits)).max()
        <= UNCHANGED_PROBABILITY
    )


def is_similar(old: Segment, new: Segment) -> bool:
    """Whether two masks agree to `UNCHANGED_IOU`, or both are absent; windows may differ."""
    if not (old.present and new.present):
        return old.present == new.present
    return compute_segment_iou(old, new) >= UNCHANGED_IOU


def _compute_probability(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -32, 32))))

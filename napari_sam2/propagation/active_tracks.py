"""Walkers: which tracks are still on their way.

They start, get lost, settle and arrive on their own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sam2.core.plan import Propagation, PropagationRange, Step
from napari_sam2.core.result import Segment, compute_segment_iou

UNCHANGED_PROBABILITY = 0.02
"""Two answers are equal where no cell's probability differs by more than this: their masks can then differ only where a
cell is undecided (0.48 to 0.52), and the memories made of them by less than the model's own noise.
"""

UNCHANGED_IOU = 0.85
"""A walk against the way in which the old answers were made never gives the same: an object that moves is drawn a little
towards where it comes from (IoU 0.87 to 0.91 for nuclei of 22 pixels that move by 1.4). The old
answers stand where the new ones agree with them so far."""

UNCHANGED_FRAMES = 2
"""Equal answers in a row after which a correction is taken to change nothing further on."""


@dataclass
class _ActiveTrack:
    stop_when_unchanged: bool
    absent_frames: int = 0
    unchanged_frames: int = 0


@dataclass
class ActiveTracks:
    """The tracks on their way through a Propagation.

    `patience` is the number of frames in a row a track may be absent before it leaves; None lets it
    walk to the end.
    """

    plan: Propagation
    patience: int | None
    _active: dict[tuple[int, bool], _ActiveTrack] = field(default_factory=dict)
    _ranges: dict[tuple[int, bool], list[PropagationRange]] = field(init=False)

    def __post_init__(self) -> None:
        self._ranges = defaultdict(list)
        for leg in self.plan.ranges:
            if leg.frames:
                self._ranges[(leg.frames[0], leg.forward)].append(leg)

    def start(self, step: Step) -> list[int]:
        """Start the legs that begin on this step: their tracks."""
        legs = self._ranges[(step.frame, step.forward)]
        for leg in legs:
            self._active[(leg.track, step.forward)] = _ActiveTrack(leg.stop_when_unchanged)
        return [leg.track for leg in legs]

    def get_tracks(self, step: Step) -> list[int]:
        """The tracks that walk on this step."""
        return [track for track in step.tracks if (track, step.forward) in self._active]

    def can_stop_when_unchanged(self, track: int, step: Step) -> bool:
        """Whether this track may stop where nothing changes any more."""
        return self._active[(track, step.forward)].stop_when_unchanged

    def update(
        self, step: Step, segment: Segment, old: Segment | None, *, reversed_direction: bool = False
    ) -> None:
        """Take note of an answer; the track leaves when it is lost or has settled.

        `old` is what was there before; `reversed_direction`, that it was walked the other way.
        """
        key = (segment.track, step.forward)
        walker = self._active[key]
        walker.absent_frames = 0 if segment.present else walker.absent_frames + 1
        agrees = (
            walker.stop_when_unchanged
            and old is not None
            and (is_unchanged(old, segment) or (reversed_direction and is_similar(old, segment)))
        )
        walker.unchanged_frames = walker.unchanged_frames + 1 if agrees else 0
        lost = self.patience is not None and walker.absent_frames >= self.patience
        if lost or walker.unchanged_frames >= UNCHANGED_FRAMES:
            del self._active[key]

    def pass_conditioning_frame(self, step: Step, track: int) -> None:
        """A frame that stays as it is: prompted or locked. The track is found again there."""
        walker = self._active[(track, step.forward)]
        walker.absent_frames = walker.unchanged_frames = 0

    def export_state(self) -> list[Any]:
        """What must be known to go on later, as JSON."""
        return [
            [
                track,
                forward,
                walker.stop_when_unchanged,
                walker.absent_frames,
                walker.unchanged_frames,
            ]
            for (track, forward), walker in self._active.items()
        ]

    def restore_state(self, state: list[Any]) -> None:
        """Go on from a `export_state`."""
        self._active = {(track, forward): _ActiveTrack(*rest) for track, forward, *rest in state}


def is_unchanged(old: Segment, new: Segment) -> bool:
    """Whether two answers for one track and frame are the same within `UNCHANGED_PROBABILITY`."""
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
    """Whether two masks of a track on a frame agree to `UNCHANGED_IOU`, or both are absent.

    Their windows may differ.
    """
    if not (old.present and new.present):
        return old.present == new.present
    return compute_segment_iou(old, new) >= UNCHANGED_IOU


def _compute_probability(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -32, 32))))

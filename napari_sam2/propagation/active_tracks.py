"""Walkers: which tracks are still on their way.

They start, get lost, settle and arrive on their own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sam2.core.plan import Leg, Propagation, Step
from napari_sam2.core.result import Segment, agreement

SETTLED_PROBABILITY = 0.02
"""Two answers are equal where no cell's probability differs by more than this: their masks can then differ only where a
cell is undecided (0.48 to 0.52), and the memories made of them by less than the model's own noise.
"""

SETTLED_IOU = 0.85
"""A walk against the way in which the old answers were made never gives the same: an object that moves is drawn a little
towards where it comes from (IoU 0.87 to 0.91 for nuclei of 22 pixels that move by 1.4). The old
answers stand where the new ones agree with them so far."""

SETTLED_FRAMES = 2
"""Equal answers in a row after which a correction is taken to change nothing further on."""


@dataclass
class _Walker:
    settles: bool
    absent: int = 0
    equal: int = 0


@dataclass
class Walkers:
    """The tracks on their way through a Propagation.

    `patience` is the number of frames in a row a track may be absent before it leaves; None lets it
    walk to the end.
    """

    plan: Propagation
    patience: int | None
    _active: dict[tuple[int, bool], _Walker] = field(default_factory=dict)
    _legs: dict[tuple[int, bool], list[Leg]] = field(init=False)

    def __post_init__(self) -> None:
        self._legs = defaultdict(list)
        for leg in self.plan.legs:
            if leg.frames:
                self._legs[(leg.frames[0], leg.forward)].append(leg)

    def begin(self, step: Step) -> list[int]:
        """Start the legs that begin on this step: their tracks."""
        legs = self._legs[(step.frame, step.forward)]
        for leg in legs:
            self._active[(leg.track, step.forward)] = _Walker(leg.settles)
        return [leg.track for leg in legs]

    def on(self, step: Step) -> list[int]:
        """The tracks that walk on this step."""
        return [track for track in step.tracks if (track, step.forward) in self._active]

    def settles(self, track: int, step: Step) -> bool:
        """Whether this track may stop where nothing changes any more."""
        return self._active[(track, step.forward)].settles

    def met(
        self, step: Step, segment: Segment, old: Segment | None, *, turned: bool = False
    ) -> None:
        """Take note of an answer; the track leaves when it is lost or has settled.

        `old` is what was there before; `turned`, that it was walked the other way.
        """
        key = (segment.track, step.forward)
        walker = self._active[key]
        walker.absent = 0 if segment.present else walker.absent + 1
        agrees = (
            walker.settles
            and old is not None
            and (equal(old, segment) or (turned and alike(old, segment)))
        )
        walker.equal = walker.equal + 1 if agrees else 0
        lost = self.patience is not None and walker.absent >= self.patience
        if lost or walker.equal >= SETTLED_FRAMES:
            del self._active[key]

    def passed(self, step: Step, track: int) -> None:
        """A frame that stays as it is: prompted or locked. The track is found again there."""
        walker = self._active[(track, step.forward)]
        walker.absent = walker.equal = 0

    def state(self) -> list[Any]:
        """What must be known to go on later, as JSON."""
        return [
            [track, forward, walker.settles, walker.absent, walker.equal]
            for (track, forward), walker in self._active.items()
        ]

    def restore(self, state: list[Any]) -> None:
        """Go on from a `state`."""
        self._active = {(track, forward): _Walker(*rest) for track, forward, *rest in state}


def equal(old: Segment, new: Segment) -> bool:
    """Whether two answers for one track and frame are the same within `SETTLED_PROBABILITY`."""
    if (
        old.present != new.present
        or old.logits.shape != new.logits.shape
        or (old.window, old.narrow) != (new.window, new.narrow)
    ):
        return False
    return bool(
        np.abs(_probability(old.logits) - _probability(new.logits)).max() <= SETTLED_PROBABILITY
    )


def alike(old: Segment, new: Segment) -> bool:
    """Whether two masks of a track on a frame agree to `SETTLED_IOU`, or both are absent.

    Their windows may differ.
    """
    if not (old.present and new.present):
        return old.present == new.present
    return agreement(old, new) >= SETTLED_IOU


def _probability(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -32, 32))))

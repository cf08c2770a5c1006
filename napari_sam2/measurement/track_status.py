"""The state of a track on a frame that its pixels do not show: score and presence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from napari_sam2.core.errors import MeasurementError
from napari_sam2.core.track import Presence


@dataclass(frozen=True)
class TrackStatus:
    """The state of a track on a frame.

    `score` is the IoU that the model predicts for its mask, about 0 to 1; None if it predicted
    none.
    """

    score: float | None
    presence: Presence

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise MeasurementError(
                f"score is {self.score!r}: expected a finite number, or None without a prediction"
            )
        object.__setattr__(self, "presence", Presence(self.presence))


TrackStatuses = Mapping[tuple[int, int], TrackStatus]
"""Status by (track, frame)."""

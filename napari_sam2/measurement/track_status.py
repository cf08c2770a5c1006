"""Fact: what the engine knows of one Track on one Frame that the pixels do not show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from napari_sam2.core.errors import MeasurementError
from napari_sam2.core.track import Presence


@dataclass(frozen=True)
class TrackStatus:
    """`score`, the IoU the model predicts for its own mask (about 0..1, None where it gave none), and the `presence`."""

    score: float | None
    presence: Presence

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise MeasurementError(
                f"score is {self.score!r}: expected a finite number, or None where the model "
                "gave none"
            )
        object.__setattr__(self, "presence", Presence(self.presence))


TrackStatuses = Mapping[tuple[int, int], TrackStatus]
"""Fact by (track, frame)."""

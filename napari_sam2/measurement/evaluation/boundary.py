"""Boundaries: how far the outlines of two label planes run along each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

TOLERANCE_PX = 2.0
"""How far apart two outlines may run and still be one."""


@dataclass(frozen=True)
class Outlined:
    """Pixels of the outlines of truth and prediction, and how many of each have the other within `TOLERANCE_PX`."""

    truth: int = 0
    truth_met: int = 0
    predicted: int = 0
    predicted_met: int = 0

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray) -> Outlined:
        """Of two (H, W) label planes."""
        theirs, ours = (
            find_boundaries(truth, mode="inner"),
            find_boundaries(predicted, mode="inner"),
        )
        met = [
            int(np.count_nonzero(a & _near(b))) if a.any() and b.any() else 0
            for a, b in ((theirs, ours), (ours, theirs))
        ]
        return cls(int(theirs.sum()), met[0], int(ours.sum()), met[1])

    def __add__(self, other: Outlined) -> Outlined:
        return Outlined(
            self.truth + other.truth,
            self.truth_met + other.truth_met,
            self.predicted + other.predicted,
            self.predicted_met + other.predicted_met,
        )

    @property
    def f(self) -> float:
        """Boundary F: harmonic mean of the parts met on either side; NaN where neither has an outline."""
        if not self.truth + self.predicted:
            return float("nan")
        if not (self.truth_met and self.predicted_met):
            return 0.0
        recall, precision = self.truth_met / self.truth, self.predicted_met / self.predicted
        return 2 * precision * recall / (precision + recall)


def _near(outline: np.ndarray) -> np.ndarray:
    return np.asarray(distance_transform_edt(~outline) <= TOLERANCE_PX)

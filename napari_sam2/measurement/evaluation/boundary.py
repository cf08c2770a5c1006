"""Boundaries: how far the outlines of two label planes run along each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

TOLERANCE_PX = 2.0
"""How far apart two outlines may run and still be one."""


@dataclass(frozen=True)
class OutlineOverlap:
    """Pixels of the outlines of truth and prediction, and how many of each have the other within `TOLERANCE_PX`."""

    truth: int = 0
    truth_matched: int = 0
    predicted: int = 0
    predicted_matched: int = 0

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray) -> OutlineOverlap:
        """Of two (H, W) label planes."""
        theirs, ours = (
            find_boundaries(truth, mode="inner"),
            find_boundaries(predicted, mode="inner"),
        )
        met = [
            int(np.count_nonzero(a & _find_within_tolerance(b))) if a.any() and b.any() else 0
            for a, b in ((theirs, ours), (ours, theirs))
        ]
        return cls(int(theirs.sum()), met[0], int(ours.sum()), met[1])

    def __add__(self, other: OutlineOverlap) -> OutlineOverlap:
        return OutlineOverlap(
            self.truth + other.truth,
            self.truth_matched + other.truth_matched,
            self.predicted + other.predicted,
            self.predicted_matched + other.predicted_matched,
        )

    @property
    def f_score(self) -> float:
        """Boundary F: harmonic mean of the parts met on either side; NaN where neither has an outline."""
        if not self.truth + self.predicted:
            return float("nan")
        if not (self.truth_matched and self.predicted_matched):
            return 0.0
        recall, precision = self.truth_matched / self.truth, self.predicted_matched / self.predicted
        return 2 * precision * recall / (precision + recall)


def _find_within_tolerance(outline: np.ndarray) -> np.ndarray:
    return np.asarray(distance_transform_edt(~outline) <= TOLERANCE_PX)

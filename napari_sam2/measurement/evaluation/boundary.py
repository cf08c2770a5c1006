"""Agreement of the outlines of two label planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

TOLERANCE_PX = 2.0
"""Largest distance of matching outlines."""


@dataclass(frozen=True)
class OutlineOverlap:
    """Numbers of outline pixels, and of those within `TOLERANCE_PX` of the other outlines."""

    truth: int = 0
    truth_matched: int = 0
    predicted: int = 0
    predicted_matched: int = 0

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray) -> OutlineOverlap:
        """The overlap of two (H, W) label planes."""
        outline_truth = find_boundaries(truth, mode="inner")
        outline_predicted = find_boundaries(predicted, mode="inner")
        return cls(
            int(outline_truth.sum()),
            _count_matched(outline_truth, outline_predicted),
            int(outline_predicted.sum()),
            _count_matched(outline_predicted, outline_truth),
        )

    def __add__(self, other: OutlineOverlap) -> OutlineOverlap:
        return OutlineOverlap(
            self.truth + other.truth,
            self.truth_matched + other.truth_matched,
            self.predicted + other.predicted,
            self.predicted_matched + other.predicted_matched,
        )

    @property
    def f_score(self) -> float:
        """Boundary F: the harmonic mean of the matched parts; NaN without any outline."""
        if not self.truth + self.predicted:
            return float("nan")
        if not (self.truth_matched and self.predicted_matched):
            return 0.0
        recall, precision = self.truth_matched / self.truth, self.predicted_matched / self.predicted
        return 2 * precision * recall / (precision + recall)


def _count_matched(outline: np.ndarray, other: np.ndarray) -> int:
    """The number of pixels of an outline within `TOLERANCE_PX` of another one."""
    if not (outline.any() and other.any()):
        return 0
    return int(np.count_nonzero(distance_transform_edt(~other)[outline] <= TOLERANCE_PX))

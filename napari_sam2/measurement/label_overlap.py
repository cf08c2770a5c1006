"""Overlap of two label planes, and the one-to-one matching of their objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MATCHED_IOU = 0.5
"""Smallest IoU of a match; above it, no object has two candidates."""


@dataclass(frozen=True, eq=False)
class LabelOverlap:
    """The overlap of two label planes.

    Parameters
    ----------
    first, second
        (n,) labels of the objects of each plane, ascending; `first_px` and `second_px` are their
        areas.
    first_index, second_index
        (k,) positions in these of every pair of objects that overlap.
    shared_px
        (k,) pixels that each pair shares.
    """

    first: np.ndarray
    first_px: np.ndarray
    second: np.ndarray
    second_px: np.ndarray
    first_index: np.ndarray
    second_index: np.ndarray
    shared_px: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> LabelOverlap:
        """The overlap of two (H, W) planes of label values."""
        first_labels, first_px = np.unique(first[first > 0], return_counts=True)
        second_labels, second_px = np.unique(second[second > 0], return_counts=True)
        both = (first > 0) & (second > 0)
        firsts = np.searchsorted(first_labels, first[both])
        seconds = np.searchsorted(second_labels, second[both])
        count = max(1, second_labels.size)
        codes, shared_px = np.unique(firsts * count + seconds, return_counts=True)
        pairs = np.divmod(codes, count)
        return cls(first_labels, first_px, second_labels, second_px, *pairs, shared_px)

    @property
    def iou(self) -> np.ndarray:
        """(k,) intersection over union of each pair."""
        union = self.first_px[self.first_index] + self.second_px[self.second_index] - self.shared_px
        return np.asarray(self.shared_px / union)

    def match_pairs(self) -> np.ndarray:
        """(k,) True for the pairs that are one object.

        The matching has as many pairs with an IoU of at least `MATCHED_IOU` as possible, then the
        largest sum of IoU. It is the same for every larger threshold, because a pair above the
        threshold excludes all others of its objects.
        """
        iou = self.iou
        return assign(
            self.first_index, self.second_index, iou + (iou >= MATCHED_IOU) * (iou.size + 1.0)
        )


def assign(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(k,) True for the pairs of the one-to-one assignment with the largest sum of weights.

    The solution is optimal. Each connected group of pairs is solved separately, so that the cost
    matrices stay small for thousands of objects.

    Parameters
    ----------
    first, second
        (k,) positions from 0 that each pair joins; other pairs cannot be chosen.
    weights
        (k,) weight of each pair.
    """
    chosen = np.zeros(first.size, dtype=bool)
    if not first.size:
        return chosen
    nodes = int(first.max()) + int(second.max()) + 2
    graph = coo_array(
        (np.ones(first.size), (first, second + first.max() + 1)), shape=(nodes, nodes)
    )
    component = connected_components(graph, directed=False)[1][first]
    order = np.argsort(component, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(component[order])) + 1):
        rows, columns = (np.unique(side[group], return_inverse=True)[1] for side in (first, second))
        pair = np.full((rows.max() + 1, columns.max() + 1), -1)
        gain = np.zeros(pair.shape)
        pair[rows, columns], gain[rows, columns] = group, weights[group]
        best = pair[linear_sum_assignment(gain, maximize=True)]
        chosen[best[best >= 0]] = True
    return chosen

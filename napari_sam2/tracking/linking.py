"""Linking: which object of one frame is which on the next, from their label planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import regionprops_table

from napari_sam2.measurement.label_overlap import LabelOverlap, assign

UNAMBIGUOUS_IOU = 0.5
"""Two objects that overlap at least this much are the same; the model is not needed."""

_MIN_IOU = 0.1  # a smaller overlap is chance
# of the usual distance between neighbours: an object that moved further may be its neighbour
_MAX_NEIGHBOUR_FRACTION = 0.7
# weight of two objects at the same place without overlap: less than any overlap that counts
_MAX_DISTANCE_WEIGHT = 0.2

Weights = dict[tuple[int, int], float]
"""Weight by pair of labels: previous frame, current frame."""


@dataclass(frozen=True, eq=False)
class LabelCentroids:
    """Objects of a label plane: (n,) labels ascending, (n, 2) centroids, (n,) pixels."""

    labels: np.ndarray
    yx: np.ndarray
    area_px: np.ndarray

    @classmethod
    def of(cls, plane: np.ndarray) -> LabelCentroids:
        """Objects of an (H, W) label plane."""
        labels = np.unique(plane[plane > 0])
        if not labels.size:
            return cls(labels.astype(np.int64), np.zeros((0, 2)), np.zeros(0))
        codes = np.searchsorted(labels, plane) + 1
        found = regionprops_table(np.where(plane > 0, codes, 0), properties=("centroid", "area"))
        centroids = np.stack([found["centroid-0"], found["centroid-1"]], axis=1)
        return cls(labels.astype(np.int64), centroids, found["area"])


def link_frames(
    previous: np.ndarray,
    current: np.ndarray,
    *,
    predicted: np.ndarray | None = None,
    max_distance_px: float = 0.0,
) -> dict[int, int]:
    """Link each object of `previous` to at most one object of `current`.

    The assignment is optimal over all pairs at once.

    Parameters
    ----------
    previous, current
        (H, W) label planes: tracks where they were last seen, and objects of the current frame.
    predicted
        (H, W) label plane of some tracks where a model predicts them on the current frame. The
        larger of the two overlaps counts.
    max_distance_px
        How far an object may lie from the track if they do not overlap. It is less where objects
        are close together. 0: they must overlap.

    Returns
    -------
    dict
        Labels of `current` by labels of `previous`; objects without a partner are left out.
    """
    weights: Weights = {}
    for plane in (previous,) if predicted is None else (previous, predicted):
        for key, weight in _compute_overlap_weights(plane, current).items():
            weights[key] = max(weights.get(key, 0.0), weight)
    places, others = LabelCentroids.of(previous), LabelCentroids.of(current)
    reach = min(max_distance_px, _compute_max_displacement(places))
    for key, weight in _compute_distance_weights(places, others, reach).items():
        weights[key] = max(weights.get(key, 0.0), weight)
    return _assign_pairs(weights)


def find_ambiguous_tracks(previous: np.ndarray, current: np.ndarray) -> list[int]:
    """Tracks that overlap alone does not link.

    No object of `current` overlaps them by `UNAMBIGUOUS_IOU`, or the one that does also overlaps
    another track.
    """
    overlap = LabelOverlap.of(previous, current)
    touched, counts = np.unique(overlap.second_index[overlap.iou >= _MIN_IOU], return_counts=True)
    contested = set(touched[counts > 1].tolist())
    certain = overlap.iou >= UNAMBIGUOUS_IOU
    pairs = zip(overlap.first_index[certain], overlap.second_index[certain], strict=True)
    linked = {int(first) for first, second in pairs if int(second) not in contested}
    return [int(label) for index, label in enumerate(overlap.first) if index not in linked]


def _compute_overlap_weights(previous: np.ndarray, current: np.ndarray) -> Weights:
    overlap = LabelOverlap.of(previous, current)
    firsts = overlap.first[overlap.first_index]
    seconds = overlap.second[overlap.second_index]
    return {
        (int(first), int(second)): _MAX_DISTANCE_WEIGHT + float(iou)
        for first, second, iou in zip(firsts, seconds, overlap.iou, strict=True)
        if iou >= _MIN_IOU
    }


def _compute_max_displacement(objects: LabelCentroids) -> float:
    """Distance that an object can move without being taken for its neighbour."""
    if objects.labels.size < 3:  # the distance of two objects says nothing about others
        return float("inf")
    distances = np.asarray(cKDTree(objects.yx).query(objects.yx, k=2)[0])
    return _MAX_NEIGHBOUR_FRACTION * float(np.median(distances[:, 1]))


def _compute_distance_weights(
    previous: LabelCentroids, current: LabelCentroids, max_distance_px: float
) -> Weights:
    """Weights of pairs within reach: larger if they are nearer and more alike in size."""
    if max_distance_px <= 0 or not previous.labels.size or not current.labels.size:
        return {}
    weights = {}
    near = cKDTree(current.yx).query_ball_point(previous.yx, max_distance_px)
    for first, seconds in enumerate(near):
        for second in seconds:
            away = float(np.hypot(*(previous.yx[first] - current.yx[second]))) / max_distance_px
            areas = previous.area_px[first], current.area_px[second]
            alike = float(min(areas) / max(areas))
            key = int(previous.labels[first]), int(current.labels[second])
            weights[key] = _MAX_DISTANCE_WEIGHT * (1 - away) * alike
    return weights


def _assign_pairs(weights: Weights) -> dict[int, int]:
    """The one-to-one assignment with the largest sum of weights."""
    pairs = list(weights)
    if not pairs:
        return {}
    first, second = (
        np.unique([pair[side] for pair in pairs], return_inverse=True)[1] for side in (0, 1)
    )
    chosen = assign(first, second, np.array([weights[pair] for pair in pairs]))
    return {pair[0]: pair[1] for pair, taken in zip(pairs, chosen, strict=True) if taken}

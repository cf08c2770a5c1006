"""Linking: which object of one frame is which on the next, from label planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import regionprops_table

from napari_sam2.measurement.evaluation.matching import LabelOverlap, assign

UNAMBIGUOUS_IOU = 0.5
"""From here on an object is the one it overlaps, and nobody needs to be asked."""
_MIN_IOU = 0.1  # below it, overlap is chance
_MAX_NEIGHBOUR_FRACTION = (
    0.7  # of the usual distance of neighbours: who goes further might as well be another
)
_MAX_DISTANCE_WEIGHT = (
    0.2  # what being near without overlap counts, at most: less than any overlap worth the name
)


@dataclass(frozen=True, eq=False)
class LabelCentroids:
    """Objects of a label plane: (n,) labels ascending, (n, 2) centroids, (n,) pixels."""

    labels: np.ndarray
    yx: np.ndarray
    area_px: np.ndarray

    @classmethod
    def of(cls, plane: np.ndarray) -> LabelCentroids:
        """The objects of an (H, W) label plane."""
        labels = np.unique(plane[plane > 0])
        if not labels.size:
            return cls(labels.astype(np.int64), np.zeros((0, 2)), np.zeros(0))
        codes = np.searchsorted(labels, plane) + 1
        found = regionprops_table(np.where(plane > 0, codes, 0), properties=("centroid", "area"))
        return cls(
            labels.astype(np.int64),
            np.stack([found["centroid-0"], found["centroid-1"]], axis=1),
            found["area"],
        )


def link_frames(
    previous: np.ndarray,
    current: np.ndarray,
    *,
    propagated: np.ndarray | None = None,
    max_distance_px: float = 0.0,
) -> dict[int, int]:
    """The object of `current` by the object of `previous` it is, one to one; those without partner are left out.

    Parameters
    ----------
    previous, current
        (H, W) label planes: tracks where they were last seen, objects of the frame that is linked.
    propagated
        Where a model says that the tracks are on that frame: a label plane of tracks, any of them.
        An object counts by the larger of its IoU with where the track was and with where it is said
        to be.
    max_distance_px
        How far an object may lie from where the track was if they do not overlap at all, and less
        where objects lie closer together than that; 0: not at all.

    The assignment is optimal over all pairs at once.
    """
    places, others = LabelCentroids.of(previous), LabelCentroids.of(current)
    weights: dict[tuple[int, int], float] = {}
    for plane in (previous,) if propagated is None else (previous, propagated):
        overlap = LabelOverlap.of(plane, current)
        for a, b, iou in zip(
            overlap.truth[overlap.truth_index],
            overlap.predicted[overlap.predicted_index],
            overlap.iou,
            strict=True,
        ):
            if iou >= _MIN_IOU:
                key = (int(a), int(b))
                weights[key] = max(weights.get(key, 0.0), _MAX_DISTANCE_WEIGHT + float(iou))
    for key, weight in _compute_distance_weights(
        places, others, min(max_distance_px, _compute_max_displacement(places))
    ).items():
        weights[key] = max(weights.get(key, 0.0), weight)
    pairs = list(weights)
    if not pairs:
        return {}
    first, second = (
        np.unique([pair[side] for pair in pairs], return_inverse=True)[1] for side in (0, 1)
    )
    chosen = assign(first, second, np.array([weights[pair] for pair in pairs]))
    return {pair[0]: pair[1] for pair, taken in zip(pairs, chosen, strict=True) if taken}


def find_ambiguous_tracks(previous: np.ndarray, current: np.ndarray) -> list[int]:
    """Objects of `previous` that masks alone do not tell: none of `current` overlaps them by `UNAMBIGUOUS_IOU`, or one that does is contested."""
    overlap = LabelOverlap.of(previous, current)
    sure = overlap.iou >= UNAMBIGUOUS_IOU
    contested = {
        int(second)
        for second, n in zip(
            *np.unique(overlap.predicted_index[overlap.iou >= _MIN_IOU], return_counts=True),
            strict=True,
        )
        if n > 1
    }
    told = {
        int(first)
        for first, second in zip(
            overlap.truth_index[sure], overlap.predicted_index[sure], strict=True
        )
        if int(second) not in contested
    }
    return [int(label) for index, label in enumerate(overlap.truth) if index not in told]


def _compute_max_displacement(objects: LabelCentroids) -> float:
    """How far an object can go without being taken for its neighbour."""
    if objects.labels.size < 3:  # one neighbour's distance is none to go by
        return float("inf")
    away = np.asarray(cKDTree(objects.yx).query(objects.yx, k=2)[0])
    return _MAX_NEIGHBOUR_FRACTION * float(np.median(away[:, 1]))


def _compute_distance_weights(
    previous: LabelCentroids, current: LabelCentroids, max_distance_px: float
) -> dict[tuple[int, int], float]:
    """Weight by pair of what lies within reach: more the nearer and the more alike in size."""
    if max_distance_px <= 0 or not previous.labels.size or not current.labels.size:
        return {}
    weights = {}
    for first, seconds in enumerate(
        cKDTree(current.yx).query_ball_point(previous.yx, max_distance_px)
    ):
        for second in seconds:
            away = float(np.hypot(*(previous.yx[first] - current.yx[second]))) / max_distance_px
            alike = min(previous.area_px[first], current.area_px[second]) / max(
                previous.area_px[first], current.area_px[second]
            )
            weights[int(previous.labels[first]), int(current.labels[second])] = (
                _MAX_DISTANCE_WEIGHT * (1 - away) * float(alike)
            )
    return weights


def find_divisions(
    previous: np.ndarray,
    current: np.ndarray,
    links: Mapping[int, int],
    unlinked: Sequence[int],
    *,
    max_distance_px: float,
) -> dict[int, int]:
    """The object of `previous` that divided, by each object of `current` in `unlinked` that looks like one of its daughters.

    `links` is what `link_frames` said: the mother went on as the other daughter. Both lie within
    `max_distance_px` of where she was, on opposite sides; together they are about as large as she was, and
    one about as large as the other.
    """
    old, new = LabelCentroids.of(previous), LabelCentroids.of(current)
    where = {int(label): index for index, label in enumerate(new.labels)}
    pairs: list[tuple[float, int, int]] = []
    for mother, near in _find_neighbours(old, new, unlinked, max_distance_px).items():
        if int(old.labels[mother]) in links:
            sister = where[links[int(old.labels[mother])]]
            costs = (
                (
                    _compute_division_cost(old, mother, new, sister, daughter, max_distance_px),
                    daughter,
                )
                for daughter in near
            )
            pairs += [
                (cost, int(old.labels[mother]), int(new.labels[daughter]))
                for cost, daughter in costs
                if cost is not None
            ]
    chosen: dict[int, int] = {}
    for _, mother, label in sorted(pairs):
        if mother not in chosen.values() and label not in chosen:
            chosen[label] = mother
    return chosen


def find_daughter_pairs(
    previous: np.ndarray,
    current: np.ndarray,
    links: Mapping[int, int],
    unlinked: Sequence[int],
    *,
    max_distance_px: float,
) -> dict[int, tuple[int, int]]:
    """Two of `unlinked` by the object of `previous` that became them: a mother who went on as neither, since both went far at once.

    What two daughters are is what `find_divisions` says; the larger one comes first. `links` objects went
    on as something else.
    """
    old, new = LabelCentroids.of(previous), LabelCentroids.of(current)
    found_pairs: list[tuple[float, int, int, int]] = []
    for mother, near in _find_neighbours(old, new, unlinked, max_distance_px).items():
        if int(old.labels[mother]) not in links:
            for one, two in combinations(
                sorted(near, key=lambda each: (-new.area_px[each], each)), 2
            ):
                cost = _compute_division_cost(old, mother, new, one, two, max_distance_px)
                if cost is not None:
                    found_pairs.append(
                        (cost, int(old.labels[mother]), int(new.labels[one]), int(new.labels[two]))
                    )
    chosen: dict[int, tuple[int, int]] = {}
    taken: set[int] = set()
    for _, mother, one, two in sorted(found_pairs):
        if mother not in chosen and not {one, two} & taken:
            chosen[mother] = (one, two)
            taken |= {one, two}
    return chosen


def _find_neighbours(
    previous: LabelCentroids,
    current: LabelCentroids,
    unlinked: Sequence[int],
    max_distance_px: float,
) -> dict[int, list[int]]:
    """Places in `current` of the `unlinked` objects within reach, by the place in `previous` of what lies near them."""
    places = np.flatnonzero(np.isin(current.labels, unlinked))
    if not places.size or not previous.labels.size:
        return {}
    near = cKDTree(current.yx[places]).query_ball_point(previous.yx, max_distance_px)
    return {
        mother: [int(places[each]) for each in ones] for mother, ones in enumerate(near) if ones
    }


_DAUGHTERS_AREA_RANGE = (0.5, 1.6)  # area of both daughters by that of the mother
_MIN_DAUGHTER_AREA_RATIO = 0.4  # the smaller daughter by the larger
# of the distance of the daughters: how far their middle may lie from the mother. Half: one stayed
# where she was
_MAX_MIDPOINT_OFFSET = 0.3


def _compute_division_cost(
    previous: LabelCentroids,
    parent: int,
    current: LabelCentroids,
    first_daughter: int,
    second_daughter: int,
    max_distance_px: float,
) -> float | None:
    """How unlike a division this is, less being more like one; None where it is none."""
    area, one, two = (
        previous.area_px[parent],
        current.area_px[first_daughter],
        current.area_px[second_daughter],
    )
    if not _DAUGHTERS_AREA_RANGE[0] * area <= one + two <= _DAUGHTERS_AREA_RANGE[1] * area or min(
        one, two
    ) < _MIN_DAUGHTER_AREA_RATIO * max(one, two):
        return None
    here, there, was = current.yx[first_daughter], current.yx[second_daughter], previous.yx[parent]
    aside, apart = float(np.hypot(*((here + there) / 2 - was))), float(np.hypot(*(here - there)))
    if (
        max(np.hypot(*(here - was)), np.hypot(*(there - was))) > max_distance_px
        or aside > _MAX_MIDPOINT_OFFSET * apart
    ):
        return None
    return (aside + apart) / max_distance_px

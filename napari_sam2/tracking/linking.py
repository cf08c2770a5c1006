"""Linking: which object of one frame is which on the next, from label planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import regionprops_table

from napari_sam2.measurement.evaluation.matching import Overlap, assign

SURE_IOU = 0.5
"""From here on an object is the one it overlaps, and nobody needs to be asked."""
_LEAST_IOU = 0.1  # below it, overlap is chance
_ROOM = 0.7  # of the usual distance of neighbours: who goes further might as well be another
_NEAR = 0.2  # what being near without overlap counts, at most: less than any overlap worth the name


@dataclass(frozen=True, eq=False)
class Places:
    """Objects of a label plane: (n,) labels ascending, (n, 2) centroids, (n,) pixels."""

    labels: np.ndarray
    yx: np.ndarray
    area: np.ndarray

    @classmethod
    def of(cls, plane: np.ndarray) -> Places:
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


def link(
    before: np.ndarray,
    found: np.ndarray,
    *,
    carried: np.ndarray | None = None,
    reach_px: float = 0.0,
) -> dict[int, int]:
    """The object of `found` by the object of `before` it is, one to one; those without partner are left out.

    Parameters
    ----------
    before, found
        (H, W) label planes: tracks where they were last seen, objects of the frame that is linked.
    carried
        Where a model says that the tracks are on that frame: a label plane of tracks, any of them.
        An object counts by the larger of its IoU with where the track was and with where it is said
        to be.
    reach_px
        How far an object may lie from where the track was if they do not overlap at all, and less
        where objects lie closer together than that; 0: not at all.

    The assignment is optimal over all pairs at once.
    """
    places, others = Places.of(before), Places.of(found)
    weights: dict[tuple[int, int], float] = {}
    for plane in (before,) if carried is None else (before, carried):
        overlap = Overlap.of(plane, found)
        for a, b, iou in zip(
            overlap.truth[overlap.first],
            overlap.predicted[overlap.second],
            overlap.iou,
            strict=True,
        ):
            if iou >= _LEAST_IOU:
                key = (int(a), int(b))
                weights[key] = max(weights.get(key, 0.0), _NEAR + float(iou))
    for key, weight in _near(places, others, min(reach_px, _room(places))).items():
        weights[key] = max(weights.get(key, 0.0), weight)
    pairs = list(weights)
    if not pairs:
        return {}
    first, second = (
        np.unique([pair[side] for pair in pairs], return_inverse=True)[1] for side in (0, 1)
    )
    chosen = assign(first, second, np.array([weights[pair] for pair in pairs]))
    return {pair[0]: pair[1] for pair, taken in zip(pairs, chosen, strict=True) if taken}


def doubtful(before: np.ndarray, found: np.ndarray) -> list[int]:
    """Objects of `before` that masks alone do not tell: none of `found` overlaps them by `SURE_IOU`, or one that does is contested."""
    overlap = Overlap.of(before, found)
    sure = overlap.iou >= SURE_IOU
    contested = {
        int(second)
        for second, n in zip(
            *np.unique(overlap.second[overlap.iou >= _LEAST_IOU], return_counts=True), strict=True
        )
        if n > 1
    }
    told = {
        int(first)
        for first, second in zip(overlap.first[sure], overlap.second[sure], strict=True)
        if int(second) not in contested
    }
    return [int(label) for index, label in enumerate(overlap.truth) if index not in told]


def _room(places: Places) -> float:
    """How far an object can go without being taken for its neighbour."""
    if places.labels.size < 3:  # one neighbour's distance is none to go by
        return float("inf")
    away = np.asarray(cKDTree(places.yx).query(places.yx, k=2)[0])
    return _ROOM * float(np.median(away[:, 1]))


def _near(before: Places, found: Places, reach_px: float) -> dict[tuple[int, int], float]:
    """Weight by pair of what lies within reach: more the nearer and the more alike in size."""
    if reach_px <= 0 or not before.labels.size or not found.labels.size:
        return {}
    weights = {}
    for first, seconds in enumerate(cKDTree(found.yx).query_ball_point(before.yx, reach_px)):
        for second in seconds:
            away = float(np.hypot(*(before.yx[first] - found.yx[second]))) / reach_px
            alike = min(before.area[first], found.area[second]) / max(
                before.area[first], found.area[second]
            )
            weights[int(before.labels[first]), int(found.labels[second])] = (
                _NEAR * (1 - away) * float(alike)
            )
    return weights


def mothers(
    before: np.ndarray,
    found: np.ndarray,
    linked: Mapping[int, int],
    fresh: Sequence[int],
    *,
    reach_px: float,
) -> dict[int, int]:
    """The object of `before` that divided, by each object of `found` in `fresh` that looks like one of its daughters.

    `linked` is what `link` said: the mother went on as the other daughter. Both lie within
    `reach_px` of where she was, on opposite sides; together they are about as large as she was, and
    one about as large as the other.
    """
    old, new = Places.of(before), Places.of(found)
    where = {int(label): index for index, label in enumerate(new.labels)}
    pairs: list[tuple[float, int, int]] = []
    for mother, near in _neighbours(old, new, fresh, reach_px).items():
        if int(old.labels[mother]) in linked:
            sister = where[linked[int(old.labels[mother])]]
            costs = (
                (_division(old, mother, new, sister, daughter, reach_px), daughter)
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


def twins(
    before: np.ndarray,
    found: np.ndarray,
    linked: Mapping[int, int],
    fresh: Sequence[int],
    *,
    reach_px: float,
) -> dict[int, tuple[int, int]]:
    """Two of `fresh` by the object of `before` that became them: a mother who went on as neither, since both went far at once.

    What two daughters are is what `mothers` says; the larger one comes first. `linked` objects went
    on as something else.
    """
    old, new = Places.of(before), Places.of(found)
    found_pairs: list[tuple[float, int, int, int]] = []
    for mother, near in _neighbours(old, new, fresh, reach_px).items():
        if int(old.labels[mother]) not in linked:
            for one, two in combinations(sorted(near, key=lambda each: (-new.area[each], each)), 2):
                cost = _division(old, mother, new, one, two, reach_px)
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


def _neighbours(
    old: Places, new: Places, fresh: Sequence[int], reach_px: float
) -> dict[int, list[int]]:
    """Places in `new` of the `fresh` objects within reach, by the place in `old` of what lies near them."""
    places = np.flatnonzero(np.isin(new.labels, fresh))
    if not places.size or not old.labels.size:
        return {}
    near = cKDTree(new.yx[places]).query_ball_point(old.yx, reach_px)
    return {
        mother: [int(places[each]) for each in ones] for mother, ones in enumerate(near) if ones
    }


_TOGETHER = (0.5, 1.6)  # area of both daughters by that of the mother
_SISTERS = 0.4  # the smaller daughter by the larger
# of the distance of the daughters: how far their middle may lie from the mother. Half: one stayed
# where she was
_ASIDE = 0.3


def _division(
    old: Places, mother: int, new: Places, sister: int, daughter: int, reach_px: float
) -> float | None:
    """How unlike a division this is, less being more like one; None where it is none."""
    area, one, two = old.area[mother], new.area[sister], new.area[daughter]
    if not _TOGETHER[0] * area <= one + two <= _TOGETHER[1] * area or min(
        one, two
    ) < _SISTERS * max(one, two):
        return None
    here, there, was = new.yx[sister], new.yx[daughter], old.yx[mother]
    aside, apart = float(np.hypot(*((here + there) / 2 - was))), float(np.hypot(*(here - there)))
    if max(np.hypot(*(here - was)), np.hypot(*(there - was))) > reach_px or aside > _ASIDE * apart:
        return None
    return (aside + apart) / reach_px

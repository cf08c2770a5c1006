"""Divisions: objects of one frame that are two objects on the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import cast

import numpy as np
from scipy.spatial import cKDTree

from napari_sam2.tracking.linking import LabelCentroids

_DAUGHTERS_AREA_RANGE = (0.5, 1.6)  # area of both daughters together, relative to the parent's
_MIN_DAUGHTER_AREA_RATIO = 0.4  # area of the smaller daughter, relative to the larger one's
# how far the midpoint of the daughters may lie from the parent, relative to their distance; at 0.5
# one daughter lies where the parent was
_MAX_MIDPOINT_OFFSET = 0.3


@dataclass(frozen=True)
class Division:
    """An object of the previous frame that became two of the current one.

    Parameters
    ----------
    parent
        Label of the previous frame.
    continued
        Daughter that the parent is linked to, or the larger one if it is linked to neither.
    born
        The other daughter.
    """

    parent: int
    continued: int
    born: int


def find_divisions(
    previous: np.ndarray,
    current: np.ndarray,
    links: Mapping[int, int],
    unlinked: Sequence[int],
    *,
    max_distance_px: float,
) -> list[Division]:
    """Find the divisions between two frames.

    Both daughters lie within `max_distance_px` of the parent, on opposite sides of it. Together
    they are about as large as the parent, and each is about as large as the other.

    Parameters
    ----------
    previous, current
        (H, W) label planes.
    links
        Objects of `current` by the object of `previous` they are, from `link_frames`. The parent
        may be linked to one daughter, or to none if both moved far at once.
    unlinked
        Objects of `current` that are linked to nothing.
    """
    search = _DivisionSearch(
        LabelCentroids.of(previous), LabelCentroids.of(current), links, max_distance_px
    )
    unlinked_parents = _select_best(search.find_pairs(unlinked))
    used = {label for each in unlinked_parents for label in (each.continued, each.born)}
    rest = [label for label in unlinked if label not in used]
    return unlinked_parents + _select_best(search.find_partners(rest))


def _select_best(candidates: Iterable[tuple[float, Division]]) -> list[Division]:
    """Candidates of the lowest cost; no parent and no daughter twice."""
    chosen: dict[int, Division] = {}
    used: set[int] = set()
    for _, each in sorted(
        candidates,
        key=lambda pair: (pair[0], pair[1].parent, pair[1].continued, pair[1].born),
    ):
        if each.parent not in chosen and not {each.continued, each.born} & used:
            chosen[each.parent] = each
            used |= {each.continued, each.born}
    return list(chosen.values())


@dataclass(frozen=True, eq=False)
class _DivisionSearch:
    """Candidates of divisions with their costs."""

    previous: LabelCentroids
    current: LabelCentroids
    links: Mapping[int, int]
    max_distance_px: float

    def find_pairs(self, unlinked: Sequence[int]) -> list[tuple[float, Division]]:
        """Two unlinked objects near an object that is linked to nothing."""
        found = []
        for parent, near in self._find_neighbours(unlinked).items():
            if int(self.previous.labels[parent]) in self.links:
                continue
            by_size = sorted(near, key=lambda each: (-self.current.area_px[each], each))
            for first, second in combinations(by_size, 2):
                found += self._make_candidate(parent, first, second)
        return found

    def find_partners(self, unlinked: Sequence[int]) -> list[tuple[float, Division]]:
        """An unlinked object near an object that is linked to another one."""
        index = {int(label): number for number, label in enumerate(self.current.labels)}
        found = []
        for parent, near in self._find_neighbours(unlinked).items():
            linked = index.get(self.links.get(int(self.previous.labels[parent]), -1))
            for daughter in near if linked is not None else ():
                found += self._make_candidate(parent, cast(int, linked), daughter)
        return found

    def _find_neighbours(self, unlinked: Sequence[int]) -> dict[int, list[int]]:
        """Indices of the unlinked objects within reach, by the index of the previous object."""
        indices = np.flatnonzero(np.isin(self.current.labels, unlinked))
        if not indices.size or not self.previous.labels.size:
            return {}
        tree = cKDTree(self.current.yx[indices])
        near = tree.query_ball_point(self.previous.yx, self.max_distance_px)
        return {
            parent: [int(indices[each]) for each in found]
            for parent, found in enumerate(near)
            if found
        }

    def _make_candidate(self, parent: int, first: int, second: int) -> list[tuple[float, Division]]:
        cost = self._compute_cost(parent, first, second)
        if cost is None:
            return []
        labels = self.current.labels
        division = Division(
            int(self.previous.labels[parent]), int(labels[first]), int(labels[second])
        )
        return [(cost, division)]

    def _compute_cost(self, parent: int, first: int, second: int) -> float | None:
        """How unlike a division this is; None if it is none."""
        area, (one, two) = self.previous.area_px[parent], self.current.area_px[[first, second]]
        low, high = _DAUGHTERS_AREA_RANGE
        if not low * area <= one + two <= high * area:
            return None
        if min(one, two) < _MIN_DAUGHTER_AREA_RATIO * max(one, two):
            return None
        origin = self.previous.yx[parent]
        here, there = self.current.yx[first], self.current.yx[second]
        offset, apart = np.hypot(*((here + there) / 2 - origin)), np.hypot(*(here - there))
        reach = max(np.hypot(*(here - origin)), np.hypot(*(there - origin)))
        if reach > self.max_distance_px or offset > _MAX_MIDPOINT_OFFSET * apart:
            return None
        return float(offset + apart) / self.max_distance_px

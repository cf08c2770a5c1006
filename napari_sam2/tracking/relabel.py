"""New numbers for labels: one for each connected object, or one for each linked object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label as label_pieces
from skimage.util import map_array

from napari_sam2.measurement.label_overlap import LabelOverlap
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.tracking.linking import LabelCentroids, link_frames

Relabeling = Literal["components", "linked"]
"""How labels get new numbers; see `relabel_planes`."""

_REACH_DIAMETERS = 2.0  # how far a linked object may move in time, in diameters


def relabel_planes(planes: LabelPlanes, how: Relabeling, along: str) -> LabelPlanes:
    """The same objects with other numbers, from 1.

    Two passes over the planes: the first finds the numbers, the second applies them.

    Parameters
    ----------
    planes
        (frames, H, W) labels.
    how
        "components": pixels that touch on a frame, or overlap on the next one, and have the same
        label, are one object. "linked": objects of each frame are linked to those of the next by
        their overlap and, along t, by their distance; their own numbers do not count.
    along
        The axis of the frames, "z" or "t".
    """
    separate = _separate_components if how == "components" else _separate_labels
    join = _join_overlapping if how == "components" else _make_linking(along)
    nodes: list[int] = []
    edges: list[tuple[int, int]] = []
    before, before_start, before_plane = None, 0, None
    for plane in planes:
        current = separate(plane)
        start = sum(nodes)
        nodes.append(int(current.max()))
        if before is not None and before_plane is not None:
            for first, second in join(before, current, before_plane, plane):
                edges.append((before_start + first - 1, start + second - 1))
        before, before_start, before_plane = current, start, plane
    numbers = _number_groups(sum(nodes), edges)
    starts = np.concatenate([[0], np.cumsum(nodes)]).astype(np.int64)

    def read_plane(frame: int) -> np.ndarray:
        current = separate(planes[frame])
        own = numbers[starts[frame] : starts[frame + 1]]
        return np.asarray(np.concatenate([[0], own]).astype(np.uint32)[current])

    return LabelPlanes.of(read_plane, planes.shape)


def _separate_components(plane: np.ndarray) -> np.ndarray:
    """(H, W) numbers from 1 of the connected pixels of one label."""
    return np.asarray(label_pieces(plane, background=0, connectivity=2))


def _separate_labels(plane: np.ndarray) -> np.ndarray:
    """(H, W) numbers from 1 of the labels of a plane."""
    labels = np.unique(plane[plane > 0]).astype(np.int64)
    if not labels.size:
        return np.zeros(plane.shape, np.int64)
    values = np.concatenate([[0], labels])
    return np.asarray(map_array(plane.astype(np.int64), values, np.arange(values.size)))


_Joining = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Iterator[tuple[int, int]]]


def _join_overlapping(
    before: np.ndarray, current: np.ndarray, before_labels: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[int, int]]:
    """All pairs of components that share pixels of the same label."""
    same = before_labels == labels
    overlap = LabelOverlap.of(np.where(same, before, 0), np.where(same, current, 0))
    firsts, seconds = overlap.first[overlap.first_index], overlap.second[overlap.second_index]
    yield from zip(firsts.tolist(), seconds.tolist(), strict=True)


def _make_linking(along: str) -> _Joining:
    """One-to-one links; objects that do not overlap are linked along t only."""

    def join(
        before: np.ndarray, current: np.ndarray, _: np.ndarray, __: np.ndarray
    ) -> Iterator[tuple[int, int]]:
        areas = LabelCentroids.of(before).area_px
        diameter = float(np.sqrt(4 * np.median(areas) / np.pi)) if areas.size else 0.0
        reach = _REACH_DIAMETERS * diameter if along == "t" else 0.0
        yield from link_frames(before, current, max_distance_px=reach).items()

    return join


def _number_groups(count: int, edges: list[tuple[int, int]]) -> np.ndarray:
    """(count,) numbers from 1 of the groups that edges connect, ordered by their first node."""
    if not edges:
        return np.arange(1, count + 1)
    first, second = np.array(edges).T
    graph = coo_array((np.ones(len(edges)), (first, second)), shape=(count, count))
    groups = connected_components(graph, directed=False)[1]
    _, first_seen, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first_seen))[inverse] + 1)

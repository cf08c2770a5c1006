"""Linking, divisions, tracklets and lineages, on planes drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.core.track import Branch
from napari_sam2.measurement.evaluation.ctc_agreement import compute_ctc_measures
from napari_sam2.measurement.label_overlap import LabelOverlap
from napari_sam2.measurement.lineage import find_branches
from napari_sam2.testing.scenes import make_dividing_scene
from napari_sam2.tracking.divisions import Division, find_divisions
from napari_sam2.tracking.linking import find_ambiguous_tracks, link_frames
from napari_sam2.tracking.tracklets import Tracklet, finalize_tracklets
from tests.measurement.conftest import draw_square


def plane(*squares: tuple[int, int, int, int]) -> np.ndarray:
    """(60, 120) labels of squares (label, top, left, side)."""
    labels = np.zeros((60, 120), np.int32)
    for each in squares:
        draw_square(labels, *each)
    return labels


@pytest.mark.parametrize(
    ("before", "found", "expected"),
    [
        ([(7, 10, 10, 10)], [(1, 12, 12, 10)], {7: 1}),
        ([(7, 10, 10, 10), (8, 10, 30, 10)], [(1, 10, 34, 10), (2, 10, 14, 10)], {7: 2, 8: 1}),
        ([(7, 10, 10, 6)], [(1, 10, 22, 6)], {7: 1}),
        ([(7, 10, 10, 6)], [(1, 10, 60, 6)], {}),
        ([(7, 10, 10, 6)], [], {}),
        ([], [(1, 10, 10, 6)], {}),
        ([(7, 10, 10, 10), (8, 10, 22, 10)], [(1, 10, 16, 10)], {7: 1}),
    ],
    ids=[
        "moved a little",
        "two, in another order",
        "moved by two widths",
        "too far",
        "gone",
        "new",
        "two for one",
    ],
)
def test_objects_are_linked_to_the_nearest_match(before, found, expected):
    linked = link_frames(plane(*before), plane(*found), max_distance_px=20)
    assert linked == expected or (
        len(expected) == 1 and set(linked.values()) == set(expected.values()) and len(before) > 1
    )


def test_prediction_decides_what_overlap_does_not():
    before, found = plane((7, 10, 10, 8), (8, 10, 30, 8)), plane((1, 30, 12, 8), (2, 30, 28, 8))
    crossed = plane((8, 30, 12, 8), (7, 30, 28, 8))
    assert link_frames(before, found, max_distance_px=40) == {7: 1, 8: 2}
    assert link_frames(before, found, predicted=crossed, max_distance_px=40) == {7: 2, 8: 1}


def test_tracks_without_a_clear_overlap_are_ambiguous():
    before = plane((1, 5, 5, 10), (2, 5, 40, 10), (3, 30, 5, 10), (4, 30, 40, 10), (5, 30, 49, 10))
    found = plane((1, 6, 6, 10), (2, 5, 52, 10), (3, 31, 5, 10), (4, 30, 45, 10))
    assert find_ambiguous_tracks(before, found) == [2, 4, 5]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(1, 20, 12, 8), (2, 20, 30, 8)], [Division(9, 1, 2)]),
        ([(1, 20, 19, 12), (2, 20, 36, 12)], []),
        ([(1, 20, 12, 8), (2, 20, 30, 3)], []),
        ([(1, 20, 12, 8), (2, 20, 90, 8)], []),
    ],
    ids=["divides", "one stays, another comes", "a speck beside it", "too far"],
)
def test_daughters_lie_on_both_sides_of_the_parent_and_are_alike(found, expected):
    before = plane((9, 18, 19, 12))
    assert find_divisions(before, plane(*found), {9: 1}, [2], max_distance_px=24) == expected


def make_tracklet(number: int, frames: range, parent: int | None = None) -> Tracklet:
    return Tracklet(
        number,
        {frame: PointPrompt(frame, number, [(1.0, 1.0)], [True]) for frame in frames},
        parent,
    )


def describe_tracklets(tracklets: list[Tracklet]) -> list[tuple[int, int, int, int | None]]:
    return [(each.id, each.first, each.last, each.parent) for each in tracklets]


def test_parent_ends_at_its_division_and_the_rest_is_a_daughter():
    assert describe_tracklets(
        finalize_tracklets(
            [make_tracklet(1, range(10)), make_tracklet(2, range(4, 10), 1)], 10, min_frames=2
        )
    ) == [
        (1, 0, 3, None),
        (2, 4, 9, 1),
        (3, 4, 9, 1),
    ]


def test_parent_that_divides_twice_has_granddaughters():
    found = finalize_tracklets(
        [
            make_tracklet(1, range(12)),
            make_tracklet(2, range(3, 12), 1),
            make_tracklet(3, range(7, 12), 1),
        ],
        12,
        min_frames=2,
    )
    assert describe_tracklets(found) == [
        (1, 0, 2, None),
        (2, 3, 11, 1),
        (3, 3, 6, 1),
        (4, 7, 11, 3),
        (5, 7, 11, 3),
    ]


def test_division_with_a_short_daughter_is_dropped():
    assert describe_tracklets(
        finalize_tracklets(
            [make_tracklet(1, range(10)), make_tracklet(2, range(4, 5), 1)], 10, min_frames=1
        )
    ) == [(1, 0, 9, None)]


def test_division_on_the_last_frame_counts():
    assert (
        len(
            finalize_tracklets(
                [make_tracklet(1, range(10)), make_tracklet(2, range(9, 10), 1)], 10, min_frames=2
            )
        )
        == 3
    )


def test_short_tracklet_is_dropped_unless_the_video_begins_or_ends_on_it():
    found = finalize_tracklets(
        [make_tracklet(1, range(1)), make_tracklet(2, range(4, 5)), make_tracklet(3, range(9, 10))],
        10,
        min_frames=2,
    )
    assert [each.first for each in found] == [0, 9]


def test_gaps_lie_between_detections():
    gapped = Tracklet(
        1, {frame: PointPrompt(frame, 1, [(1.0, 1.0)], [True]) for frame in (0, 1, 4, 5, 7)}
    )
    assert gapped.find_gaps() == [(1, 4), (5, 7)]


def test_lineage_has_first_and_last_frame_and_parent():
    ids = [np.array([1]), np.array([1]), np.array([2, 3])]
    assert find_branches(ids, {2: 1, 3: 1}) == [
        Branch(1, 0, 1),
        Branch(2, 2, 2, 1),
        Branch(3, 2, 2, 1),
    ]


@pytest.mark.parametrize("parents", [{2: 9}, {1: 2}], ids=["nobody", "born later"])
def test_impossible_parent_is_an_error(parents):
    with pytest.raises(LabelsError, match="begins before it"):
        find_branches([np.array([1]), np.array([1, 2])], parents)


def test_challenge_measures_are_one_for_the_truth():
    pytest.importorskip("ctc_metrics")
    scene = make_dividing_scene()
    overlaps = [LabelOverlap.of(each, each) for each in scene.labels]
    found = compute_ctc_measures(overlaps, scene.parents, scene.parents)
    assert {
        name: found[name] for name in ("SEG", "DET", "TRA", "CHOTA", "BC(0)", "gt_divisions")
    } == {
        "SEG": 1.0,
        "DET": 1.0,
        "TRA": 1.0,
        "CHOTA": 1.0,
        "BC(0)": 1.0,
        "gt_divisions": 1.0,
    }


def test_missed_division_costs_its_edges():
    pytest.importorskip("ctc_metrics")
    scene = make_dividing_scene()
    found = compute_ctc_measures(
        [LabelOverlap.of(each, each) for each in scene.labels], {}, scene.parents
    )
    vertices, edges = 4 + 12, 3 + 5 + 5 + 2
    assert found["TRA"] == pytest.approx(1 - 2 * 1.5 / (10 * vertices + 1.5 * edges))
    assert found["DET"] == 1.0 and found["fn_div(1)"] == 1.0


def test_no_detection_scores_zero():
    scene = make_dividing_scene()
    found = compute_ctc_measures(
        [LabelOverlap.of(each, np.zeros_like(each)) for each in scene.labels]
    )
    assert (found["TRA"], found["DET"]) == (0.0, 0.0)

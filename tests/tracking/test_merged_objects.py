"""Merged objects and how they are split, on planes drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.tracking.divisions import Division, find_divisions
from napari_sam2.tracking.merged_objects import find_merged_objects, split_merged_object
from tests.tracking.test_linking import plane

BOTH = plane((1, 10, 10, 10), (1, 10, 20, 10))  # one object, 10 × 20


@pytest.mark.parametrize(
    ("before", "found", "linked", "lasting", "expected"),
    [
        ([(7, 10, 10, 10), (8, 10, 20, 10)], BOTH, {7: 1}, {7, 8}, {1: [7, 8]}),
        ([(7, 10, 10, 10), (8, 10, 20, 10)], BOTH, {8: 1}, {7, 8}, {1: [8, 7]}),
        ([(7, 10, 10, 10), (8, 10, 20, 10)], BOTH, {7: 1}, {7}, {}),
        ([(7, 10, 10, 10), (8, 10, 20, 10)], BOTH, {7: 1}, {8}, {}),
        ([(7, 10, 10, 10), (8, 10, 26, 10)], BOTH, {7: 1}, {7, 8}, {}),
        ([(7, 5, 5, 18), (8, 12, 12, 6)], plane((1, 12, 12, 6)), {7: 1}, {7, 8}, {}),
        (
            [(7, 10, 10, 10), (8, 10, 20, 10)],
            plane((1, 10, 10, 10), (2, 10, 20, 10)),
            {7: 1, 8: 2},
            {7, 8},
            {},
        ),
        ([(8, 10, 20, 10)], BOTH, {7: 1}, {7, 8}, {}),
        (
            [(7, 10, 10, 10), (8, 10, 20, 4), (9, 10, 25, 4)],
            BOTH,
            {7: 1},
            {7, 8, 9},
            {1: [7, 8, 9]},
        ),
    ],
    ids=[
        "both",
        "the other was linked",
        "never apart",
        "the owner is new",
        "beside it",
        "too small for both",
        "two objects",
        "the owner was not seen",
        "three",
    ],
)
def test_detection_that_covers_a_lost_track_holds_it(before, found, linked, lasting, expected):
    assert find_merged_objects(plane(*before), found, linked, lasting) == expected


def test_parts_equal_the_objects_before_the_merge():
    before = plane((7, 10, 10, 10), (8, 10, 20, 10))
    np.testing.assert_array_equal(split_merged_object(BOTH > 0, before, [7, 8]), before)


def test_pixels_of_a_moved_object_go_to_the_nearest_track():
    body = plane((1, 8, 9, 14), (1, 8, 21, 12)) > 0
    pieces = split_merged_object(body, plane((7, 10, 10, 10), (8, 10, 22, 10)), [7, 8])
    np.testing.assert_array_equal(pieces > 0, body)
    np.testing.assert_array_equal(
        pieces[body], np.where(np.nonzero(body)[1] <= 20, 7, 8)
    )  # the middle between them is 20.5


@pytest.mark.parametrize(
    ("found", "linked", "expected"),
    [
        ([(1, 20, 4, 8), (2, 20, 38, 8)], {}, [Division(9, 1, 2)]),
        ([(1, 20, 4, 8), (2, 20, 38, 9)], {}, [Division(9, 2, 1)]),
        ([(1, 20, 4, 8), (2, 20, 38, 8)], {9: 3}, []),
        ([(1, 20, 4, 8)], {}, []),
        ([(1, 20, 4, 8), (2, 20, 90, 8)], {}, []),
    ],
    ids=[
        "both moved far",
        "the larger one first",
        "linked to another object",
        "one alone",
        "the other too far",
    ],
)
def test_parent_linked_to_neither_daughter_divides(found, linked, expected):
    before = plane((9, 18, 19, 12))
    assert find_divisions(before, plane(*found), linked, [1, 2], max_distance_px=24) == expected

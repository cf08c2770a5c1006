"""Review: the flags of scenes whose truth is known, and navigation between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from napari_sam2.core.track import Presence
from napari_sam2.propagation.review import (
    ObjectExtent,
    Reason,
    Review,
    ReviewFlag,
    Thresholds,
    compute_extents,
    compute_frame_extents,
    find_review_flags,
    review_session,
)
from napari_sam2.propagation.segment_store import SegmentRecord
from napari_sam2.testing.scenes import (
    Disc,
    Scene,
    draw_discs,
    make_dividing_scene,
    make_drifting_scene,
    make_ellipsoid_scene,
    make_returning_scene,
    make_touching_scene,
)
from tests.propagation.conftest import Start

Key = tuple[int, int]


def make_records(
    labels: np.ndarray, *, start: int = 0, scores: Mapping[Key, float] | None = None
) -> dict[Key, SegmentRecord]:
    """Records of tracks prompted on `start` (or their first frame) and propagated both ways."""
    traces = {}
    for track in (int(each) for each in np.unique(labels) if each):
        shown = (labels == track).any(axis=(1, 2))
        first = start if shown[start] else int(np.flatnonzero(shown)[0])
        for frame in range(len(labels)):
            presence = (
                Presence.PROMPTED
                if frame == first
                else Presence.TRACKED
                if shown[frame]
                else Presence.ABSENT
            )
            score = (scores or {}).get((track, frame), 0.9)
            traces[track, frame] = SegmentRecord(
                track, frame, 1, presence, score, None if frame == first else frame > first
            )
    return traces


def find_flags(
    labels: np.ndarray, traces: Mapping[Key, SegmentRecord], **limits: float
) -> list[tuple[int, int, Reason]]:
    seen = {frame: compute_extents(plane) for frame, plane in enumerate(labels)}
    return [
        (each.track, each.frame, each.reason)
        for each in find_review_flags(traces, seen, thresholds=Thresholds(**limits))
    ]


def make_disc_labels(*radii: float) -> np.ndarray:
    """(frames, 64, 64) labels of one centred disc of these radii; 0 is no disc."""
    planes = [
        draw_discs([Disc(np.array([[32.0, 32.0 if radius else np.nan]]), radius)], (64, 64))[0]
        for radius in radii
    ]
    return np.stack(planes)


AREAS = {
    "steady": (make_disc_labels(10, 10, 10, 10), []),
    "a jump up that stays": (make_disc_labels(8, 8, 12, 12, 12), [(1, 2, Reason.AREA)]),
    "a jump down that stays": (make_disc_labels(12, 12, 8, 8, 8), [(1, 2, Reason.AREA)]),
    "one wrong frame is one place": (make_disc_labels(8, 8, 14, 8, 8), [(1, 2, Reason.AREA)]),
    "steady growth": (make_disc_labels(8, 9.6, 11.5, 13.8, 16.6, 19.9, 23.9), []),
    "too small to judge": (make_disc_labels(2, 2, 2.9, 2, 2), []),
    "ends small, as in z": (make_disc_labels(14, 13, 11, 8, 5, 0, 0), []),
    "lost while large": (make_disc_labels(12, 12, 12, 0, 0), [(1, 3, Reason.LOST)]),
    "lost, find_flags and lost again": (
        make_disc_labels(9, 9, 0, 9, 9, 0),
        [(1, 2, Reason.LOST), (1, 5, Reason.LOST)],
    ),
}


@pytest.mark.parametrize(("labels", "expected"), AREAS.values(), ids=AREAS)
def test_area_flags(labels: np.ndarray, expected: list[tuple[int, int, Reason]]) -> None:
    assert find_flags(labels, make_records(labels)) == expected


@pytest.mark.parametrize(("labels", "expected"), AREAS.values(), ids=AREAS)
def test_backward_propagation_gives_mirrored_flags(
    labels: np.ndarray, expected: list[tuple[int, int, Reason]]
) -> None:
    back, last = labels[::-1], len(labels) - 1
    mirrored = sorted(
        ((track, last - frame, reason) for track, frame, reason in expected),
        key=lambda each: each[1],
    )
    assert find_flags(back, make_records(back, start=last)) == mirrored


SCORES = {
    "steady": ([0.9, 0.9, 0.88, 0.9], []),
    "a fall": ([0.9, 0.9, 0.7, 0.7], [(1, 2, Reason.SCORE)]),
    "slowly but surely": ([0.9, 0.86, 0.82, 0.78, 0.74, 0.70], [(1, 4, Reason.SCORE)]),
    "up again": ([0.7, 0.9, 0.9], []),
}


@pytest.mark.parametrize(("scores", "expected"), SCORES.values(), ids=SCORES)
def test_score_flags(scores: list[float], expected: list[tuple[int, int, Reason]]) -> None:
    labels = make_disc_labels(*(10 for _ in scores))
    assert (
        find_flags(
            labels,
            make_records(labels, scores={(1, frame): score for frame, score in enumerate(scores)}),
        )
        == expected
    )


def test_only_the_first_of_consecutive_uncertain_frames_is_flagged() -> None:
    labels = make_disc_labels(10, 10, 10, 10, 10)
    traces = make_records(labels)
    for frame in (2, 3):
        traces[1, frame] = replace(traces[1, frame], presence=Presence.UNCERTAIN, iou=0.4)
    assert find_flags(labels, traces) == [(1, 2, Reason.UNCERTAIN)]


def test_contact_is_flagged_once_at_its_start() -> None:
    scene = make_touching_scene()
    truth = [
        frame for frame, plane in enumerate(scene.labels) if 2 in compute_extents(plane)[1].contacts
    ]
    assert truth, "the discs of this scene meet"
    assert find_flags(scene.labels, make_records(scene.labels), contact_share=0.01) == [
        (1, truth[0], Reason.TOUCHING)
    ]


def test_touching_flags_the_unprompted_track() -> None:
    scene = make_touching_scene()
    traces = make_records(scene.labels)
    frame = next(frame for _, frame, _ in find_flags(scene.labels, traces, contact_share=0.01))
    traces[1, frame] = replace(traces[1, frame], presence=Presence.LOCKED)
    assert find_flags(scene.labels, traces, contact_share=0.01)[0] == (2, frame, Reason.TOUCHING)
    traces[2, frame] = replace(traces[2, frame], presence=Presence.LOCKED)
    assert (frame, Reason.TOUCHING) not in [
        each[1:] for each in find_flags(scene.labels, traces, contact_share=0.01)
    ]


@pytest.mark.parametrize("presence", [Presence.LOCKED, Presence.PROMPTED])
def test_conditioning_frames_are_not_flagged(presence: Presence) -> None:
    labels = make_disc_labels(8, 8, 14, 14)
    traces = make_records(labels)
    traces[1, 2] = replace(traces[1, 2], presence=presence)
    assert find_flags(labels, traces) == []


def test_leaving_the_image_is_less_severe() -> None:
    scene = make_returning_scene(frames=16)
    reasons = {
        reason
        for track, _, reason in find_flags(
            scene.labels, make_records(scene.labels), lost_share=0.01
        )
        if track == 1
    }
    assert reasons >= {Reason.BORDER, Reason.LOST}
    seen = {frame: compute_extents(plane) for frame, plane in enumerate(scene.labels)}
    lost = [
        each
        for each in find_review_flags(
            make_records(scene.labels), seen, thresholds=Thresholds(lost_share=0.01)
        )
        if each.reason is Reason.LOST
    ]
    assert all(each.severity <= 0.5 and "border" in each.detail for each in lost)


def test_object_hidden_by_another_is_lost() -> None:
    labels = make_disc_labels(10, 10, 10)
    traces = make_records(labels)
    hidden = labels.copy()
    hidden[2] = 0
    assert find_flags(hidden, traces) == [(1, 2, Reason.LOST)]


def test_dividing_parent_is_lost_at_its_division() -> None:
    scene = make_dividing_scene(division_frame=4)
    assert (1, 4, Reason.LOST) in find_flags(scene.labels, make_records(scene.labels))


@pytest.mark.parametrize("scene", [make_drifting_scene(), make_ellipsoid_scene()], ids=str)
def test_uneventful_scenes_have_no_flags(scene: Scene) -> None:
    places = find_flags(scene.labels, make_records(scene.labels, start=len(scene.labels) // 2))
    assert [place for place in places if place[2] is not Reason.BORDER] == []


def test_extents_equal_a_hand_count() -> None:
    plane = np.zeros((5, 6), dtype=np.uint32)
    plane[1:3, 1:3] = 7  # 2 × 2
    plane[1:4, 3] = 4_000_000_000  # 3 × 1, right of it
    plane[4, 0] = 2  # in the corner
    assert compute_extents(plane) == {
        2: ObjectExtent(1, 4, {}, 2),
        7: ObjectExtent(4, 8, {4_000_000_000: 2}, 0),
        4_000_000_000: ObjectExtent(3, 8, {7: 2}, 0),
    }
    assert compute_extents(np.zeros((3, 3), dtype=np.uint16)) == {}


def test_review_of_a_session(open_session: Start) -> None:
    scene = make_dividing_scene(division_frame=4)
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    whole = review_session(session)
    assert (1, 4, Reason.LOST) in [(each.track, each.frame, each.reason) for each in whole]
    session.lock(1, 4)
    assert (1, 4) not in [(each.track, each.frame) for each in review_session(session)], (
        "accepted: nothing to look at"
    )
    assert compute_frame_extents(session.video, session.compute_label_plane)[0] == compute_extents(
        scene.labels[0]
    )


def test_navigation_between_flags() -> None:
    a, b, c, d = (
        ReviewFlag(3, 1, Reason.LOST, 0.9),
        ReviewFlag(1, 4, Reason.AREA, 0.8),
        ReviewFlag(2, 4, Reason.BORDER, 0.2),
        ReviewFlag(1, 9, Reason.TOUCHING, 0.5, other=2),
    )
    whole = Review([d, c, b, a])
    assert list(whole) == [a, b, c, d]
    assert whole.sort_by_severity() == (a, b, d, c)
    assert whole[1:3] == (b, c) and whole[-1] is d
    forward, current = [], whole.find_next(0)
    while current:
        forward.append(current)
        current = whole.find_next(current.frame, current)
    assert forward == [a, b, c, d]
    assert [whole.find_previous(each.frame, each) for each in (d, c, b, a)] == [c, b, a, None]
    assert whole.find_next(1) is b and whole.find_next(9) is None
    assert whole.find_previous(4) is a and whole.find_previous(1) is None
    assert (
        whole.get_flags(2, 9) == (d,)
        and whole.get_flags(2, 4) == (c,)
        and whole.get_flags(3, 4) == ()
    )


def test_extents_of_hundreds_of_objects_are_quick() -> None:
    rng = np.random.default_rng(0)
    plane = np.kron(
        rng.permutation(np.arange(400)).reshape(20, 20), np.ones((50, 50), dtype=np.uint16)
    )
    seen = compute_extents(plane)
    assert len(seen) == 399
    assert all(each.area_px == 2500 and each.outline_px == 200 for each in seen.values())

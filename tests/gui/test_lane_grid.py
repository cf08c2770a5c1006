"""Lanes without a window: what every track is on every frame, and where it is seen."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.track import NOT_PROPAGATED, PRESENCE_CODES, Presence, Track
from napari_sam2.gui.widgets.timeline.lane_grid import LaneGrid
from napari_sam2.gui.widgets.timeline.viewport import (
    HEADER_HEIGHT_PX,
    LANE_HEIGHT_PX,
    LEGEND_HEIGHT_PX,
    MAX_FRAME_WIDTH_PX,
    NAMES_WIDTH_PX,
    TimelineViewport,
)
from napari_sam2.propagation.review import Reason, ReviewFlag

P, T, U, A, L = (
    Presence.PROMPTED,
    Presence.TRACKED,
    Presence.UNCERTAIN,
    Presence.ABSENT,
    Presence.LOCKED,
)


def lanes(rows: dict[int, list[Presence | None]]) -> LaneGrid:
    found = LaneGrid(max(map(len, rows.values())))
    for track, row in rows.items():
        for frame, presence in enumerate(row):
            found.set_presence(track, frame, presence)
    return found


def test_tracks_ascend_in_any_order_of_arrival() -> None:
    found = lanes({7: [P, T], 2: [T, P], 5: [None, U]})
    assert found.tracks == (2, 5, 7)
    assert [found.find_row(track) for track in (2, 5, 7, 6)] == [0, 1, 2, None]
    assert [[found.get_presence(track, frame) for frame in (0, 1)] for track in found.tracks] == [
        [T, P],
        [None, U],
        [P, T],
    ]
    assert found.get_presence(99, 0) is None


def test_results_arrive_frame_by_frame() -> None:
    found = lanes({1: [P, None, None], 2: [P, None, None]})
    found.set_frame(1, {1: T, 2: A, 3: P})
    assert found.tracks == (1, 2, 3)
    assert [found.get_presence(track, 1) for track in (1, 2, 3)] == [T, A, P]
    found.set_frame(1, {1: U})
    assert [found.get_presence(track, 1) for track in (1, 2, 3)] == [U, None, None]
    assert found.get_presence(1, 0) is P


def test_replacing_removes_old_presences_and_tracks() -> None:
    found = lanes({1: [P, T], 2: [T, P], 3: [P, P]})
    found.set_all({(3, 1): L, (4, 0): P})
    assert found.tracks == (3, 4)
    assert [found.get_presence(3, frame) for frame in (0, 1)] == [None, L]
    found.set_tracks([4, 9])
    assert found.tracks == (4, 9)
    assert found.get_presence(9, 0) is None, "a row that is used again is empty"
    found.set_presence(3, 0, T)
    assert (found.get_presence(3, 0), found.get_presence(3, 1)) == (T, None)


@pytest.mark.parametrize(
    ("first", "frames_per_px", "width", "expected"),
    [
        (0, 1, 6, [P, T, T, U, A, None]),
        (0, 1, 8, [P, T, T, U, A, None, None, None]),
        (0, 0.5, 6, [P, P, T, T, T, T]),
        (2, 1, 3, [T, U, A]),
        (0, 2, 3, [P, U, A]),
        (0, 3, 2, [P, U]),
        (1, 2.5, 2, [T, U]),
        (-2, 1, 4, [None, None, P, T]),
        (9, 1, 2, [None, None]),
        (0, 100, 1, [U]),
    ],
)
def test_columns(
    first: float, frames_per_px: float, width: int, expected: list[Presence | None]
) -> None:
    found = lanes({1: [A, A, A, A, A, A], 2: [P, T, T, U, A, None]})
    codes = found.render_columns(range(1, 2), first, frames_per_px, width)
    assert codes.tolist() == [
        [NOT_PROPAGATED if each is None else PRESENCE_CODES[each] for each in expected]
    ]


def test_columns_are_those_of_each_pixel_alone() -> None:
    rng = np.random.default_rng(0)
    found = LaneGrid(101)
    presences = [None, *Presence]
    for frame, code in enumerate(rng.integers(0, len(presences), 101)):
        found.set_presence(1, frame, presences[code])
    codes = [
        NOT_PROPAGATED if (each := found.get_presence(1, frame)) is None else PRESENCE_CODES[each]
        for frame in range(101)
    ]
    seen = found.render_columns(range(1), 3.25, 1.75, 50)[0]
    for x in range(50):
        inside = codes[
            int(3.25 + x * 1.75) : max(int(3.25 + x * 1.75) + 1, int(3.25 + (x + 1) * 1.75))
        ]
        assert seen[x] == max(inside), x


def test_a_frame_is_described_with_its_flags() -> None:
    found = lanes({1: [P, T], 2: [P, U]})
    found.set_descriptions([Track(2, "Anna", "nucleus")])
    found.set_review_flags(
        [
            ReviewFlag(1, 1, Reason.TOUCHING, 0.5, "touches object 2", 2),
            ReviewFlag(2, 1, Reason.UNCERTAIN, 0.4, "predicted IoU 0.30"),
        ]
    )
    assert (
        found.describe_frame(2, 1)
        == "Anna (nucleus) · frame 1 · uncertain\ntouching: touches object 1\nuncertain: "
        "predicted IoU 0.30"
    )
    assert found.describe_frame(1, 1) == "object 1 · frame 1 · tracked\ntouching: touches Anna"
    assert found.describe_frame(1, 0) == "object 1 · frame 0 · prompted"
    assert (found.get_flagged_frames(1), found.get_flagged_frames(2), found.flagged_frames) == (
        [1],
        [1],
        (1,),
    )
    found.set_review_flags([])
    assert found.flagged_frames == () and found.get_flagged_frames(1) == []


def test_half_a_million_presences_are_set_at_once() -> None:
    presences = {(track, frame): T for track in range(1, 501) for frame in range(1000)}
    found = LaneGrid(1000)
    found.set_all(presences)
    columns = found.render_columns(range(200, 240), 0, 1.25, 800)
    assert columns.shape == (40, 800) and (columns == PRESENCE_CODES[T]).all()


def make_viewport(**changes: object) -> TimelineViewport:
    found = LaneGrid(100)
    found.set_tracks(range(1, 41))
    return TimelineViewport(
        found,
        (NAMES_WIDTH_PX + 500, HEADER_HEIGHT_PX + 10 * LANE_HEIGHT_PX + LEGEND_HEIGHT_PX),
        **changes,
    )


def test_all_frames_fit_until_one_zooms() -> None:
    assert make_viewport().frame_width_px == 5.0
    assert make_viewport().extent_px == (500, 40 * LANE_HEIGHT_PX)
    assert make_viewport(zoom=2.0).extent_px == (1000, 40 * LANE_HEIGHT_PX)
    assert make_viewport(zoom=1000.0).frame_width_px == MAX_FRAME_WIDTH_PX


@pytest.mark.parametrize(
    "view",
    [
        make_viewport(),
        make_viewport(zoom=3.0, scroll_x_px=77),
        make_viewport(zoom=9.0, scroll_x_px=2000),
    ],
    ids=["all", "zoomed", "far right"],
)
def test_frame_at_inverts_frame_x(view: TimelineViewport) -> None:
    for frame in (0, 1, 50, 99):
        assert view.frame_at(view.frame_x(frame) + 0.01) == frame
        assert view.frame_at(view.frame_x(frame + 1) - 0.01) == frame


def test_positions_outside_frames_and_lanes() -> None:
    view = make_viewport(scroll_y_px=LANE_HEIGHT_PX * 3 + 4)
    assert (view.frame_at(-50), view.frame_at(10_000)) == (0, 99)
    assert view.track_at(HEADER_HEIGHT_PX) == 4
    assert (
        view.track_at(HEADER_HEIGHT_PX + LANE_HEIGHT_PX - 5) == 4
        and view.track_at(HEADER_HEIGHT_PX + LANE_HEIGHT_PX) == 5
    )
    assert (
        view.track_at(HEADER_HEIGHT_PX - 1),
        view.track_at(HEADER_HEIGHT_PX + 10 * LANE_HEIGHT_PX),
    ) == (0, 0)
    assert view.visible_rows == range(3, 15)
    assert make_viewport(scroll_y_px=10_000).visible_rows == range(
        10_000 // LANE_HEIGHT_PX, 10_000 // LANE_HEIGHT_PX
    )


def test_the_grid_grows_with_its_tracks() -> None:
    lanes = LaneGrid(3)
    for track in range(1, 200):
        lanes.set_presence(track, 1, Presence.TRACKED)
    assert all(lanes.find_row(track) == track - 1 for track in range(1, 200))

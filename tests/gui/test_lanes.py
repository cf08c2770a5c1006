"""Swim lanes on a screen: clicks, drags, the wheel and keys."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("tests.gui.screen")

from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QColor, QHelpEvent, QImage, QPalette, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QToolTip

from napari_sam2.core.track import Presence
from napari_sam2.gui.widgets.timeline.lane_grid import LaneGrid
from napari_sam2.gui.widgets.timeline.painting import FLAG_COLOUR, PRESENCE_COLOURS
from napari_sam2.gui.widgets.timeline.swim_lanes import SwimLanes
from napari_sam2.gui.widgets.timeline.viewport import (
    HEADER_HEIGHT_PX,
    LANE_HEIGHT_PX,
    NAMES_WIDTH_PX,
)
from napari_sam2.propagation.review import Reason, ReviewFlag
from tests.gui.screen import get_application, process_events, show_widget

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


def make_lanes(tracks: int, frames: int) -> LaneGrid:
    lanes = LaneGrid(frames)
    lanes.set_all(
        {
            (track, frame): Presence.TRACKED
            for track in range(1, tracks + 1)
            for frame in range(frames)
        }
    )
    return lanes


@pytest.fixture
def swim() -> Iterator[SwimLanes]:
    get_application()
    widget = show_widget(SwimLanes(make_lanes(30, 50)), NAMES_WIDTH_PX + 500 + 20, 300)
    yield widget
    widget.close()
    widget.deleteLater()
    process_events()


@pytest.fixture
def emitted(swim: SwimLanes) -> list[tuple[str, int, int]]:
    signals: list[tuple[str, int, int]] = []
    swim.frame_chosen.connect(lambda frame, track: signals.append(("frame", frame, track)))
    swim.range_chosen.connect(lambda first, after: signals.append(("range", first, after)))
    return signals


def find_point(swim: SwimLanes, frame: float, row: int | None) -> QPoint:
    """The middle of a frame in the lane of a row; in the header where the row is None."""
    y = (
        HEADER_HEIGHT_PX // 2
        if row is None
        else HEADER_HEIGHT_PX
        + row * LANE_HEIGHT_PX
        + LANE_HEIGHT_PX // 2
        - swim.verticalScrollBar().value()
    )
    return QPoint(round(swim.timeline_viewport.frame_x(frame + 0.5)), y)


def drag(swim: SwimLanes, *points: QPoint) -> None:
    QTest.mousePress(swim.viewport(), LEFT, NONE, points[0])
    for point in points[1:]:
        QTest.mouseMove(swim.viewport(), point)
        process_events()
    QTest.mouseRelease(swim.viewport(), LEFT, NONE, points[-1])
    process_events()


def test_a_click_on_a_lane_goes_to_its_track_and_frame(swim: SwimLanes, emitted: list) -> None:
    QTest.mouseClick(swim.viewport(), LEFT, NONE, find_point(swim, 17, 4))
    assert emitted == [("frame", 17, 5)]
    assert (swim.frame, swim.track) == (17, 5)


def test_a_drag_along_a_lane_goes_through_frames(swim: SwimLanes, emitted: list) -> None:
    drag(swim, find_point(swim, 10, 2), find_point(swim, 12, 2), find_point(swim, 15, 6))
    assert emitted == [("frame", 10, 3), ("frame", 12, 3), ("frame", 15, 3)], (
        "the lane is that of the press"
    )


def test_a_click_on_the_header_goes_to_the_frame_only(swim: SwimLanes, emitted: list) -> None:
    QTest.mouseClick(swim.viewport(), LEFT, NONE, find_point(swim, 31, None))
    assert emitted == [("frame", 31, 0)]


def test_a_click_on_a_name_chooses_the_object_on_the_same_frame(
    swim: SwimLanes, emitted: list
) -> None:
    swim.go_to_frame(8)
    QTest.mouseClick(
        swim.viewport(), LEFT, NONE, QPoint(30, HEADER_HEIGHT_PX + 3 * LANE_HEIGHT_PX + 5)
    )
    assert emitted == [("frame", 8, 4)]


@pytest.mark.parametrize("points", [(5, 20), (20, 12, 5)], ids=["to the right", "to the left"])
def test_a_drag_on_the_header_chooses_a_range_and_a_double_click_all(
    swim: SwimLanes, emitted: list, points: tuple[int, ...]
) -> None:
    drag(swim, *(find_point(swim, frame, None) for frame in points))
    assert emitted == [("range", 5, 21)]
    assert swim.frame_range == (5, 21)
    QTest.mouseDClick(swim.viewport(), LEFT, NONE, find_point(swim, 10, None))
    assert emitted[-1] == ("range", 0, 50)
    assert swim.frame_range is None


def wheel(
    swim: SwimLanes, x: int, y: int, notches: int, modifier: Qt.KeyboardModifier = NONE
) -> None:
    point = QPointF(x, y)
    event = QWheelEvent(
        point,
        QPointF(swim.viewport().mapToGlobal(point.toPoint())),
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        modifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(swim.viewport(), event)
    process_events()


def test_the_wheel_zooms_about_the_pointer_and_back_to_everything(swim: SwimLanes) -> None:
    x, before = NAMES_WIDTH_PX + 333, swim.timeline_viewport.frame_width_px
    frame = swim.timeline_viewport.frame_at(x)
    for _ in range(4):
        wheel(swim, x, 100, 1)
        assert swim.timeline_viewport.frame_at(x) == frame
    assert swim.timeline_viewport.frame_width_px == pytest.approx(before * 1.25**4)
    wheel(swim, x, 100, -40)
    assert (swim.timeline_viewport.frame_width_px, swim.horizontalScrollBar().maximum()) == (
        before,
        0,
    )
    wheel(swim, x, 100, 60)
    assert swim.timeline_viewport.frame_width_px == pytest.approx(48.0)


@pytest.mark.parametrize(
    ("x", "modifier"),
    [(30, NONE), (300, Qt.KeyboardModifier.ShiftModifier)],
    ids=["over names", "with shift"],
)
def test_the_wheel_scrolls_the_lanes(
    swim: SwimLanes, x: int, modifier: Qt.KeyboardModifier
) -> None:
    before = swim.timeline_viewport.frame_width_px
    wheel(swim, x, 100, -2, modifier)
    assert swim.verticalScrollBar().value() == 6 * LANE_HEIGHT_PX
    assert swim.timeline_viewport.frame_width_px == before


def test_selection_from_outside_scrolls_and_emits_nothing(swim: SwimLanes, emitted: list) -> None:
    swim.select(29)
    assert 28 in swim.timeline_viewport.visible_rows
    swim.zoom(8)
    swim.go_to_frame(49)
    assert NAMES_WIDTH_PX <= swim.timeline_viewport.frame_x(49) <= swim.viewport().width()
    swim.go_to_frame(0)
    assert swim.timeline_viewport.frame_x(0) == NAMES_WIDTH_PX
    assert emitted == []


def test_arrows_go_to_other_frames_and_lanes(swim: SwimLanes, emitted: list) -> None:
    swim.go_to_frame(3)
    swim.select(2)
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Left, Qt.Key.Key_Up, Qt.Key.Key_Up):
        QTest.keyClick(swim, key)
    assert emitted == [
        ("frame", 4, 2),
        ("frame", 4, 3),
        ("frame", 3, 3),
        ("frame", 3, 2),
        ("frame", 3, 1),
    ]


def pixels(swim: SwimLanes) -> np.ndarray:
    process_events()
    image = swim.viewport().grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    return (
        np.frombuffer(bits, np.uint8).reshape(image.height(), image.width(), 4)[..., 2::-1].copy()
    )


def rgb(colour: QColor) -> list[int]:
    return [colour.red(), colour.green(), colour.blue()]


@pytest.mark.parametrize("presence", PRESENCE_COLOURS, ids=str)
def test_a_presence_is_drawn_in_its_colour_where_it_is(swim: SwimLanes, presence: Presence) -> None:
    swim.go_to_frame(0)
    swim.lanes.set_presence(3, 20, presence)
    swim.refresh()
    point = find_point(swim, 20, 2)
    assert pixels(swim)[point.y() + 2, point.x() - 2].tolist() == rgb(PRESENCE_COLOURS[presence])


def test_an_absent_object_is_a_thin_line_and_no_bar(swim: SwimLanes) -> None:
    swim.lanes.set_presence(3, 20, Presence.ABSENT)
    swim.refresh()
    seen, point = pixels(swim), find_point(swim, 20, 2)
    column = seen[
        HEADER_HEIGHT_PX + 2 * LANE_HEIGHT_PX + 1 : HEADER_HEIGHT_PX + 3 * LANE_HEIGHT_PX - 1,
        point.x() - 2,
    ].astype(int)
    ground = column[0]
    assert 1 <= (np.abs(column - ground).sum(axis=1) > 20).sum() <= 3


def test_review_flags_are_marked_and_described(swim: SwimLanes) -> None:
    swim.lanes.set_review_flags([ReviewFlag(5, 30, Reason.LOST, 1.0, "was 300 px")])
    swim.refresh()
    point = find_point(swim, 30, 4)
    assert pixels(swim)[HEADER_HEIGHT_PX + 4 * LANE_HEIGHT_PX + 2, point.x()].tolist() == rgb(
        FLAG_COLOUR
    )
    event = QHelpEvent(QEvent.Type.ToolTip, point, swim.viewport().mapToGlobal(point))
    QApplication.sendEvent(swim.viewport(), event)
    assert QToolTip.text() == "object 5 · frame 30 · tracked\nlost: was 300 px"
    QToolTip.hideText()


@pytest.mark.parametrize("ground", ["#23242b", "#ece7e6"], ids=["dark", "light"])
def test_lanes_follow_the_theme(swim: SwimLanes, ground: str) -> None:
    palette = QPalette(swim.palette())
    palette.setColor(QPalette.ColorRole.Window, QColor(ground))
    swim.setPalette(palette)
    assert pixels(swim)[-3, 5].tolist() == rgb(QColor(ground))


def test_no_objects_and_no_room_are_no_error() -> None:
    empty = show_widget(SwimLanes(), 60, 40)
    process_events()
    empty.show_lanes(make_lanes(2, 1))
    process_events()
    empty.close()


def test_only_visible_lanes_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = make_lanes(500, 1000)
    rendered: list[tuple[range, int]] = []
    render = LaneGrid.render_columns

    def record(self: LaneGrid, rows: range, first: float, per_px: float, width: int) -> np.ndarray:
        rendered.append((rows, width))
        return render(self, rows, first, per_px, width)

    monkeypatch.setattr(LaneGrid, "render_columns", record)
    swim = show_widget(SwimLanes(lanes, colour=lambda track: (1.0, 0.5, 0.2)), 1200, 700)
    swim.select(250)
    lanes.set_frame(0, dict.fromkeys(range(1, 501), Presence.UNCERTAIN))
    swim.refresh()
    process_events()
    visible = swim.timeline_viewport.visible_rows
    swim.close()
    assert rendered[-1] == (visible, swim.timeline_viewport.frames_width_px)
    assert 249 in visible and len(visible) < 50

"""Swim lanes on a screen: clicks, drags, the wheel and keys."""

from __future__ import annotations

import time
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


def filled(tracks: int, frames: int) -> LaneGrid:
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
    widget = show_widget(SwimLanes(filled(30, 50)), NAMES_WIDTH_PX + 500 + 20, 300)
    yield widget
    widget.close()
    widget.deleteLater()
    process_events()


@pytest.fixture
def heard(swim: SwimLanes) -> list[tuple[str, int, int]]:
    said: list[tuple[str, int, int]] = []
    swim.frame_chosen.connect(lambda frame, track: said.append(("frame", frame, track)))
    swim.range_chosen.connect(lambda first, after: said.append(("range", first, after)))
    return said


def at(swim: SwimLanes, frame: float, row: int | None) -> QPoint:
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


def drag(swim: SwimLanes, *places: QPoint) -> None:
    QTest.mousePress(swim.viewport(), LEFT, NONE, places[0])
    for place in places[1:]:
        QTest.mouseMove(swim.viewport(), place)
        process_events()
    QTest.mouseRelease(swim.viewport(), LEFT, NONE, places[-1])
    process_events()


def test_a_click_on_a_lane_travels_to_its_track_and_frame(swim: SwimLanes, heard: list) -> None:
    QTest.mouseClick(swim.viewport(), LEFT, NONE, at(swim, 17, 4))
    assert heard == [("frame", 17, 5)]
    assert (swim.frame, swim.track) == (17, 5)


def test_a_drag_along_a_lane_travels_with_it(swim: SwimLanes, heard: list) -> None:
    drag(swim, at(swim, 10, 2), at(swim, 12, 2), at(swim, 15, 6))
    assert heard == [("frame", 10, 3), ("frame", 12, 3), ("frame", 15, 3)], (
        "the lane is that of the press"
    )


def test_a_click_on_the_header_travels_and_means_no_object(swim: SwimLanes, heard: list) -> None:
    QTest.mouseClick(swim.viewport(), LEFT, NONE, at(swim, 31, None))
    assert heard == [("frame", 31, 0)]


def test_a_click_on_a_name_chooses_the_object_on_the_same_frame(
    swim: SwimLanes, heard: list
) -> None:
    swim.go_to_frame(8)
    QTest.mouseClick(
        swim.viewport(), LEFT, NONE, QPoint(30, HEADER_HEIGHT_PX + 3 * LANE_HEIGHT_PX + 5)
    )
    assert heard == [("frame", 8, 4)]


@pytest.mark.parametrize("places", [(5, 20), (20, 12, 5)], ids=["to the right", "to the left"])
def test_a_drag_on_the_header_takes_a_range_and_a_double_click_gives_it_back(
    swim: SwimLanes, heard: list, places: tuple[int, ...]
) -> None:
    drag(swim, *(at(swim, frame, None) for frame in places))
    assert heard == [("range", 5, 21)]
    assert swim.frame_range == (5, 21)
    QTest.mouseDClick(swim.viewport(), LEFT, NONE, at(swim, 10, None))
    assert heard[-1] == ("range", 0, 50)
    assert swim.frame_range is None


def wheel(
    swim: SwimLanes, x: int, y: int, notches: int, modifier: Qt.KeyboardModifier = NONE
) -> None:
    place = QPointF(x, y)
    event = QWheelEvent(
        place,
        QPointF(swim.viewport().mapToGlobal(place.toPoint())),
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


def test_what_is_chosen_elsewhere_comes_in_sight_and_says_nothing(
    swim: SwimLanes, heard: list
) -> None:
    swim.select(29)
    assert 28 in swim.timeline_viewport.visible_rows
    swim.zoom(8)
    swim.go_to_frame(49)
    assert NAMES_WIDTH_PX <= swim.timeline_viewport.frame_x(49) <= swim.viewport().width()
    swim.go_to_frame(0)
    assert swim.timeline_viewport.frame_x(0) == NAMES_WIDTH_PX
    assert heard == []


def test_arrows_travel(swim: SwimLanes, heard: list) -> None:
    swim.go_to_frame(3)
    swim.select(2)
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Left, Qt.Key.Key_Up, Qt.Key.Key_Up):
        QTest.keyClick(swim, key)
    assert heard == [
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
    place = at(swim, 20, 2)
    assert pixels(swim)[place.y() + 2, place.x() - 2].tolist() == rgb(PRESENCE_COLOURS[presence])


def test_an_absent_object_is_a_thin_line_and_no_bar(swim: SwimLanes) -> None:
    swim.lanes.set_presence(3, 20, Presence.ABSENT)
    swim.refresh()
    seen, place = pixels(swim), at(swim, 20, 2)
    column = seen[
        HEADER_HEIGHT_PX + 2 * LANE_HEIGHT_PX + 1 : HEADER_HEIGHT_PX + 3 * LANE_HEIGHT_PX - 1,
        place.x() - 2,
    ].astype(int)
    ground = column[0]
    assert 1 <= (np.abs(column - ground).sum(axis=1) > 20).sum() <= 3


def test_suspicious_places_are_marked_and_told(swim: SwimLanes) -> None:
    swim.lanes.set_review_flags([ReviewFlag(5, 30, Reason.LOST, 1.0, "was 300 px")])
    swim.refresh()
    place = at(swim, 30, 4)
    assert pixels(swim)[HEADER_HEIGHT_PX + 4 * LANE_HEIGHT_PX + 2, place.x()].tolist() == rgb(
        FLAG_COLOUR
    )
    event = QHelpEvent(QEvent.Type.ToolTip, place, swim.viewport().mapToGlobal(place))
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
    empty.show_lanes(filled(2, 1))
    process_events()
    empty.close()


def test_five_hundred_objects_over_a_thousand_frames_are_painted_quickly() -> None:
    lanes = filled(500, 1000)
    lanes.set_review_flags(
        ReviewFlag(track, frame, Reason.AREA, 0.5)
        for track in range(1, 501)
        for frame in range(0, 1000, 10)
    )
    swim = show_widget(SwimLanes(lanes, colour=lambda track: (1.0, 0.5, 0.2)), 1200, 700)
    began = time.process_time()
    for frame in range(20):
        lanes.set_frame(frame, dict.fromkeys(range(1, 501), Presence.UNCERTAIN))
        swim.refresh()
        swim.viewport().repaint()
    seconds = (time.process_time() - began) / 20
    swim.close()
    assert seconds < 0.08, f"{seconds:.3f} s for a frame's results and the picture"

"""Swim lanes on a screen: what clicks, drags, the wheel and keys do, and how long painting takes."""

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

from napari_sam2.core.presence import Presence
from napari_sam2.gui.app.lane_grid import Lanes
from napari_sam2.gui.app.timeline_viewport import GUTTER, HEADER, LANE
from napari_sam2.gui.widgets.timeline.painting import COLOURS, MARK
from napari_sam2.gui.widgets.timeline.swim_lanes import SwimLanes
from napari_sam2.propagation.review import Reason, Suspicion
from tests.gui.screen import application, settle, shown

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


def filled(tracks: int, frames: int) -> Lanes:
    lanes = Lanes(frames)
    lanes.replace(
        {
            (track, frame): Presence.TRACKED
            for track in range(1, tracks + 1)
            for frame in range(frames)
        }
    )
    return lanes


@pytest.fixture
def swim() -> Iterator[SwimLanes]:
    application()
    widget = shown(SwimLanes(filled(30, 50)), GUTTER + 500 + 20, 300)
    yield widget
    widget.close()
    widget.deleteLater()
    settle()


@pytest.fixture
def heard(swim: SwimLanes) -> list[tuple[str, int, int]]:
    said: list[tuple[str, int, int]] = []
    swim.frame_chosen.connect(lambda frame, track: said.append(("frame", frame, track)))
    swim.range_chosen.connect(lambda first, after: said.append(("range", first, after)))
    return said


def at(swim: SwimLanes, frame: float, row: int | None) -> QPoint:
    """The middle of a frame in the lane of a row; in the header where the row is None."""
    y = (
        HEADER // 2
        if row is None
        else HEADER + row * LANE + LANE // 2 - swim.verticalScrollBar().value()
    )
    return QPoint(round(swim.sight.x(frame + 0.5)), y)


def drag(swim: SwimLanes, *places: QPoint) -> None:
    QTest.mousePress(swim.viewport(), LEFT, NONE, places[0])
    for place in places[1:]:
        QTest.mouseMove(swim.viewport(), place)
        settle()
    QTest.mouseRelease(swim.viewport(), LEFT, NONE, places[-1])
    settle()


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
    swim.go(8)
    QTest.mouseClick(swim.viewport(), LEFT, NONE, QPoint(30, HEADER + 3 * LANE + 5))
    assert heard == [("frame", 8, 4)]


@pytest.mark.parametrize("places", [(5, 20), (20, 12, 5)], ids=["to the right", "to the left"])
def test_a_drag_on_the_header_takes_a_range_and_a_double_click_gives_it_back(
    swim: SwimLanes, heard: list, places: tuple[int, ...]
) -> None:
    drag(swim, *(at(swim, frame, None) for frame in places))
    assert heard == [("range", 5, 21)]
    assert swim.chosen == (5, 21)
    QTest.mouseDClick(swim.viewport(), LEFT, NONE, at(swim, 10, None))
    assert heard[-1] == ("range", 0, 50)
    assert swim.chosen is None


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
    settle()


def test_the_wheel_zooms_about_the_pointer_and_back_to_everything(swim: SwimLanes) -> None:
    x, before = GUTTER + 333, swim.sight.scale
    frame = swim.sight.frame_at(x)
    for _ in range(4):
        wheel(swim, x, 100, 1)
        assert swim.sight.frame_at(x) == frame
    assert swim.sight.scale == pytest.approx(before * 1.25**4)
    wheel(swim, x, 100, -40)
    assert (swim.sight.scale, swim.horizontalScrollBar().maximum()) == (before, 0)
    wheel(swim, x, 100, 60)
    assert swim.sight.scale == pytest.approx(48.0)


@pytest.mark.parametrize(
    ("x", "modifier"),
    [(30, NONE), (300, Qt.KeyboardModifier.ShiftModifier)],
    ids=["over names", "with shift"],
)
def test_the_wheel_scrolls_the_lanes(
    swim: SwimLanes, x: int, modifier: Qt.KeyboardModifier
) -> None:
    before = swim.sight.scale
    wheel(swim, x, 100, -2, modifier)
    assert swim.verticalScrollBar().value() == 6 * LANE
    assert swim.sight.scale == before


def test_what_is_chosen_elsewhere_comes_in_sight_and_says_nothing(
    swim: SwimLanes, heard: list
) -> None:
    swim.select(29)
    assert 28 in swim.sight.rows
    swim.zoom(8)
    swim.go(49)
    assert GUTTER <= swim.sight.x(49) <= swim.viewport().width()
    swim.go(0)
    assert swim.sight.x(0) == GUTTER
    assert heard == []


def test_arrows_travel(swim: SwimLanes, heard: list) -> None:
    swim.go(3)
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
    settle()
    image = swim.viewport().grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    return (
        np.frombuffer(bits, np.uint8).reshape(image.height(), image.width(), 4)[..., 2::-1].copy()
    )


def rgb(colour: QColor) -> list[int]:
    return [colour.red(), colour.green(), colour.blue()]


@pytest.mark.parametrize("presence", COLOURS, ids=str)
def test_a_presence_is_drawn_in_its_colour_where_it_is(swim: SwimLanes, presence: Presence) -> None:
    swim.go(0)
    swim.lanes.put(3, 20, presence)
    swim.refresh()
    place = at(swim, 20, 2)
    assert pixels(swim)[place.y() + 2, place.x() - 2].tolist() == rgb(COLOURS[presence])


def test_an_absent_object_is_a_thin_line_and_no_bar(swim: SwimLanes) -> None:
    swim.lanes.put(3, 20, Presence.ABSENT)
    swim.refresh()
    seen, place = pixels(swim), at(swim, 20, 2)
    column = seen[HEADER + 2 * LANE + 1 : HEADER + 3 * LANE - 1, place.x() - 2].astype(int)
    ground = column[0]
    assert 1 <= (np.abs(column - ground).sum(axis=1) > 20).sum() <= 3


def test_suspicious_places_are_marked_and_told(swim: SwimLanes) -> None:
    swim.lanes.mark([Suspicion(5, 30, Reason.LOST, 1.0, "was 300 px")])
    swim.refresh()
    place = at(swim, 30, 4)
    assert pixels(swim)[HEADER + 4 * LANE + 2, place.x()].tolist() == rgb(MARK)
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
    empty = shown(SwimLanes(), 60, 40)
    settle()
    empty.show_lanes(filled(2, 1))
    settle()
    empty.close()


def test_five_hundred_objects_over_a_thousand_frames_are_painted_quickly() -> None:
    lanes = filled(500, 1000)
    lanes.mark(
        Suspicion(track, frame, Reason.AREA, 0.5)
        for track in range(1, 501)
        for frame in range(0, 1000, 10)
    )
    swim = shown(SwimLanes(lanes, colour=lambda track: (1.0, 0.5, 0.2)), 1200, 700)
    began = time.process_time()
    for frame in range(20):
        lanes.put_frame(frame, dict.fromkeys(range(1, 501), Presence.UNCERTAIN))
        swim.refresh()
        swim.viewport().repaint()
    seconds = (time.process_time() - began) / 20
    swim.close()
    assert seconds < 0.08, f"{seconds:.3f} s for a frame's results and the picture"

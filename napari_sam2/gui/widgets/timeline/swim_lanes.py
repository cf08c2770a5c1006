"""SwimLanes: one lane for each object over all frames.

Click or drag to go to a frame, use the wheel to zoom, and drag on the header to choose a range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QAbstractScrollArea, QSizePolicy, QToolTip, QWidget

from napari_sam2.gui.widgets.elements import TrackColour
from napari_sam2.gui.widgets.timeline.lane_grid import LaneGrid
from napari_sam2.gui.widgets.timeline.painting import LanePainter
from napari_sam2.gui.widgets.timeline.viewport import (
    HEADER_HEIGHT_PX,
    LANE_HEIGHT_PX,
    LEGEND_HEIGHT_PX,
    MAX_FRAME_WIDTH_PX,
    NAMES_WIDTH_PX,
    TimelineViewport,
)

_ZOOM_STEP = 1.25  # of one notch of the wheel
_MIN_DRAG_PX = 4  # a shorter one is a click


class SwimLanes(QAbstractScrollArea):
    """The lanes of all objects, of which the visible ones are painted.

    To change what they show, change `lanes` and call `refresh`.
    """

    frame_chosen = Signal(int, int)
    """The frame and track of a click or drag; track 0 if it was not on a lane."""
    range_chosen = Signal(int, int)
    """The frames of a drag on the header, as in a slice; all after a double click there."""

    def __init__(
        self,
        lanes: LaneGrid | None = None,
        *,
        colour: TrackColour | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.lanes = lanes or LaneGrid(1)
        self.frame = 0
        self.track = 0
        self.frame_range: tuple[int, int] | None = None
        self._track_colour = colour
        self._zoom = 1.0  # 1: all frames fit
        # where a drag started: "header" or "lane", its x, its frame or track
        self._drag_start: tuple[str, int, int] | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFrameShape(QAbstractScrollArea.Shape.NoFrame)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Objects over all frames")
        self.setMinimumHeight(HEADER_HEIGHT_PX + 3 * LANE_HEIGHT_PX)
        self.viewport().setMouseTracking(True)
        self.refresh()

    def show_lanes(self, lanes: LaneGrid, colour: TrackColour | None = None) -> None:
        """Show other lanes."""
        self.lanes, self._track_colour = lanes, colour or self._track_colour
        self.frame, self.track, self.frame_range, self._zoom = 0, 0, None, 1.0
        self.refresh()

    def refresh(self) -> None:
        """Draw what changed in `lanes`. The cost depends on the visible lanes only."""
        self._fit_scroll_bars()
        self.viewport().update()

    def go_to_frame(self, frame: int) -> None:
        """Mark this frame as the current one, and scroll to it."""
        self.frame = int(np.clip(frame, 0, self.lanes.frames - 1))
        bar, timeline = self.horizontalScrollBar(), self.timeline_viewport
        x = self.frame * timeline.frame_width_px
        if x < bar.value():
            bar.setValue(int(x))
        elif x + timeline.frame_width_px > bar.value() + timeline.frames_width_px:
            bar.setValue(int(x + timeline.frame_width_px - timeline.frames_width_px) + 1)
        self.viewport().update()

    def select(self, track: int) -> None:
        """Mark this object's lane as the current one, and scroll to it; 0 for none."""
        self.track = track
        row = self.lanes.find_row(track)
        if row is not None:
            bar = self.verticalScrollBar()
            bar.setValue(
                int(
                    np.clip(
                        bar.value(),
                        (row + 1) * LANE_HEIGHT_PX - self.timeline_viewport.lanes_height_px,
                        row * LANE_HEIGHT_PX,
                    )
                )
            )
        self.viewport().update()

    def clear_range(self) -> None:
        """Choose all frames."""
        self.frame_range = None
        self.viewport().update()

    def sizeHint(self) -> QSize:
        """Prefer a wide and low widget."""
        return QSize(640, HEADER_HEIGHT_PX + LEGEND_HEIGHT_PX + 5 * LANE_HEIGHT_PX)

    @property
    def timeline_viewport(self) -> TimelineViewport:
        """The visible part of the lanes."""
        view, across, down = (
            self.viewport(),
            self.horizontalScrollBar().value(),
            self.verticalScrollBar().value(),
        )
        return TimelineViewport(
            self.lanes,
            (view.width(), view.height()),
            self._zoom,
            across,
            down,
            self.frame,
            self.track,
            self.frame_range,
        )

    def _fit_scroll_bars(self) -> None:
        timeline = self.timeline_viewport
        for bar, whole, seen, step in (
            (
                self.verticalScrollBar(),
                timeline.extent_px[1],
                timeline.lanes_height_px,
                LANE_HEIGHT_PX,
            ),
            (self.horizontalScrollBar(), timeline.extent_px[0], timeline.frames_width_px, 20),
        ):
            bar.setRange(0, max(0, whole - seen))
            bar.setPageStep(seen)
            bar.setSingleStep(step)

    def mousePressEvent(self, event: Any) -> None:
        """Go to a frame, or start a drag."""
        if event.button() != Qt.MouseButton.LeftButton:
            return
        x, y = event.position().x(), event.position().y()
        if y < HEADER_HEIGHT_PX:
            self._drag_start = ("header", int(x), self.timeline_viewport.frame_at(x))
            return
        track = self.timeline_viewport.track_at(y)
        if x < NAMES_WIDTH_PX and track:
            self._go_and_emit(self.frame, track)
        elif y < HEADER_HEIGHT_PX + self.timeline_viewport.lanes_height_px:
            self._drag_start = ("lane", int(x), track)
            self._go_and_emit(self.timeline_viewport.frame_at(x), track)

    def mouseMoveEvent(self, event: Any) -> None:
        """Go along with a drag, or change the range."""
        if self._drag_start is None:
            return
        area, x, origin = self._drag_start
        here = self.timeline_viewport.frame_at(event.position().x())
        if area == "lane" and here != self.frame:
            self._go_and_emit(here, origin)
        elif area == "header" and abs(event.position().x() - x) >= _MIN_DRAG_PX:
            self.frame_range = (min(origin, here), max(origin, here) + 1)
            self.viewport().update()

    def mouseReleaseEvent(self, event: Any) -> None:
        """Choose the range; a click on the header goes to the frame."""
        if self._drag_start is not None and self._drag_start[0] == "header":
            _, x, origin = self._drag_start
            if abs(event.position().x() - x) < _MIN_DRAG_PX:
                self._go_and_emit(origin, 0)
            elif self.frame_range is not None:
                self.range_chosen.emit(*self.frame_range)
        self._drag_start = None

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Choose all frames again, on the header."""
        if event.position().y() < HEADER_HEIGHT_PX and self.frame_range is not None:
            self.clear_range()
            self.range_chosen.emit(0, self.lanes.frames)
        else:
            self.mousePressEvent(event)

    def wheelEvent(self, event: Any) -> None:
        """Zoom at the pointer. Over the names, or with Shift or Ctrl, scroll the lanes."""
        across, down = event.angleDelta().x(), event.angleDelta().y()
        x = event.position().x()
        if across and not down:
            bar = self.horizontalScrollBar()
            bar.setValue(bar.value() - across)
        elif x < NAMES_WIDTH_PX or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            bar = self.verticalScrollBar()
            bar.setValue(bar.value() - (down or across) * LANE_HEIGHT_PX * 3 // 120)
        else:
            self.zoom(_ZOOM_STEP ** (down / 120), centre_x=x)
        event.accept()

    def zoom(self, factor: float, *, centre_x: float | None = None) -> None:
        """Show frames `factor` times as wide; the frame at `centre_x` stays there."""
        timeline, bar = self.timeline_viewport, self.horizontalScrollBar()
        x = timeline.frame_x(self.frame + 0.5) if centre_x is None else centre_x
        frame = (x - NAMES_WIDTH_PX + bar.value()) / timeline.frame_width_px
        max_zoom = max(1.0, MAX_FRAME_WIDTH_PX * self.lanes.frames / timeline.frames_width_px)
        self._zoom = float(np.clip(self._zoom * factor, 1.0, max_zoom))
        self._fit_scroll_bars()
        bar.setValue(round(frame * self.timeline_viewport.frame_width_px - (x - NAMES_WIDTH_PX)))
        self.viewport().update()

    def keyPressEvent(self, event: Any) -> None:
        """Go to other frames and lanes with the arrows, and zoom with + and -."""
        key = event.key()
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
        lanes = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}
        if key in steps:
            self._go_and_emit(self.frame + steps[key], self.track)
        elif key in lanes and len(self.lanes):
            row = self.lanes.find_row(self.track)
            to = 0 if row is None else int(np.clip(row + lanes[key], 0, len(self.lanes) - 1))
            self._go_and_emit(self.frame, self.lanes.tracks[to])
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal, Qt.Key.Key_Minus):
            self.zoom(1 / _ZOOM_STEP if key == Qt.Key.Key_Minus else _ZOOM_STEP)
        else:
            super().keyPressEvent(event)

    def _go_and_emit(self, frame: int, track: int) -> None:
        self.go_to_frame(frame)
        if track:
            self.select(track)
        self.frame_chosen.emit(self.frame, track)

    def viewportEvent(self, event: Any) -> bool:
        """Show what is under the pointer."""
        if event.type() == QEvent.Type.ToolTip:
            track = self.timeline_viewport.track_at(event.pos().y())
            if track and event.pos().x() >= NAMES_WIDTH_PX:
                QToolTip.showText(
                    event.globalPos(),
                    self.lanes.describe_frame(
                        track, self.timeline_viewport.frame_at(event.pos().x())
                    ),
                    self,
                )
            else:
                QToolTip.hideText()
            return True
        return bool(super().viewportEvent(event))

    def resizeEvent(self, event: Any) -> None:
        """Fit the scroll bars."""
        super().resizeEvent(event)
        self._fit_scroll_bars()

    def changeEvent(self, event: Any) -> None:
        """Follow a change of the theme."""
        super().changeEvent(event)
        self.viewport().update()

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Draw everything again, because names and header do not scroll."""
        del dx, dy
        self.viewport().update()

    def paintEvent(self, event: Any) -> None:
        """Paint the visible lanes."""
        del event
        painter = QPainter(self.viewport())
        try:
            LanePainter(painter, self.timeline_viewport, self.palette(), self._track_colour).paint()
        finally:
            painter.end()

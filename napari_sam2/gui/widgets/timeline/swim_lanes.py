"""SwimLanes: one lane for each object over all frames.

Click or drag to travel, the wheel zooms, a drag on the header takes a range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QAbstractScrollArea, QSizePolicy, QToolTip, QWidget

from napari_sam2.gui.app.lane_grid import Lanes
from napari_sam2.gui.app.timeline_viewport import GUTTER, HEADER, LANE, LEGEND, MOST, Sight
from napari_sam2.gui.widgets.timeline.painting import Colour, LanePainter

_STEP = 1.25  # of one notch of the wheel
_DRAG = 4  # px before a press is a drag


class SwimLanes(QAbstractScrollArea):
    """The lanes of all objects; only those in sight are painted.

    What they show is in `lanes`: change that, then `refresh`.

    `frame_chosen` (frame, track) comes with a click or drag, track 0 where no lane was meant;
    `range_chosen` (first, after), as in a slice, with a drag on the header, and (0, frames) where a
    range is taken back by a double click there.
    """

    frame_chosen = Signal(int, int)
    range_chosen = Signal(int, int)

    def __init__(
        self,
        lanes: Lanes | None = None,
        *,
        colour: Colour | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.lanes = lanes or Lanes(1)
        self.frame = 0
        self.track = 0
        self.chosen: tuple[int, int] | None = None
        self._colour = colour
        self._zoom = 1.0  # 1: all frames fit
        self._pressed: tuple[str, int, int] | None = (
            None  # where a drag began: header or lane, its x, its frame or track
        )
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFrameShape(QAbstractScrollArea.Shape.NoFrame)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Objects over all frames")
        self.setMinimumHeight(HEADER + 3 * LANE)
        self.viewport().setMouseTracking(True)
        self.refresh()

    def show_lanes(self, lanes: Lanes, colour: Colour | None = None) -> None:
        """Show others."""
        self.lanes, self._colour = lanes, colour or self._colour
        self.frame, self.track, self.chosen, self._zoom = 0, 0, None, 1.0
        self.refresh()

    def refresh(self) -> None:
        """Draw what changed in `lanes`; as cheap as what is in sight, however many there are."""
        self._fit_bars()
        self.viewport().update()

    def go(self, frame: int) -> None:
        """Show this frame as the one that is looked at; it is brought in sight."""
        self.frame = int(np.clip(frame, 0, self.lanes.frames - 1))
        bar, sight = self.horizontalScrollBar(), self.sight
        place = self.frame * sight.scale
        if place < bar.value():
            bar.setValue(int(place))
        elif place + sight.scale > bar.value() + sight.width:
            bar.setValue(int(place + sight.scale - sight.width) + 1)
        self.viewport().update()

    def select(self, track: int) -> None:
        """Show this object's lane as the current one, in sight; 0: none."""
        self.track = track
        row = self.lanes.row(track)
        if row is not None:
            bar = self.verticalScrollBar()
            bar.setValue(
                int(np.clip(bar.value(), (row + 1) * LANE - self.sight.height, row * LANE))
            )
        self.viewport().update()

    def clear_range(self) -> None:
        """All frames again."""
        self.chosen = None
        self.viewport().update()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Wide and low."""
        return QSize(640, HEADER + LEGEND + 8 * LANE)

    @property
    def sight(self) -> Sight:
        """What is seen now."""
        view, across, down = (
            self.viewport(),
            self.horizontalScrollBar().value(),
            self.verticalScrollBar().value(),
        )
        return Sight(
            self.lanes,
            (view.width(), view.height()),
            self._zoom,
            across,
            down,
            self.frame,
            self.track,
            self.chosen,
        )

    def _fit_bars(self) -> None:
        sight = self.sight
        for bar, whole, seen, step in (
            (self.verticalScrollBar(), sight.extent[1], sight.height, LANE),
            (self.horizontalScrollBar(), sight.extent[0], sight.width, 20),
        ):
            bar.setRange(0, max(0, whole - seen))
            bar.setPageStep(seen)
            bar.setSingleStep(step)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Travel, or begin a drag."""
        if event.button() != Qt.MouseButton.LeftButton:
            return
        x, y = event.position().x(), event.position().y()
        if y < HEADER:
            self._pressed = ("header", int(x), self.sight.frame_at(x))
            return
        track = self.sight.track_at(y)
        if x < GUTTER and track:
            self._choose(self.frame, track)
        elif y < HEADER + self.sight.height:
            self._pressed = ("lane", int(x), track)
            self._choose(self.sight.frame_at(x), track)

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        """Travel along, or stretch the range."""
        if self._pressed is None:
            return
        where, x, origin = self._pressed
        here = self.sight.frame_at(event.position().x())
        if where == "lane" and here != self.frame:
            self._choose(here, origin)
        elif where == "header" and abs(event.position().x() - x) >= _DRAG:
            self.chosen = (min(origin, here), max(origin, here) + 1)
            self.viewport().update()

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802
        """The range is chosen; a click on the header travels."""
        if self._pressed is not None and self._pressed[0] == "header":
            _, x, origin = self._pressed
            if abs(event.position().x() - x) < _DRAG:
                self._choose(origin, 0)
            elif self.chosen is not None:
                self.range_chosen.emit(*self.chosen)
        self._pressed = None

    def mouseDoubleClickEvent(self, event: Any) -> None:  # noqa: N802
        """On the header: take the range back."""
        if event.position().y() < HEADER and self.chosen is not None:
            self.clear_range()
            self.range_chosen.emit(0, self.lanes.frames)
        else:
            self.mousePressEvent(event)

    def wheelEvent(self, event: Any) -> None:  # noqa: N802
        """Zoom about the pointer; over the names, or with Shift or Ctrl, scroll the lanes; sideways, the frames."""
        across, down = event.angleDelta().x(), event.angleDelta().y()
        x = event.position().x()
        if across and not down:
            bar = self.horizontalScrollBar()
            bar.setValue(bar.value() - across)
        elif x < GUTTER or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            bar = self.verticalScrollBar()
            bar.setValue(bar.value() - (down or across) * LANE * 3 // 120)
        else:
            self.zoom(_STEP ** (down / 120), about=x)
        event.accept()

    def zoom(self, by: float, *, about: float | None = None) -> None:
        """Show frames `by` times as wide; the pixel column `about` keeps its frame."""
        sight, bar = self.sight, self.horizontalScrollBar()
        x = sight.x(self.frame + 0.5) if about is None else about
        place = (x - GUTTER + bar.value()) / sight.scale
        most = max(1.0, MOST * self.lanes.frames / sight.width)
        self._zoom = float(np.clip(self._zoom * by, 1.0, most))
        self._fit_bars()
        bar.setValue(round(place * self.sight.scale - (x - GUTTER)))
        self.viewport().update()

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """The arrows travel from frame to frame and from lane to lane, + and - zoom."""
        key = event.key()
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
        lanes = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}
        if key in steps:
            self._choose(self.frame + steps[key], self.track)
        elif key in lanes and len(self.lanes):
            row = self.lanes.row(self.track)
            to = 0 if row is None else int(np.clip(row + lanes[key], 0, len(self.lanes) - 1))
            self._choose(self.frame, self.lanes.tracks[to])
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal, Qt.Key.Key_Minus):
            self.zoom(1 / _STEP if key == Qt.Key.Key_Minus else _STEP)
        else:
            super().keyPressEvent(event)

    def _choose(self, frame: int, track: int) -> None:
        self.go(frame)
        if track:
            self.select(track)
        self.frame_chosen.emit(self.frame, track)

    def viewportEvent(self, event: Any) -> bool:  # noqa: N802
        """Say what is under the pointer."""
        if event.type() == QEvent.Type.ToolTip:
            track = self.sight.track_at(event.pos().y())
            if track and event.pos().x() >= GUTTER:
                QToolTip.showText(
                    event.globalPos(),
                    self.lanes.told(track, self.sight.frame_at(event.pos().x())),
                    self,
                )
            else:
                QToolTip.hideText()
            return True
        return bool(super().viewportEvent(event))

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Fit."""
        super().resizeEvent(event)
        self._fit_bars()

    def changeEvent(self, event: Any) -> None:  # noqa: N802
        """Another theme."""
        super().changeEvent(event)
        self.viewport().update()

    def scrollContentsBy(self, dx: int, dy: int) -> None:  # noqa: N802
        """Draw again: names and header do not move."""
        del dx, dy
        self.viewport().update()

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """What is in sight."""
        del event
        painter = QPainter(self.viewport())
        try:
            LanePainter(painter, self.sight, self.palette(), self._colour).paint()
        finally:
            painter.end()

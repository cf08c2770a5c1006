"""Plots of counts, areas and intensities over the frames. A click selects an object and frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QEvent, QPointF, Qt, Signal
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QSplitter, QVBoxLayout, QWidget

from napari_sam2.gui.app.live_tables import TableSet
from napari_sam2.gui.widgets.elements import TrackColour

_MAX_COLOURED_TRACKS = 60  # above, only the selected track has its colour
_MAX_CLICK_DISTANCE_PX = 12  # between a click and the point that it selects
_ACCENT_COLOUR = QColor("#2f9bff")
_CATEGORY_COLOURS = ("#2f9bff", "#38b07c", "#e9a13b", "#c678dd", "#ff6b4a", "#56b6c2")

LineData = Mapping[Any, tuple[np.ndarray, np.ndarray]]


class Plot(pg.PlotWidget):
    """Lines over frames."""

    point_chosen = Signal(int, int)
    """The track and frame of a point that was clicked; track 0 if lines are categories."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        self._title = title
        self._lines: LineData = {}
        self._lines_are_tracks = True
        self._track = 0
        self._colour: TrackColour | None = None
        self._frame_line = pg.InfiniteLine(0, angle=90)
        self.curves: list[Any] = []
        self._needs_redraw = False
        self.setMenuEnabled(False)
        self.hideButtons()
        self.showGrid(x=False, y=True, alpha=0.12)
        self.setMouseEnabled(x=False, y=False)
        self.getPlotItem().setContentsMargins(4, 4, 10, 2)
        self.addItem(self._frame_line)
        self.setLabel("bottom", "frame")
        self.setMinimumSize(160, 90)
        self.setAccessibleName(title)
        self.scene().sigMouseClicked.connect(self._on_click)
        self.follow_theme()

    def show_lines(
        self,
        lines: LineData,
        *,
        title: str,
        are_tracks: bool = True,
        colour: TrackColour | None = None,
    ) -> None:
        """Show lines: frames and values by track, or by category."""
        self._lines, self._lines_are_tracks, self._colour, self._title = (
            lines,
            are_tracks,
            colour,
            title,
        )
        self._draw()

    def select(self, track: int) -> None:
        """Draw this track's line on top of the others; 0 for none."""
        if track != self._track:
            self._track = track
            self._draw()

    def go_to_frame(self, frame: int) -> None:
        """Show the current frame."""
        self._frame_line.setValue(frame)

    def find_nearest(self, position: QPointF) -> tuple[int, int] | None:
        """The (track, frame) of the point nearest to a widget position; None if none is near."""
        view = self.getPlotItem().getViewBox()
        if not self._lines or not view.sceneBoundingRect().contains(position):
            return None
        frames = np.concatenate([line[0] for line in self._lines.values()])
        values = np.concatenate([line[1] for line in self._lines.values()]).astype(float)
        if not self._lines_are_tracks:
            clicked = view.mapSceneToView(position).x()
            return 0, int(frames[np.abs(frames - clicked).argmin()])
        owners = np.repeat(list(self._lines), [len(line[0]) for line in self._lines.values()])
        across, up = view.viewPixelSize()
        here = view.mapSceneToView(position)
        distance = np.hypot((frames - here.x()) / across, (values - here.y()) / up)
        best = int(distance.argmin())
        return (
            (int(owners[best]), int(frames[best]))
            if distance[best] <= _MAX_CLICK_DISTANCE_PX
            else None
        )

    def follow_theme(self) -> None:
        """Take the colours of the window."""
        text = self.palette().color(QPalette.ColorRole.WindowText)
        pale = QColor(text)
        pale.setAlpha(150)
        self.setBackground(self.palette().color(QPalette.ColorRole.Window))
        for side in ("left", "bottom"):
            axis = self.getPlotItem().getAxis(side)
            axis.setPen(pg.mkPen(pale))
            axis.setTextPen(pg.mkPen(pale))
        self._frame_line.setPen(pg.mkPen(text, width=1))
        self._draw()

    def changeEvent(self, event: Any) -> None:
        """Follow a change of the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange) and hasattr(
            self, "curves"
        ):
            self.follow_theme()

    def showEvent(self, event: Any) -> None:
        """Draw what changed while the plot was hidden."""
        super().showEvent(event)
        if self._needs_redraw:
            self._draw()

    def _draw(self) -> None:
        """Draw all lines if the plot is visible: with many objects this takes 0.1 s."""
        self._needs_redraw = not self.isVisible()
        if self._needs_redraw:
            return
        text = self.palette().color(QPalette.ColorRole.WindowText)
        self.setTitle(self._title, color=text, size="9pt")
        old_curves, self.curves = self.curves, []
        if len(self._lines) > _MAX_COLOURED_TRACKS:
            self._add_line(
                old_curves,
                *_join_lines(self._lines),
                pen=pg.mkPen(QColor(text.red(), text.green(), text.blue(), 70)),
                z=0,
            )
        else:
            for number, (key, line) in enumerate(self._lines.items()):
                self._add_line(
                    old_curves,
                    *line,
                    pen=pg.mkPen(self._choose_pen_colour(key, number), width=1.5),
                    z=1,
                )
        if self._lines_are_tracks and self._track in self._lines:
            self._add_line(
                old_curves,
                *self._lines[self._track],
                pen=pg.mkPen(self._choose_pen_colour(self._track, 0, chosen=True), width=3.5),
                z=2,
            )
        for curve in old_curves:
            self.removeItem(curve)

    def _add_line(
        self,
        reusable_curves: list[Any],
        frames: np.ndarray,
        values: np.ndarray,
        *,
        pen: Any,
        z: int,
    ) -> None:
        """Add a line. An existing curve is used first, because that is 10 times faster."""
        curve = reusable_curves.pop(0) if reusable_curves else None
        if curve is None:
            curve = pg.PlotDataItem()
            self.addItem(curve)
        alone = len(frames) == 1
        dots: dict[str, Any] = {
            "symbol": "o" if alone else None,
            "symbolSize": 4,
            "symbolPen": None,
            "symbolBrush": pen.color(),
        }
        curve.setData(frames, values, pen=pen, connect="finite", **dots)
        curve.setZValue(z)
        self.curves.append(curve)

    def _choose_pen_colour(self, key: Any, number: int, *, chosen: bool = False) -> QColor:
        if not self._lines_are_tracks:
            return QColor(_CATEGORY_COLOURS[number % len(_CATEGORY_COLOURS)])
        colour = (
            self._make_readable(QColor.fromRgbF(*self._colour(key)))
            if self._colour
            else QColor(_ACCENT_COLOUR)
        )
        if self._track and not chosen:
            colour.setAlpha(110)
        return colour

    def _make_readable(self, colour: QColor) -> QColor:
        """The same hue, light enough on dark backgrounds and dark enough on light ones."""
        dark = self.palette().color(QPalette.ColorRole.Window).lightnessF() < 0.5
        light = max(colour.lightnessF(), 0.55) if dark else min(colour.lightnessF(), 0.5)
        return QColor.fromHslF(max(0.0, colour.hslHueF()), colour.hslSaturationF(), light)

    def _on_click(self, event: Any) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            found = self.find_nearest(event.scenePos())
            if found is not None:
                self.point_chosen.emit(*found)


class Plots(QWidget):
    """Three plots side by side: objects per frame, area, mean intensity."""

    point_chosen = Signal(int, int)

    def __init__(self, *, colour: TrackColour | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colour = colour
        self.counts, self.areas, self.intensities = (
            Plot(title) for title in ("objects", "area", "mean intensity")
        )
        beside = QSplitter(Qt.Orientation.Horizontal)
        for plot in (self.counts, self.areas, self.intensities):
            beside.addWidget(plot)
            plot.point_chosen.connect(self.point_chosen)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(beside)

    def show_tables(self, tables: TableSet, *, channel: int = 0) -> None:
        """Show other tables; intensities are those of `channel`."""
        in_um = tables.objects["area_um2"].notna().any()
        counted = tables.count_by_category()
        names = [name or "without category" for name in counted]
        title = "objects per frame" if len(names) < 2 else "objects per frame: " + ", ".join(names)
        self.counts.show_lines(counted, title=title, are_tracks=False)
        area = ("area_um2", "area (µm²)") if in_um else ("area_px", "area (px)")
        self.areas.show_lines(tables.extract_lines(area[0]), title=area[1], colour=self.colour)
        brightness = f"mean_c{channel}"
        self.intensities.show_lines(
            tables.extract_lines(brightness),
            title=f"mean intensity, channel {channel}",
            colour=self.colour,
        )
        self.counts.setYRange(
            0,
            max((float(n.max()) for _, n in counted.values() if len(n)), default=1.0) * 1.05 + 0.1,
        )
        for plot in (self.counts, self.areas, self.intensities):
            plot.setXRange(0, max(1, tables.frame_count - 1), padding=0.02)

    def select(self, track: int) -> None:
        """Draw this track's lines on top."""
        self.areas.select(track)
        self.intensities.select(track)

    def go_to_frame(self, frame: int) -> None:
        """Show the current frame."""
        for plot in (self.counts, self.areas, self.intensities):
            plot.go_to_frame(frame)


def _join_lines(lines: LineData) -> tuple[np.ndarray, np.ndarray]:
    """Join all lines to one, with gaps between them."""
    frames = np.concatenate([np.append(line[0].astype(float), np.nan) for line in lines.values()])
    values = np.concatenate([np.append(line[1].astype(float), np.nan) for line in lines.values()])
    return frames, values

"""LanePainter: draws swim lanes."""

from __future__ import annotations

from math import floor, log10

import numpy as np
from qtpy.QtCore import QPointF, QRect, Qt
from qtpy.QtGui import QColor, QFontMetrics, QImage, QPainter, QPalette, QPolygonF

from napari_sam2.core.track import PRESENCE_CODES, Presence
from napari_sam2.gui.widgets.elements import TrackColour
from napari_sam2.gui.widgets.timeline.viewport import (
    HEADER_HEIGHT_PX,
    LANE_HEIGHT_PX,
    LEGEND_HEIGHT_PX,
    NAMES_WIDTH_PX,
    TimelineViewport,
)

BAR_HEIGHT_PX, ABSENT_HEIGHT_PX = 12, 2  # heights of bars, and of the line for absent objects
_MIN_GRID_FRAME_PX = 7  # width of a frame from which frames are drawn with gaps

PRESENCE_COLOURS = {
    Presence.PROMPTED: QColor("#2f9bff"),
    Presence.TRACKED: QColor("#5f87a6"),
    Presence.UNCERTAIN: QColor("#e9a13b"),
    Presence.LOCKED: QColor("#38b07c"),
}
"""Other presences are drawn in a shade of the theme's text.

The colours can be told apart with red-green blindness, on dark and light themes.
"""

FLAG_COLOUR = QColor("#ff6b4a")
RANGE_COLOUR = QColor("#2f9bff")
REVIEW_FLAG_TITLE = "to check"


class LanePainter:
    """Draws the lanes of a viewport in the colours of a palette."""

    def __init__(
        self,
        painter: QPainter,
        viewport: TimelineViewport,
        palette: QPalette,
        colour: TrackColour | None,
    ) -> None:
        self._painter, self._viewport, self._track_colour = painter, viewport, colour
        self._background = palette.color(QPalette.ColorRole.Window)
        self._text = palette.color(QPalette.ColorRole.WindowText)

    def paint(self) -> None:
        """Paint the visible lanes, the header and the legend."""
        area = QRect(0, 0, *self._viewport.size_px)
        self._painter.fillRect(area, self._background)
        self._painter.setClipRect(0, HEADER_HEIGHT_PX, area.width(), self._viewport.lanes_height_px)
        self._paint_lanes()
        self._painter.setClipRect(area)
        self._paint_header()
        self._paint_legend()
        if not len(self._viewport.lanes):
            room = QRect(
                NAMES_WIDTH_PX,
                HEADER_HEIGHT_PX,
                self._viewport.frames_width_px,
                self._viewport.lanes_height_px,
            )
            self._painter.setPen(self._make_shade(150))
            self._painter.drawText(
                room,
                Qt.AlignmentFlag.AlignCenter,
                "Click an object in the image. Its lane appears here.",
            )

    def _make_shade(self, alpha: int) -> QColor:
        """The colour of the theme's text with this opacity."""
        colour = QColor(self._text)
        colour.setAlpha(alpha)
        return colour

    def _paint_lanes(self) -> None:
        view = self._viewport
        rows, top = view.visible_rows, HEADER_HEIGHT_PX - view.scroll_y_px
        for row in rows:
            if view.lanes.tracks[row] == view.track:
                self._painter.fillRect(
                    QRect(0, top + row * LANE_HEIGHT_PX, view.size_px[0], LANE_HEIGHT_PX),
                    self._make_shade(26),
                )
            elif row % 2:
                self._painter.fillRect(
                    QRect(
                        NAMES_WIDTH_PX,
                        top + row * LANE_HEIGHT_PX,
                        view.frames_width_px,
                        LANE_HEIGHT_PX,
                    ),
                    self._make_shade(8),
                )
        self._painter.setClipRect(
            NAMES_WIDTH_PX, HEADER_HEIGHT_PX, view.frames_width_px, view.lanes_height_px
        )
        self._painter.drawImage(
            NAMES_WIDTH_PX, top + rows.start * LANE_HEIGHT_PX, self._make_bars_image(rows)
        )
        if view.frame_range is not None:
            self._paint_outside_range()
        for row in rows:
            self._paint_flags(view.lanes.tracks[row], top + row * LANE_HEIGHT_PX)
        self._paint_current_frame()
        self._painter.setClipRect(0, HEADER_HEIGHT_PX, NAMES_WIDTH_PX - 6, view.lanes_height_px)
        for row in rows:
            self._paint_name(view.lanes.tracks[row], top + row * LANE_HEIGHT_PX)

    def _make_bars_image(self, rows: range) -> QImage:
        """Make one image of the bars of these rows, without the names."""
        view = self._viewport
        scale, width = view.frame_width_px, view.frames_width_px
        first = view.scroll_x_px / scale
        codes = view.lanes.render_columns(rows, first, 1 / scale, width)
        colours = np.array(
            [0, *(_pack_argb(self._get_bar_colour(presence)) for presence in PRESENCE_CODES)],
            dtype=np.uint32,
        )
        bars = colours[codes]
        if scale >= _MIN_GRID_FRAME_PX:
            frames = np.floor(first + np.arange(width + 1) / scale + 1e-9)
            bars[:, frames[1:] != frames[:-1]] = 0
        image = np.zeros((len(rows), LANE_HEIGHT_PX, width), dtype=np.uint32)
        image[:, (LANE_HEIGHT_PX - BAR_HEIGHT_PX) // 2 : (LANE_HEIGHT_PX + BAR_HEIGHT_PX) // 2] = (
            bars[:, None]
        )
        absent = codes == PRESENCE_CODES[Presence.ABSENT]
        for line in range(
            (LANE_HEIGHT_PX - BAR_HEIGHT_PX) // 2, (LANE_HEIGHT_PX + BAR_HEIGHT_PX) // 2
        ):
            if (
                not (LANE_HEIGHT_PX - ABSENT_HEIGHT_PX) // 2
                <= line
                < (LANE_HEIGHT_PX + ABSENT_HEIGHT_PX) // 2
            ):
                image[:, line][absent] = 0
        whole = np.ascontiguousarray(image.reshape(-1, width))
        return QImage(whole.data, width, len(whole), 4 * width, QImage.Format.Format_ARGB32).copy()

    def _get_bar_colour(self, presence: str) -> QColor:
        return PRESENCE_COLOURS.get(Presence(presence)) or self._make_shade(90)

    def _paint_outside_range(self) -> None:
        """Dim the frames outside the range."""
        view = self._viewport
        assert view.frame_range is not None
        veil = QColor(self._background)
        veil.setAlpha(160)
        first, after = (round(view.frame_x(frame)) for frame in view.frame_range)
        self._painter.fillRect(
            QRect(NAMES_WIDTH_PX, HEADER_HEIGHT_PX, first - NAMES_WIDTH_PX, view.lanes_height_px),
            veil,
        )
        self._painter.fillRect(
            QRect(
                after,
                HEADER_HEIGHT_PX,
                NAMES_WIDTH_PX + view.frames_width_px - after,
                view.lanes_height_px,
            ),
            veil,
        )

    def _paint_flags(self, track: int, y: int) -> None:
        """Paint a triangle at each review flag; one for flags that share pixels."""
        view = self._viewport
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(FLAG_COLOUR)
        last = -9.0
        for frame in view.lanes.get_flagged_frames(track):
            x = view.frame_x(frame + 0.5)
            if (
                x - last >= 3
                and NAMES_WIDTH_PX - 4 <= x <= NAMES_WIDTH_PX + view.frames_width_px + 4
            ):
                self._painter.drawPolygon(
                    QPolygonF([QPointF(x - 5, y), QPointF(x + 5, y), QPointF(x, y + 7)])
                )
                last = x
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _paint_current_frame(self) -> None:
        """Mark the current frame."""
        view = self._viewport
        x, width = view.frame_x(view.frame), view.frame_width_px
        if width >= 4:
            self._painter.fillRect(
                QRect(round(x), HEADER_HEIGHT_PX, round(width), view.lanes_height_px),
                self._make_shade(28),
            )
        self._painter.fillRect(
            QRect(round(x + width / 2), HEADER_HEIGHT_PX, 1, view.lanes_height_px),
            self._make_shade(220),
        )

    def _paint_name(self, track: int, y: int) -> None:
        view = self._viewport
        if self._track_colour:
            self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._painter.setPen(Qt.PenStyle.NoPen)
            self._painter.setBrush(QColor.fromRgbF(*self._track_colour(track)))
            self._painter.drawRoundedRect(QRect(8, y + LANE_HEIGHT_PX // 2 - 5, 10, 10), 2.5, 2.5)
            self._painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._painter.setPen(self._make_shade(255 if track == view.track else 190))
        room = QRect(24, y, NAMES_WIDTH_PX - 34, LANE_HEIGHT_PX)
        name = self._painter.fontMetrics().elidedText(
            view.lanes.get_name(track), Qt.TextElideMode.ElideRight, room.width()
        )
        self._painter.drawText(
            room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, name
        )

    def _paint_header(self) -> None:
        view = self._viewport
        self._painter.setClipRect(NAMES_WIDTH_PX - 4, 0, view.frames_width_px + 4, HEADER_HEIGHT_PX)
        if view.frame_range is not None:
            first, after = (round(view.frame_x(frame)) for frame in view.frame_range)
            chosen = QColor(RANGE_COLOUR)
            chosen.setAlpha(90)
            self._painter.fillRect(QRect(first, 2, after - first, HEADER_HEIGHT_PX - 3), chosen)
        self._paint_ticks()
        mark_width = max(2, round(view.frame_width_px) - 1)
        for frame in view.lanes.flagged_frames:
            self._painter.fillRect(
                QRect(round(view.frame_x(frame)), HEADER_HEIGHT_PX - 3, mark_width, 2), FLAG_COLOUR
            )
        self._paint_frame_number()
        self._painter.setClipRect(QRect(0, 0, *view.size_px))
        self._painter.fillRect(
            QRect(0, HEADER_HEIGHT_PX - 1, view.size_px[0], 1), self._make_shade(40)
        )
        self._painter.setPen(self._make_shade(150))
        count = f"{len(view.lanes)} object{'' if len(view.lanes) == 1 else 's'}"
        self._painter.drawText(
            QRect(8, 0, NAMES_WIDTH_PX - 12, HEADER_HEIGHT_PX - 2),
            Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft,
            count,
        )

    def _paint_ticks(self) -> None:
        """Paint frame numbers."""
        view = self._viewport
        step = self._compute_tick_step(self._painter.fontMetrics())
        for frame in range(
            view.frame_at(NAMES_WIDTH_PX) // step * step,
            view.frame_at(NAMES_WIDTH_PX + view.frames_width_px) + 1,
            step,
        ):
            middle = round(view.frame_x(frame + 0.5))
            self._painter.fillRect(QRect(middle, HEADER_HEIGHT_PX - 5, 1, 4), self._make_shade(110))
            self._painter.setPen(self._make_shade(150))
            self._painter.drawText(
                QRect(middle - 30, 0, 60, HEADER_HEIGHT_PX - 5),
                Qt.AlignmentFlag.AlignCenter,
                str(frame),
            )

    def _paint_frame_number(self) -> None:
        """Paint the number of the current frame."""
        view = self._viewport
        text, x = str(view.frame), round(view.frame_x(view.frame + 0.5))
        width = self._painter.fontMetrics().horizontalAdvance(text) + 10
        room = QRect(x - width // 2, 2, width, HEADER_HEIGHT_PX - 5)
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(self._text)
        self._painter.drawRoundedRect(room, 4, 4)
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._painter.setPen(self._background)
        self._painter.drawText(room, Qt.AlignmentFlag.AlignCenter, text)

    def _compute_tick_step(self, metrics: QFontMetrics) -> int:
        """The frames between numbers: 1, 2 or 5 times a power of ten, so that they do not touch."""
        view = self._viewport
        room = metrics.horizontalAdvance(str(view.lanes.frames)) + 14
        min_step = max(1.0, room / view.frame_width_px)
        power = 10 ** floor(log10(min_step))
        return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= min_step))

    def _paint_legend(self) -> None:
        """Paint the meaning of the colours."""
        view = self._viewport
        y, x = view.size_px[1] - LEGEND_HEIGHT_PX, 8
        self._painter.fillRect(QRect(0, y, view.size_px[0], LEGEND_HEIGHT_PX), self._background)
        self._painter.fillRect(QRect(0, y, view.size_px[0], 1), self._make_shade(40))
        for name in (
            *(presence.value for presence in (*PRESENCE_COLOURS, Presence.ABSENT)),
            REVIEW_FLAG_TITLE,
        ):
            width = self._painter.fontMetrics().horizontalAdvance(name)
            if x + width + 18 > view.size_px[0]:
                break
            self._paint_legend_symbol(name, x, y + LEGEND_HEIGHT_PX // 2 + 1)
            self._painter.setPen(self._make_shade(150))
            self._painter.drawText(
                QRect(x + 15, y + 1, width + 4, LEGEND_HEIGHT_PX),
                Qt.AlignmentFlag.AlignVCenter,
                name,
            )
            x += width + 30

    def _paint_legend_symbol(self, name: str, x: int, middle: int) -> None:
        if name == REVIEW_FLAG_TITLE:
            self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._painter.setPen(Qt.PenStyle.NoPen)
            self._painter.setBrush(FLAG_COLOUR)
            self._painter.drawPolygon(
                QPolygonF(
                    [
                        QPointF(x + 1, middle - 3),
                        QPointF(x + 9, middle - 3),
                        QPointF(x + 5, middle + 3),
                    ]
                )
            )
            self._painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
            return
        half = ABSENT_HEIGHT_PX // 2 if name == Presence.ABSENT else 4
        self._painter.fillRect(QRect(x, middle - half, 10, 2 * half), self._get_bar_colour(name))


def _pack_argb(colour: QColor) -> int:
    return int(colour.rgba()) & 0xFFFFFFFF

"""What swim lanes look like, drawn from a Sight of them."""

from __future__ import annotations

from collections.abc import Callable
from math import floor, log10

import numpy as np
from qtpy.QtCore import QPointF, QRect, Qt
from qtpy.QtGui import QColor, QFontMetrics, QImage, QPainter, QPalette, QPolygonF

from napari_sam2.core.presence import Presence
from napari_sam2.gui.app.lane_grid import CODES
from napari_sam2.gui.app.timeline_viewport import GUTTER, HEADER, LANE, LEGEND, Sight

BAR, THIN = (
    12,
    2,
)  # heights in px of what is drawn in a lane, and of what says that nothing is there
_GRID = 7  # px a frame, from which frames are drawn apart

COLOURS = {
    Presence.PROMPTED: QColor("#2f9bff"),
    Presence.TRACKED: QColor("#5f87a6"),
    Presence.UNCERTAIN: QColor("#e9a13b"),
    Presence.LOCKED: QColor("#38b07c"),
}
"""What is not here is drawn in a shade of the theme's text.

Told apart by red-green blind eyes, on dark and on light.
"""

MARK = QColor("#ff6b4a")
RANGE = QColor("#2f9bff")
WORTH_A_LOOK = "worth a look"

Colour = Callable[[int], tuple[float, float, float]]
"""The (red, green, blue), 0 to 1, that a track is shown in."""


class LanePainter:
    """Draws a Sight in the colours of a theme's palette."""

    def __init__(
        self, painter: QPainter, sight: Sight, palette: QPalette, colour: Colour | None
    ) -> None:
        self._painter, self._sight, self._colour = painter, sight, colour
        self._ground = palette.color(QPalette.ColorRole.Window)
        self._text = palette.color(QPalette.ColorRole.WindowText)

    def paint(self) -> None:
        """The lanes in sight, header and legend."""
        area = QRect(0, 0, *self._sight.size)
        self._painter.fillRect(area, self._ground)
        self._painter.setClipRect(0, HEADER, area.width(), self._sight.height)
        self._paint_lanes()
        self._painter.setClipRect(area)
        self._paint_header()
        self._paint_legend()
        if not len(self._sight.lanes):
            room = QRect(GUTTER, HEADER, self._sight.width, self._sight.height)
            self._painter.setPen(self._shade(150))
            self._painter.drawText(
                room,
                Qt.AlignmentFlag.AlignCenter,
                "Click an object in the image: its lane appears here",
            )

    def _shade(self, alpha: int) -> QColor:
        """The colour of the theme's text, so opaque."""
        colour = QColor(self._text)
        colour.setAlpha(alpha)
        return colour

    def _paint_lanes(self) -> None:
        sight = self._sight
        rows, top = sight.rows, HEADER - sight.down
        for row in rows:
            if sight.lanes.tracks[row] == sight.track:
                self._painter.fillRect(
                    QRect(0, top + row * LANE, sight.size[0], LANE), self._shade(26)
                )
            elif row % 2:
                self._painter.fillRect(
                    QRect(GUTTER, top + row * LANE, sight.width, LANE), self._shade(8)
                )
        self._painter.setClipRect(GUTTER, HEADER, sight.width, sight.height)
        self._painter.drawImage(GUTTER, top + rows.start * LANE, self._picture(rows))
        if sight.chosen is not None:
            self._paint_outside()
        for row in rows:
            self._paint_marks(sight.lanes.tracks[row], top + row * LANE)
        self._paint_here()
        self._painter.setClipRect(0, HEADER, GUTTER - 6, sight.height)
        for row in rows:
            self._paint_name(sight.lanes.tracks[row], top + row * LANE)

    def _picture(self, rows: range) -> QImage:
        """The bars of these rows as one picture, GUTTER to the right end."""
        sight = self._sight
        scale, width = sight.scale, sight.width
        first = sight.across / scale
        codes = sight.lanes.columns(rows, first, 1 / scale, width)
        colours = np.array(
            [0, *(_packed(self._bar_colour(presence)) for presence in CODES)], dtype=np.uint32
        )
        bars = colours[codes]
        if scale >= _GRID:
            frames = np.floor(first + np.arange(width + 1) / scale + 1e-9)
            bars[:, frames[1:] != frames[:-1]] = 0
        picture = np.zeros((len(rows), LANE, width), dtype=np.uint32)
        picture[:, (LANE - BAR) // 2 : (LANE + BAR) // 2] = bars[:, None]
        absent = codes == CODES[Presence.ABSENT]
        for line in range((LANE - BAR) // 2, (LANE + BAR) // 2):
            if not (LANE - THIN) // 2 <= line < (LANE + THIN) // 2:
                picture[:, line][absent] = 0
        whole = np.ascontiguousarray(picture.reshape(-1, width))
        return QImage(whole.data, width, len(whole), 4 * width, QImage.Format.Format_ARGB32).copy()

    def _bar_colour(self, presence: str) -> QColor:
        return COLOURS.get(Presence(presence)) or self._shade(90)

    def _paint_outside(self) -> None:
        """Frames outside the range, paler."""
        sight = self._sight
        assert sight.chosen is not None
        veil = QColor(self._ground)
        veil.setAlpha(160)
        first, after = (round(sight.x(frame)) for frame in sight.chosen)
        self._painter.fillRect(QRect(GUTTER, HEADER, first - GUTTER, sight.height), veil)
        self._painter.fillRect(
            QRect(after, HEADER, GUTTER + sight.width - after, sight.height), veil
        )

    def _paint_marks(self, track: int, y: int) -> None:
        """A triangle over each place worth a look; of those that share pixels, one."""
        sight = self._sight
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(MARK)
        last = -9.0
        for frame in sight.lanes.marks(track):
            x = sight.x(frame + 0.5)
            if x - last >= 3 and GUTTER - 4 <= x <= GUTTER + sight.width + 4:
                self._painter.drawPolygon(
                    QPolygonF([QPointF(x - 5, y), QPointF(x + 5, y), QPointF(x, y + 7)])
                )
                last = x
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _paint_here(self) -> None:
        """The frame that is looked at."""
        sight = self._sight
        x, width = sight.x(sight.frame), sight.scale
        if width >= 4:
            self._painter.fillRect(
                QRect(round(x), HEADER, round(width), sight.height), self._shade(28)
            )
        self._painter.fillRect(
            QRect(round(x + width / 2), HEADER, 1, sight.height), self._shade(220)
        )

    def _paint_name(self, track: int, y: int) -> None:
        sight = self._sight
        if self._colour:
            self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._painter.setPen(Qt.PenStyle.NoPen)
            self._painter.setBrush(QColor.fromRgbF(*self._colour(track)))
            self._painter.drawRoundedRect(QRect(8, y + LANE // 2 - 5, 10, 10), 2.5, 2.5)
            self._painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._painter.setPen(self._shade(255 if track == sight.track else 190))
        room = QRect(24, y, GUTTER - 34, LANE)
        name = self._painter.fontMetrics().elidedText(
            sight.lanes.name(track), Qt.TextElideMode.ElideRight, room.width()
        )
        self._painter.drawText(
            room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, name
        )

    def _paint_header(self) -> None:
        sight = self._sight
        self._painter.setClipRect(GUTTER - 4, 0, sight.width + 4, HEADER)
        if sight.chosen is not None:
            first, after = (round(sight.x(frame)) for frame in sight.chosen)
            chosen = QColor(RANGE)
            chosen.setAlpha(90)
            self._painter.fillRect(QRect(first, 2, after - first, HEADER - 3), chosen)
        step, scale = self._tick_step(self._painter.fontMetrics()), sight.scale
        for frame in range(
            sight.frame_at(GUTTER) // step * step, sight.frame_at(GUTTER + sight.width) + 1, step
        ):
            middle = round(sight.x(frame + 0.5))
            self._painter.fillRect(QRect(middle, HEADER - 5, 1, 4), self._shade(110))
            self._painter.setPen(self._shade(150))
            self._painter.drawText(
                QRect(middle - 30, 0, 60, HEADER - 5), Qt.AlignmentFlag.AlignCenter, str(frame)
            )
        for frame in sight.lanes.marked_frames:
            self._painter.fillRect(
                QRect(round(sight.x(frame)), HEADER - 3, max(2, round(scale) - 1), 2), MARK
            )
        self._paint_handle()
        self._painter.setClipRect(QRect(0, 0, *sight.size))
        self._painter.fillRect(QRect(0, HEADER - 1, sight.size[0], 1), self._shade(40))
        self._painter.setPen(self._shade(150))
        count = f"{len(sight.lanes)} object{'' if len(sight.lanes) == 1 else 's'}"
        self._painter.drawText(
            QRect(8, 0, GUTTER - 12, HEADER - 2),
            Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft,
            count,
        )

    def _paint_handle(self) -> None:
        """The number of the frame that is looked at."""
        sight = self._sight
        text, x = str(sight.frame), round(sight.x(sight.frame + 0.5))
        width = self._painter.fontMetrics().horizontalAdvance(text) + 10
        room = QRect(x - width // 2, 2, width, HEADER - 5)
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(self._text)
        self._painter.drawRoundedRect(room, 4, 4)
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._painter.setPen(self._ground)
        self._painter.drawText(room, Qt.AlignmentFlag.AlignCenter, text)

    def _tick_step(self, metrics: QFontMetrics) -> int:
        """Frames between numbers: 1, 2 or 5 times a power of ten, so that they do not meet."""
        sight = self._sight
        room = metrics.horizontalAdvance(str(sight.lanes.frames)) + 14
        least = max(1.0, room / sight.scale)
        power = 10 ** floor(log10(least))
        return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least))

    def _paint_legend(self) -> None:
        """What the colours mean."""
        sight = self._sight
        y, x = sight.size[1] - LEGEND, GUTTER
        self._painter.fillRect(QRect(0, y, sight.size[0], LEGEND), self._ground)
        self._painter.fillRect(QRect(0, y, sight.size[0], 1), self._shade(40))
        for name in (*(presence.value for presence in (*COLOURS, Presence.ABSENT)), "worth a look"):
            width = self._painter.fontMetrics().horizontalAdvance(name)
            if x + width + 18 > sight.size[0]:
                break
            self._paint_sign(name, x, y + LEGEND // 2 + 1)
            self._painter.setPen(self._shade(150))
            self._painter.drawText(
                QRect(x + 15, y + 1, width + 4, LEGEND), Qt.AlignmentFlag.AlignVCenter, name
            )
            x += width + 30

    def _paint_sign(self, name: str, x: int, middle: int) -> None:
        if name == "worth a look":
            self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._painter.setPen(Qt.PenStyle.NoPen)
            self._painter.setBrush(MARK)
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
        half = THIN // 2 if name == Presence.ABSENT else 4
        self._painter.fillRect(QRect(x, middle - half, 10, 2 * half), self._bar_colour(name))


def _packed(colour: QColor) -> int:
    return int(colour.rgba()) & 0xFFFFFFFF

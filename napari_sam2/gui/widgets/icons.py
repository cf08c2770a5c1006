"""Icons: line drawings in the colour of the text, so that they follow napari's theme."""

from __future__ import annotations

from qtpy.QtCore import QByteArray, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtSvg import QSvgRenderer

_SIDE_PX = 40  # shown at 18 or 20, so that icons are sharp on dense screens too
_DRAWINGS = {
    "point": '<circle cx="12" cy="12" r="3.2" fill="{c}"/><path d="M12 2v5M12 17v5M2 12h5M17 '
    '12h5"/>',
    "box": '<rect x="4" y="5" width="16" height="14" stroke-dasharray="3.2 2.4"/>',
    "paint": '<path d="M19.5 3.5c1 1 1 2-.2 3.4L12 14l-2.5-2.500 7.300-7.500c1.200-1.200 2-1.300 '
    '2.700-.5z"/>'
    '<path d="M9 13c-2 0-3.200 1.300-3.200 3.200 0 1.700-.8 2.700-2.300 3.300 3.500 1.300 '
    '7.500.3 8-3.500"/>',
    "lasso": '<path d="M4.500 9.500C4.500 6.500 8 4.500 12.500 4.500s7.500 2 7.500 5-3.500 '
    '5.200-8 5.200c-1.700 0-3.300-.3-4.500-.8"/>'
    '<circle cx="6.500" cy="13.800" r="1.900"/><path d="M6.500 15.700c.4 1.700-.2 3.300-1.700 '
    '4.300"/>',
    "undo": '<path d="M8 5L4 9l4 4"/><path d="M4 9h10a5.500 5.500 0 0 1 0 11h-4"/>',
    "redo": '<path d="M16 5l4 4-4 4"/><path d="M20 9H10a5.500 5.500 0 0 0 0 11h4"/>',
    "other": '<rect x="3.500" y="8" width="11" height="11" rx="2"/><path d="M8 5h10a2 2 0 0 1 2 '
    '2v9"/>',
    "accept": '<path d="M4.500 12.500l5 5L20 6.500"/>',
    "add": '<path d="M12 5v14M5 12h14"/>',
    "merge": '<circle cx="9" cy="12" r="5.500"/><circle cx="15" cy="12" r="5.500"/>',
    "split": '<circle cx="12" cy="12" r="7.500"/><path d="M12 2v20" stroke-dasharray="2.500 2"/>',
    "lock": '<rect x="5.500" y="11" width="13" height="9" rx="1.500"/><path d="M8.500 11V8a3.500 '
    '3.500 0 0 1 7 0v3"/>',
    "delete": '<path d="M5 7h14M10 7V4.500h4V7M7 7l1 13h8l1-13"/>',
    "import": '<path d="M12 3v11M8 10l4 4 4-4"/><path d="M4 15v5h16v-5"/>',
    "save": '<path d="M5 4h11l3 3v13H5z"/><path d="M8 4v5h7V4M8 20v-6h8v6"/>',
    "propagate": '<path d="M7 4.500l12 7.500-12 7.500z" fill="{c}"/>',
    "pause": '<path d="M8.500 5v14M15.500 5v14" stroke-width="3"/>',
    "stop": '<rect x="6" y="6" width="12" height="12" fill="{c}"/>',
    "lanes": '<path d="M4 6h9M16 6h4M4 12h4M11 12h9M4 18h13"/>',
    "tables": '<rect x="3.500" y="5" width="17" height="14"/><path d="M3.500 10h17M9.500 5v14"/>',
    "count": '<circle cx="6.500" cy="7" r="2.300"/><circle cx="15.500" cy="5.500" '
    'r="2.300"/><circle cx="8.500" cy="16.500" r="2.300"/>'
    '<circle cx="17.500" cy="14.500" r="2.300"/>',
    "training": '<path d="M3 9l9-4 9 4-9 4z"/><path d="M7 11v5c3 2.500 7 2.500 10 0v-5"/>',
    "review": '<circle cx="10.500" cy="10.500" r="6"/><path d="M15 15l5.500 5.500"/>',
    "restart": '<path d="M6 3.500h8l4 4V20.500H6z"/><path d="M14 3.500V8h4"/>',
    "help": '<circle cx="12" cy="12" r="8.500"/>'
    '<path d="M9.500 9.500a2.500 2.500 0 1 1 3.500 2.300c-.7.3-1 .8-1 1.700"/><path d="M12 '
    '16.300v.4"/>',
}
_SVG_TEMPLATE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="{c}" '
    'stroke-width="1.700" '
    'stroke-linecap="round" stroke-linejoin="round">{drawing}</svg>'
)


def make_icon(name: str, colour: QColor) -> QIcon:
    """Make the icon of that name; it is paler on a disabled button."""
    made = QIcon()
    made.addPixmap(_render_pixmap(name, colour), QIcon.Mode.Normal)
    pale = QColor(colour)
    pale.setAlphaF(0.35)
    made.addPixmap(_render_pixmap(name, pale), QIcon.Mode.Disabled)
    return made


def make_swatch(colour: QColor, *, side_px: int = 14) -> QPixmap:
    """Make a round spot of one colour."""
    spot = QPixmap(2 * side_px, 2 * side_px)
    spot.fill(Qt.GlobalColor.transparent)
    painter = QPainter(spot)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(colour)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.drawEllipse(QRectF(2, 2, 2 * side_px - 4, 2 * side_px - 4))
    painter.end()
    spot.setDevicePixelRatio(2.0)
    return spot


def _render_pixmap(name: str, colour: QColor) -> QPixmap:
    drawing = _DRAWINGS[name].format(c=colour.name())
    renderer = QSvgRenderer(
        QByteArray(_SVG_TEMPLATE.format(c=colour.name(), drawing=drawing).encode())
    )
    drawn = QPixmap(_SIDE_PX, _SIDE_PX)
    drawn.fill(Qt.GlobalColor.transparent)
    painter = QPainter(drawn)
    painter.setOpacity(colour.alphaF())
    renderer.render(painter)
    painter.end()
    return drawn

"""Small widgets and layouts that the panel is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_sam2.gui.widgets.icons import make_icon

SPACING_PX = 6

TrackColour = Callable[[int], tuple[float, float, float]]
"""Gives the colour of a track: red, green and blue from 0 to 1."""


class VerticalScrollArea(QScrollArea):
    """A scroll area that is never narrower than its content."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def minimumSizeHint(self) -> QSize:
        """The width of the content with a scroll bar."""
        content, scroll_bar = self.widget().minimumSizeHint(), self.verticalScrollBar().sizeHint()
        return QSize(content.width() + scroll_bar.width(), super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the width of the content when its layout changes."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def make_heading(text: str) -> QLabel:
    """Make the title of a section."""
    label = QLabel(text)
    label.setStyleSheet("font-weight: 600; padding-top: 2px;")
    return label


def make_muted_label(text: str = "") -> QLabel:
    """Make a muted line of explanation, which wraps."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setProperty("muted", True)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label


def make_rule() -> QFrame:
    """Make a thin rule between sections."""
    rule = QFrame()
    rule.setFixedHeight(1)
    rule.setStyleSheet("background: rgba(128, 128, 128, 70); border: none;")
    return rule


def make_tool_button(
    name: str, tip: str, action: Callable[[], Any], *, text: str = "", checkable: bool = False
) -> QToolButton:
    """Make a flat button with an icon."""
    button = QToolButton()
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    button.setCheckable(checkable)
    button.setAutoRaise(True)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    button.setProperty("icon_name", name)
    button.setIconSize(QSize(18, 18))
    if text:
        button.setText(text)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    button.setMinimumHeight(26)
    button.setStyleSheet(
        "QToolButton:checked { background: rgba(128, 128, 128, 110); border-radius: 3px; }"
    )
    button.clicked.connect(lambda *_: action())
    return button


def follow_theme(parent: QWidget) -> None:
    """Give icons and muted lines the colour of the text, which changes with napari's theme."""
    colour = parent.palette().color(QPalette.ColorRole.WindowText)
    red, green, blue, _ = colour.getRgb()
    for each in parent.findChildren(QWidget):
        name = each.property("icon_name")
        if name:
            each.setIcon(make_icon(name, colour))
        if each.property("muted"):
            each.setStyleSheet(f"color: rgba({red}, {green}, {blue}, 150); font-size: 11px;")


def make_single_shot_timer(parent: QObject, action: Callable[[], Any], after_ms: int = 0) -> QTimer:
    """Make a timer that calls `action` once each time it is started.

    With 0 ms it does so in the next turn of Qt's event loop.
    """
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(after_ms)
    timer.timeout.connect(action)
    return timer


def make_row(*widgets: QWidget | None, spacing: int = 4) -> QHBoxLayout:
    """Make a row of widgets; None is a gap that takes the space left."""
    layout = QHBoxLayout()
    layout.setSpacing(spacing)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addStretch(1) if widget is None else layout.addWidget(widget)
    return layout


def make_form(*rows: tuple[str, QWidget, str]) -> QFormLayout:
    """Make a form; each row is a label, its field and the tooltip of the field."""
    form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for label, field, tip in rows:
        form.addRow(label, field)
        field.setToolTip(tip)
        field.setAccessibleName(label)
        if isinstance(field, QComboBox):  # else its longest entry would set the width
            field.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            field.setMinimumContentsLength(12)
    return form


def make_column(parent: QWidget | None = None, *, margin: int = 0) -> QVBoxLayout:
    """Make a layout from top to bottom."""
    layout = QVBoxLayout(parent) if parent is not None else QVBoxLayout()
    layout.setSpacing(SPACING_PX)
    layout.setContentsMargins(margin, margin, margin, margin)
    return layout

"""ObjectList: the objects with names, categories and states, and actions on the selected ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QMenu,
    QTableView,
    QToolButton,
    QWidget,
)

from napari_sam2.gui.app.view import ObjectRow
from napari_sam2.gui.widgets.elements import (
    TrackColour,
    make_column,
    make_heading,
    make_muted_label,
    make_row,
    make_tool_button,
)
from napari_sam2.gui.widgets.icons import make_swatch
from napari_sam2.gui.widgets.keys import make_hint

_COLUMNS = ("", "Name", "Category", "Frames", "State")
_EDITABLE = {1: "name", 2: "category"}
_COLUMN_WIDTHS_PX = (46, 64, 74, 48, 72)
_ROW_HEIGHT_PX = 24
_MIN_ROWS = 4
_BUTTONS = {
    "new": ("add", make_hint("New object: the next click is its first", "new")),
    "merge": ("merge", "Merge the selected objects into the one with the lowest number"),
    "split": (
        "split",
        "Split the object into its pieces on this frame; if it is one piece, click a part",
    ),
    "lock": (
        "lock",
        "Lock the selected objects, so that nothing overwrites them; again to unlock",
    ),
    "delete": ("delete", make_hint("Delete the selected objects", "delete")),
}
"""The icon and tooltip of each action."""


class ObjectTable(QAbstractTableModel):
    """The rows of the list as a Qt model."""

    description_edited = Signal(int, str, str)
    """A track, "name" or "category", and the new text."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: tuple[ObjectRow, ...] = ()
        self.track_colour: TrackColour = lambda _: (0.5, 0.5, 0.5)

    def show_rows(self, rows: tuple[ObjectRow, ...]) -> None:
        """Show these rows; the selection stays if the objects are the same."""
        if [each.track for each in rows] != [each.track for each in self.rows]:
            self.beginResetModel()
            self.rows = rows
            self.endResetModel()
        elif rows != self.rows:
            self.rows = rows
            self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, len(_COLUMNS) - 1))

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """The number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """The number of columns."""
        return 0 if parent is not None and parent.isValid() else len(_COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """The title of a column."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _COLUMNS[section]
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Make name and category editable."""
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsEditable if index.column() in _EDITABLE else flags

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The content of a cell."""
        each = self.rows[index.row()]
        cells = (str(each.track), each.name, each.category, str(each.frame_count or ""), each.state)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return cells[index.column()]
        if role == Qt.ItemDataRole.DecorationRole and index.column() == 0:
            return make_swatch(QColor.fromRgbF(*self.track_colour(each.track)))
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 3:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.ToolTipRole and index.column() in _EDITABLE:
            return "Double click to edit"
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Emit an edited name or category."""
        if role != Qt.ItemDataRole.EditRole or index.column() not in _EDITABLE:
            return False
        self.description_edited.emit(
            self.rows[index.row()].track, _EDITABLE[index.column()], str(value).strip()
        )
        return True


class ObjectTableView(QTableView):
    """A table that is low unless there is room, so that the sections below it stay visible."""

    def sizeHint(self) -> QSize:
        """The height of a few rows."""
        return QSize(super().sizeHint().width(), _ROW_HEIGHT_PX * _MIN_ROWS + 30)

    def minimumSizeHint(self) -> QSize:
        """The same height."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())


class ObjectList(QWidget):
    """The list of objects, with buttons."""

    object_selected = Signal(int)
    """The object that the person clicked in the list."""
    action_requested = Signal(str)
    """"new", "merge", "split", "lock" or "delete"."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ObjectTable()
        self.view = self._make_view()
        self.count_label = make_muted_label()
        self.buttons = {
            name: make_tool_button(icon, tip, partial(self.action_requested.emit, name))
            for name, (icon, tip) in _BUTTONS.items()
        }
        self.import_button = self._make_import_button()
        self.import_menu = QMenu(self.import_button)
        self.import_button.setMenu(self.import_menu)
        layout = make_column(self)
        layout.addLayout(make_row(make_heading("Objects"), None, self.count_label))
        layout.addWidget(self.view, 1)
        layout.addLayout(make_row(*self.buttons.values(), None, self.import_button, spacing=2))
        self._updating = False
        self.view.selectionModel().selectionChanged.connect(self._on_selection)

    def _make_view(self) -> QTableView:
        view = ObjectTableView()
        view.setModel(self.table)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        view.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked
            | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        view.setShowGrid(False)
        view.setWordWrap(False)
        view.setIconSize(QSize(14, 14))
        vertical, header = view.verticalHeader(), view.horizontalHeader()
        vertical.hide()
        vertical.setDefaultSectionSize(_ROW_HEIGHT_PX)
        header.setHighlightSections(False)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for column, width in enumerate(_COLUMN_WIDTHS_PX):
            view.setColumnWidth(column, width)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        return view

    def _make_import_button(self) -> QToolButton:
        button = QToolButton()
        button.setProperty("icon_name", "import")
        button.setToolTip(
            "Import objects from a layer: labels (e.g. of Cellpose or StarDist), boxes or points"
        )
        button.setAutoRaise(True)
        button.setIconSize(QSize(18, 18))
        button.setMinimumHeight(26)
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        return button

    def show_rows(self, rows: tuple[ObjectRow, ...], current: int) -> None:
        """Show these objects; `current` is the one that prompts belong to."""
        self._updating = True
        self.table.show_rows(rows)
        row_numbers = {each.track: number for number, each in enumerate(rows)}
        if current in row_numbers and current not in self.selected_tracks:
            index = self.table.index(row_numbers[current], 0)
            model = self.view.selectionModel()
            model.setCurrentIndex(
                index,
                QItemSelectionModel.SelectionFlag.ClearAndSelect
                | QItemSelectionModel.SelectionFlag.Rows,
            )
            self.view.scrollTo(index)
        self._updating = False
        self.count_label.setText(f"{len(rows)}" if rows else "")
        several = len(self.selected_tracks) > 1
        self.buttons["merge"].setEnabled(several)
        for name in ("split", "lock", "delete"):
            self.buttons[name].setEnabled(bool(rows))

    @property
    def selected_tracks(self) -> tuple[int, ...]:
        """The selected objects."""
        return tuple(
            self.table.rows[index.row()].track
            for index in self.view.selectionModel().selectedRows()
        )

    def offer_import_layers(self, imports: Sequence[tuple[str, Callable[[], Any]]]) -> None:
        """List the layers that objects can be imported from: a title and an action for each."""
        self.import_menu.clear()
        for title, take in imports:
            self.import_menu.addAction(title).triggered.connect(lambda *_, take=take: take())
        if not imports:
            self.import_menu.addAction("No layer with labels, boxes or points").setEnabled(False)

    def _on_selection(self, *_: Any) -> None:
        chosen = self.selected_tracks
        self.buttons["merge"].setEnabled(len(chosen) > 1)
        index = self.view.selectionModel().currentIndex()
        if not self._updating and index.isValid() and chosen:
            self.object_selected.emit(self.table.rows[index.row()].track)

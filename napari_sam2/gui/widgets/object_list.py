"""ObjectList: the objects, their names, categories and states; what can be done with those that are selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QMenu, QTableView, QToolButton, QWidget

from napari_sam2.gui.app.view import ObjectRow
from napari_sam2.gui.widgets.elements import column, heading, muted, row, tool
from napari_sam2.gui.widgets.icons import swatch
from napari_sam2.gui.widgets.keys import hint

_COLUMNS = ("", "Name", "Category", "Frames", "State")
_EDITABLE = {1: "name", 2: "category"}
_ROWS_SHOWN = 6

Colour = Callable[[int], tuple[float, float, float]]


class ObjectTable(QAbstractTableModel):
    """The rows, as Qt reads them.

    `described` is emitted with a track, "name" or "category", and the new text.
    """

    described = Signal(int, str, str)

    def __init__(self) -> None:
        super().__init__()
        self.rows: tuple[ObjectRow, ...] = ()
        self.colour: Colour = lambda _: (0.5, 0.5, 0.5)

    def show(self, rows: tuple[ObjectRow, ...]) -> None:
        """Show these; a selection stays where the same objects are there."""
        if [each.track for each in rows] != [each.track for each in self.rows]:
            self.beginResetModel()
            self.rows = rows
            self.endResetModel()
        elif rows != self.rows:
            self.rows = rows
            self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, len(_COLUMNS) - 1))

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's name
        """Qt's: how many rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Qt's: how many columns."""
        return 0 if parent is not None and parent.isValid() else len(_COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Qt's: the titles."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _COLUMNS[section]
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Qt's: name and category can be written to."""
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsEditable if index.column() in _EDITABLE else flags

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Qt's: what a cell shows."""
        each = self.rows[index.row()]
        cells = (str(each.track), each.name, each.category, str(each.frames or ""), each.state)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return cells[index.column()]
        if role == Qt.ItemDataRole.DecorationRole and index.column() == 0:
            return swatch(QColor.fromRgbF(*self.colour(each.track)))
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 3:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.ToolTipRole and index.column() in _EDITABLE:
            return "Double click to write"
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:  # noqa: N802
        """Qt's: somebody wrote a name or a category."""
        if role != Qt.ItemDataRole.EditRole or index.column() not in _EDITABLE:
            return False
        self.described.emit(
            self.rows[index.row()].track, _EDITABLE[index.column()], str(value).strip()
        )
        return True


class ObjectList(QWidget):
    """`selected` is emitted with the object that was clicked in the list, `asked` with what to do: "new", "merge", …, "import"."""

    selected = Signal(int)
    asked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.table = ObjectTable()
        self.view = QTableView()
        self.view.setModel(self.table)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked
            | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        self.view.setShowGrid(False)
        self.view.setWordWrap(False)
        self.view.setIconSize(QSize(14, 14))
        vertical, header = self.view.verticalHeader(), self.view.horizontalHeader()
        vertical.hide()
        vertical.setDefaultSectionSize(24)
        header.setHighlightSections(False)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for column_number, width in enumerate((46, 64, 74, 48, 72)):
            self.view.setColumnWidth(column_number, width)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.view.setMinimumHeight(24 * _ROWS_SHOWN + 30)
        self.count = muted()
        self.buttons = {
            name: tool(drawing, tip, lambda name=name: self.asked.emit(name))  # type: ignore[misc]
            for name, drawing, tip in (
                ("new", "add", hint("New object: the next click is its first", "new")),
                (
                    "merge",
                    "merge",
                    "Merge the selected objects into the one with the lowest number",
                ),
                (
                    "split",
                    "split",
                    (
                        "Split: each piece on this frame becomes an object; of one piece, click the "
                        "part"
                    ),
                ),
                (
                    "lock",
                    "lock",
                    "Lock the selected objects: nothing overwrites them any more. Again: unlock",
                ),
                ("delete", "delete", hint("Delete the selected objects", "delete")),
            )
        }
        self.sources = QToolButton()
        self.sources.setProperty("icon_name", "import")
        self.sources.setToolTip(
            "Take objects from a layer: labels (from Cellpose, StarDist or by hand), boxes or "
            "points"
        )
        self.sources.setAutoRaise(True)
        self.sources.setIconSize(QSize(18, 18))
        self.sources.setMinimumHeight(26)
        self.sources.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.sources.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.menu = QMenu(self.sources)
        self.sources.setMenu(self.menu)
        layout = column(self)
        layout.addLayout(row(heading("Objects"), None, self.count))
        layout.addWidget(self.view, 1)
        layout.addLayout(row(*self.buttons.values(), None, self.sources, spacing=2))
        self._showing = False
        self.view.selectionModel().selectionChanged.connect(self._on_selection)

    def show_rows(self, rows: tuple[ObjectRow, ...], current: int) -> None:
        """Show these objects, `current` being the one that is worked on."""
        self._showing = True
        self.table.show(rows)
        places = {each.track: place for place, each in enumerate(rows)}
        if current in places and current not in self.chosen:
            where = self.table.index(places[current], 0)
            model = self.view.selectionModel()
            model.setCurrentIndex(
                where,
                QItemSelectionModel.SelectionFlag.ClearAndSelect
                | QItemSelectionModel.SelectionFlag.Rows,
            )
            self.view.scrollTo(where)
        self._showing = False
        self.count.setText(f"{len(rows)}" if rows else "")
        several = len(self.chosen) > 1
        self.buttons["merge"].setEnabled(several)
        for name in ("split", "lock", "delete"):
            self.buttons[name].setEnabled(bool(rows))

    @property
    def chosen(self) -> tuple[int, ...]:
        """The objects that are selected."""
        return tuple(
            self.table.rows[index.row()].track
            for index in self.view.selectionModel().selectedRows()
        )

    def offer(self, sources: Sequence[tuple[str, Callable[[], Any]]]) -> None:
        """What objects can be taken from."""
        self.menu.clear()
        for title, take in sources:
            self.menu.addAction(title).triggered.connect(lambda *_, take=take: take())
        if not sources:
            self.menu.addAction("No layer with labels, boxes or points").setEnabled(False)

    def _on_selection(self, *_: Any) -> None:
        chosen = self.chosen
        self.buttons["merge"].setEnabled(len(chosen) > 1)
        index = self.view.selectionModel().currentIndex()
        if not self._showing and index.isValid() and chosen:
            self.selected.emit(self.table.rows[index.row()].track)

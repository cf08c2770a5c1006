"""A pandas table in Qt: sorted by a click on a column, rows chosen by what they are about, copied as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QTableView, QWidget

_SAMPLED_ROWS = 60  # rows that are looked at for the width of columns
_DESCENDING = Qt.SortOrder.DescendingOrder


class TableModel(QAbstractTableModel):
    """A DataFrame, shown sorted; `rows` is it in the order that is seen."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.rows = pd.DataFrame()
        self._unsorted = pd.DataFrame()
        self._sort_order: tuple[str, bool] | None = None  # column, and whether it falls

    def show_table(self, frame: pd.DataFrame) -> None:
        """Show another DataFrame, in the order that was chosen."""
        self.beginResetModel()
        self._unsorted = frame
        self.rows = self._sort_rows(frame)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Rows of the table; none below a cell."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Columns of the table."""
        return 0 if parent is not None and parent.isValid() else self.rows.shape[1]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A cell: its text, or where it stands."""
        if role == Qt.ItemDataRole.DisplayRole:
            return format_value(self.rows.iat[index.row(), index.column()])
        if role == Qt.ItemDataRole.TextAlignmentRole:
            number = pd.api.types.is_numeric_dtype(self.rows.dtypes.iloc[index.column()])
            return (
                Qt.AlignmentFlag.AlignRight if number else Qt.AlignmentFlag.AlignLeft
            ) | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Names of columns; rows have none."""
        if (
            role == Qt.ItemDataRole.DisplayRole
            and orientation == Qt.Orientation.Horizontal
            and section < self.rows.shape[1]
        ):
            return str(self.rows.columns[section])
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """By a column; -1: as it came.

        Rows that are equal there keep their order, empty cells come last.
        """
        self._sort_order = (
            (str(self._unsorted.columns[column]), order == _DESCENDING)
            if 0 <= column < self._unsorted.shape[1]
            else None
        )
        self.show_table(self._unsorted)

    def find_row(self, **values: int) -> int | None:
        """The first row seen that has these values; None where there is none."""
        if not len(self.rows) or not set(values) <= set(self.rows.columns):
            return None
        equal = np.logical_and.reduce(
            [_match_values(self.rows[name], value) for name, value in values.items()]
        )
        found = np.flatnonzero(equal)
        return int(found[0]) if found.size else None

    def _sort_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        if self._sort_order is None or self._sort_order[0] not in frame.columns:
            return frame
        name, falling = self._sort_order
        key = (
            pd.to_numeric(frame[name], errors="coerce") if name == "frame" else frame[name]
        )  # "all" stands below the numbers
        return frame.loc[
            key.sort_values(ascending=not falling, kind="stable", na_position="last").index
        ]


class TableView(QTableView):
    """The view of a TableModel.

    `row_chosen` comes with a person's choice of a row, never with `show_selected_row`.
    """

    row_chosen = Signal(int)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table_model = TableModel(self)
        self.setModel(self.table_model)
        self.setAccessibleName(name)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setAlternatingRowColors(True)
        self.setStyleSheet(
            "QTableView { alternate-background-color: rgba(128, 128, 128, 20); }"
        )  # napari's themes leave it white
        self.setSortingEnabled(True)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(20)
        header = self.horizontalHeader()
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setSortIndicatorClearable(True)
        header.setHighlightSections(False)
        header.setResizeContentsPrecision(_SAMPLED_ROWS)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self._columns: tuple[str, ...] = ()
        self._updating = False
        self.selectionModel().currentRowChanged.connect(self._on_row)

    def show_table(self, frame: pd.DataFrame) -> None:
        """Show a DataFrame; the order and the place one had scrolled to stay."""
        bars = (self.verticalScrollBar(), self.horizontalScrollBar())
        places = [bar.value() for bar in bars]
        self._updating = True
        self.table_model.show_table(frame)
        self._updating = False
        for bar, place in zip(bars, places, strict=True):
            bar.setValue(place)
        known = frame.columns[frame.notna().any()]
        if len(frame) and self._columns != tuple(known):  # what nobody knows takes no room
            self._columns = tuple(known)
            for number, name in enumerate(frame.columns):
                self.setColumnHidden(number, name not in self._columns)
            self.resizeColumnsToContents()

    def show_selected_row(self, row: int | None) -> None:
        """Show this row as the chosen one, in sight; None: none."""
        self._updating = True
        if row is None:
            self.clearSelection()
            self.setCurrentIndex(QModelIndex())
        else:
            index = self.table_model.index(row, 0)
            flags = (
                QItemSelectionModel.SelectionFlag.ClearAndSelect
                | QItemSelectionModel.SelectionFlag.Rows
            )
            self.selectionModel().setCurrentIndex(index, flags)
            self.scrollTo(index)
        self._updating = False

    def get_selected_rows(self) -> pd.DataFrame:
        """The rows that are selected, in the order that is seen; all where fewer than two are."""
        rows = sorted({index.row() for index in self.selectionModel().selectedRows()})
        return self.table_model.rows.iloc[rows] if len(rows) > 1 else self.table_model.rows

    def copy_rows(self) -> int:
        """Put `get_selected_rows` on the clipboard, for a spreadsheet; how many."""
        rows = self.get_selected_rows()
        QApplication.clipboard().setText(rows.to_csv(sep="\t", index=False, lineterminator="\n"))
        return len(rows)

    def keyPressEvent(self, event: Any) -> None:
        """Ctrl+C copies rows, not a cell."""
        copies = (
            event.modifiers() == Qt.KeyboardModifier.ControlModifier and event.key() == Qt.Key.Key_C
        )
        self.copy_rows() if copies else super().keyPressEvent(event)

    def _on_row(self, current: QModelIndex, previous: QModelIndex) -> None:
        del previous
        if not self._updating and current.isValid():
            self.row_chosen.emit(current.row())


def _match_values(column: pd.Series, value: int) -> np.ndarray:
    """Where a column, of numbers or of their texts, has a value."""
    same = (
        column == value
        if pd.api.types.is_numeric_dtype(column.dtype)
        else column.astype(str) == str(value)
    )
    return np.asarray(same)


def format_value(value: Any) -> str:
    """A cell as people read it: four digits that count, nothing where nothing is known."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)

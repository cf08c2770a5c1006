"""A pandas table in Qt: it is sorted by a click on a column, and copied as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QTableView, QWidget

from napari_sam2.io.tables import quote_formulas

_SAMPLED_ROWS = 60  # that set the widths of columns
_DESCENDING = Qt.SortOrder.DescendingOrder


class TableModel(QAbstractTableModel):
    """A DataFrame that can be sorted; `rows` has the visible order."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.rows = pd.DataFrame()
        self._unsorted = pd.DataFrame()
        self._sort_order: tuple[str, bool] | None = None  # column, and whether it descends

    def show_table(self, frame: pd.DataFrame) -> None:
        """Show another DataFrame, in the same order."""
        self.beginResetModel()
        self._unsorted = frame
        self.rows = self._sort_rows(frame)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """The number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """The number of columns."""
        return 0 if parent is not None and parent.isValid() else self.rows.shape[1]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The text or alignment of a cell."""
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
        """The name of a column; rows have none."""
        if (
            role == Qt.ItemDataRole.DisplayRole
            and orientation == Qt.Orientation.Horizontal
            and section < self.rows.shape[1]
        ):
            return str(self.rows.columns[section])
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; -1 restores the original order.

        Equal rows keep their order, and empty cells are last.
        """
        self._sort_order = (
            (str(self._unsorted.columns[column]), order == _DESCENDING)
            if 0 <= column < self._unsorted.shape[1]
            else None
        )
        self.show_table(self._unsorted)

    def find_row(self, **values: int) -> int | None:
        """The first visible row with these values; None if there is none."""
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
        name, descending = self._sort_order
        # in counts, the frame "all" is below the numbers
        key = pd.to_numeric(frame[name], errors="coerce") if name == "frame" else frame[name]
        return frame.loc[
            key.sort_values(ascending=not descending, kind="stable", na_position="last").index
        ]


class TableView(QTableView):
    """The view of a TableModel."""

    row_chosen = Signal(int)
    """A row that a person chose; not emitted by `show_selected_row`."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table_model = TableModel(self)
        self.setModel(self.table_model)
        self.setAccessibleName(name)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setAlternatingRowColors(True)
        # napari's themes leave alternate rows white
        self.setStyleSheet("QTableView { alternate-background-color: rgba(128, 128, 128, 20); }")
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
        """Show a DataFrame; the order and the scroll position stay."""
        bars = (self.verticalScrollBar(), self.horizontalScrollBar())
        places = [bar.value() for bar in bars]
        self._updating = True
        self.table_model.show_table(frame)
        self._updating = False
        for bar, place in zip(bars, places, strict=True):
            bar.setValue(place)
        known = frame.columns[frame.notna().any()]
        if len(frame) and self._columns != tuple(known):  # hide empty columns
            self._columns = tuple(known)
            for number, name in enumerate(frame.columns):
                self.setColumnHidden(number, name not in self._columns)
            self.resizeColumnsToContents()

    def show_selected_row(self, row: int | None) -> None:
        """Select this row and scroll to it; None selects none."""
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
        """The selected rows in visible order; all rows if fewer than two are selected."""
        rows = sorted({index.row() for index in self.selectionModel().selectedRows()})
        return self.table_model.rows.iloc[rows] if len(rows) > 1 else self.table_model.rows

    def copy_rows(self) -> int:
        """Copy `get_selected_rows` for a spreadsheet, and return how many."""
        rows = self.get_selected_rows()
        QApplication.clipboard().setText(
            quote_formulas(rows).to_csv(sep="\t", index=False, lineterminator="\n")
        )
        return len(rows)

    def keyPressEvent(self, event: Any) -> None:
        """Copy rows with Ctrl+C, not a cell."""
        copies = (
            event.modifiers() == Qt.KeyboardModifier.ControlModifier and event.key() == Qt.Key.Key_C
        )
        self.copy_rows() if copies else super().keyPressEvent(event)

    def _on_row(self, current: QModelIndex, previous: QModelIndex) -> None:
        del previous
        if not self._updating and current.isValid():
            self.row_chosen.emit(current.row())


def _match_values(column: pd.Series, value: int) -> np.ndarray:
    """Find the rows in which a column of numbers or texts has a value."""
    same = (
        column == value
        if pd.api.types.is_numeric_dtype(column.dtype)
        else column.astype(str) == str(value)
    )
    return np.asarray(same)


def format_value(value: Any) -> str:
    """Format a cell: four significant digits, "" for a missing value."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)

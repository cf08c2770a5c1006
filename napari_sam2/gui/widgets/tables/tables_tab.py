"""Tables: counts, objects and tracks as tables and plots, live while objects are carried."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QTabWidget, QToolButton, QVBoxLayout, QWidget

from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.app.live_tables import Measured, TableSet
from napari_sam2.gui.widgets.tables.plots import Plots
from napari_sam2.gui.widgets.tables.table_view import TableView
from napari_sam2.gui.widgets.timeline.painting import Colour
from napari_sam2.io.tables import write_table

_INTERVAL_S, _LONGEST_S = 0.3, 3.0  # between two refreshes
_SHARE = 0.25  # of one core that refreshing may take: large tables are refreshed less often
_NAMES = ("counts", "objects", "tracks")


class Tables(QWidget):
    """The tables and plots of what was measured; call `refresh` after each change, as often as there is one.

    `chosen` (track, frame) comes with a row or a line that a person chose; track 0 for a row that
    is about a frame alone. `told` is a sentence for the person; `drawn`, that the tracks are wanted
    as a layer. Tables are put together in a thread of their own, at intervals.
    """

    chosen = Signal(int, int)
    told = Signal(str)
    drawn = Signal()
    _made = Signal(object)

    def __init__(
        self,
        measured: Measured | None = None,
        *,
        colour: Colour | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.tables: TableSet | None = None
        self.track, self.frame = 0, 0
        self._measured = measured
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="napari-sam2-tables")
        self._busy, self._stale, self._not_before = False, False, 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._begin)
        self.views = {name: TableView(name) for name in _NAMES}
        self.plots = Plots(colour=colour)
        self._tabs = self._tabbed()
        self._made.connect(self._show)
        self.destroyed.connect(
            lambda *_, thread=self._thread: thread.shutdown(wait=False, cancel_futures=True)
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self._tabs)
        self.refresh()

    def show_measured(self, measured: Measured | None, *, colour: Colour | None = None) -> None:
        """Show another session's; None: nothing."""
        self._measured = measured
        self.plots.colour = colour or self.plots.colour
        self.track = self.frame = 0
        if measured is None:
            self.tables = None
            for view in self.views.values():
                view.show_table(pd.DataFrame())
        self.refresh()

    def refresh(self) -> None:
        """Something changed: show it soon. Costs nothing, however often it is called."""
        self._stale = True
        if not self._busy and not self._timer.isActive():
            self._timer.start(max(0, int(1000 * (self._not_before - time.monotonic()))))

    def select(self, track: int, frame: int | None = None) -> None:
        """Show this object as the chosen one in all tables and plots; 0: none."""
        self.track = track
        self.frame = self.frame if frame is None else frame
        self._choose_rows()
        self.plots.select(track)
        self.plots.go(self.frame)

    def go(self, frame: int) -> None:
        """Show which frame is looked at."""
        self.select(self.track, frame)

    def copy(self) -> None:
        """Put the table that is seen on the clipboard: the selected rows, all where fewer than two are."""
        self.told.emit(f"{self._current.copy()} rows copied: paste them into a spreadsheet")

    def save(self, path: Path | str | None = None) -> None:
        """Save the table that is seen as CSV; asks where, unless that is given."""
        name = self._current.accessibleName()
        chosen = (
            path
            or QFileDialog.getSaveFileName(
                self, f"Save {name} as CSV", f"{name}.csv", "CSV (*.csv)"
            )[0]
        )
        if not chosen or self.tables is None:
            return
        try:
            write_table(getattr(self.tables, name), chosen)
        except Sam2Error as error:
            self.told.emit(str(error))
            return
        self.told.emit(f"{name} saved in {chosen}")

    @property
    def _current(self) -> TableView:
        """The table that is seen; the objects where the plots are."""
        shown = self._tabs.currentWidget()
        return shown if isinstance(shown, TableView) else self.views["objects"]

    def _tabbed(self) -> QTabWidget:
        tabs = QTabWidget()
        tabs.setDocumentMode(True)
        for name, view in self.views.items():
            tabs.addTab(view, name.capitalize())
            view.row_chosen.connect(lambda row, name=name: self._on_row(name, row))
        tabs.addTab(self.plots, "Plots")
        self.plots.chosen.connect(self._on_plot)
        corner = QWidget()
        beside = QHBoxLayout(corner)
        beside.setContentsMargins(0, 0, 0, 0)
        for text, tip, does in (
            ("Copy", "Copy the selected rows (all where none are)", self.copy),
            ("Save…", "Save this table as CSV", self.save),
            (
                "Draw tracks",
                "Show the way of every object, and who divided into whom, as a Tracks layer",
                self.drawn.emit,
            ),
        ):
            button = QToolButton()
            button.setText(text)
            button.setAutoRaise(True)
            button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 20)
            button.setToolTip(tip)
            button.clicked.connect(lambda *_, does=does: does())
            beside.addWidget(button)
        tabs.setCornerWidget(corner)
        return tabs

    def _begin(self) -> None:
        """Have the tables put together, in the thread."""
        if self._measured is None or self._busy:
            return
        self._busy, self._stale = True, False
        began, measured = time.monotonic(), self._measured
        future = self._thread.submit(measured.tables)
        future.add_done_callback(lambda done: self._hand_over(done, measured, began))

    def _hand_over(self, done: Future[TableSet], measured: Measured, began: float) -> None:
        """From the thread to the window; nobody listens where that was closed in the meantime."""
        with suppress(RuntimeError):
            if not done.cancelled():
                self._made.emit((done, measured, began))

    def _show(self, made: Any) -> None:
        done, measured, began = made
        self._busy = False
        if measured is self._measured:
            self.tables = done.result()
            for name, view in self.views.items():
                view.show_table(getattr(self.tables, name))
            self.plots.show_tables(self.tables, channel=self._measured.video.channel or 0)
            self._choose_rows()
        spent = time.monotonic() - began
        self._not_before = time.monotonic() + min(_LONGEST_S, max(_INTERVAL_S, spent / _SHARE))
        if self._stale:
            self.refresh()

    def _choose_rows(self) -> None:
        places = {
            "counts": self.views["counts"].table.place(frame=self.frame),
            "objects": self.views["objects"].table.place(track=self.track, frame=self.frame),
            "tracks": self.views["tracks"].table.place(track=self.track),
        }
        for name, row in places.items():
            self.views[name].choose(row)

    def _on_row(self, name: str, row: int) -> None:
        values = self.views[name].table.rows.iloc[row]
        if name == "counts":
            if str(values["frame"]).isdigit():
                self._choose(0, int(values["frame"]))
            return
        self._choose(
            int(values["track"]), int(values["frame" if name == "objects" else "first_frame"])
        )

    def _on_plot(self, track: int, frame: int) -> None:
        self._choose(track, frame)

    def _choose(self, track: int, frame: int) -> None:
        self.select(track or self.track, frame)
        self.chosen.emit(track, frame)

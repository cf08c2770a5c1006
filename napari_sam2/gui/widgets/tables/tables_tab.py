"""TablesTab: counts, objects and tracks as tables and plots, updated during a propagation."""

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
from napari_sam2.gui.app.live_tables import LiveTables, TableSet
from napari_sam2.gui.widgets.elements import TrackColour
from napari_sam2.gui.widgets.tables.plots import Plots
from napari_sam2.gui.widgets.tables.table_view import TableView
from napari_sam2.io.tables import write_table

_MIN_INTERVAL_S, _MAX_INTERVAL_S = 0.3, 3.0  # between two refreshes
_MAX_CORE_SHARE = 0.25  # of one core: large tables are refreshed less often
_NAMES = ("counts", "objects", "tracks")


class TablesTab(QWidget):
    """The tables and plots of a session; call `refresh` after each change.

    Tables are made in a thread of their own, at intervals.
    """

    track_chosen = Signal(int, int)
    """The track and frame of a row or point that a person chose; track 0 for a frame alone."""
    notified = Signal(str, bool)
    """A sentence for the person, and whether it is an error."""
    draw_tracks_requested = Signal()
    """The person wants the tracks as a layer."""
    _tables_ready = Signal(object)

    def __init__(
        self,
        live_tables: LiveTables | None = None,
        *,
        colour: TrackColour | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.tables: TableSet | None = None
        self.track, self.frame = 0, 0
        self.live_tables = live_tables
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="napari-sam2-tables")
        self._busy, self._needs_refresh, self._next_refresh_s = False, False, 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._start_refresh)
        self.views = {name: TableView(name) for name in _NAMES}
        self.plots = Plots(colour=colour)
        self.tabs = self._make_tabs()
        self._tables_ready.connect(self._show_tables)
        self.destroyed.connect(
            lambda *_, thread=self._thread: thread.shutdown(wait=False, cancel_futures=True)
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.tabs)
        self.refresh()

    def show_live_tables(
        self, live_tables: LiveTables | None, *, colour: TrackColour | None = None
    ) -> None:
        """Show the tables of another session; None shows nothing."""
        self.live_tables = live_tables
        self.plots.colour = colour or self.plots.colour
        self.track = self.frame = 0
        if live_tables is None:
            self.tables = None
            for view in self.views.values():
                view.show_table(pd.DataFrame())
        self.refresh()

    def refresh(self) -> None:
        """Show a change soon. Many calls cost no more than one."""
        self._needs_refresh = True
        if not self._busy and not self._timer.isActive():
            self._timer.start(max(0, int(1000 * (self._next_refresh_s - time.monotonic()))))

    def select(self, track: int, frame: int | None = None) -> None:
        """Select this object in all tables and plots; 0 selects none."""
        self.track = track
        self.frame = self.frame if frame is None else frame
        self._show_selected_rows()
        self.plots.select(track)
        self.plots.go_to_frame(self.frame)

    def go_to_frame(self, frame: int) -> None:
        """Show the current frame."""
        self.select(self.track, frame)

    def copy_table(self) -> None:
        """Copy the visible table to the clipboard: the selected rows, all if fewer than two are."""
        count = self._current_view.copy_rows()
        self.notified.emit(f"Copied {count} rows. Paste them into a spreadsheet.", False)

    def save_table(self, path: Path | str | None = None) -> None:
        """Save the visible table as CSV; asks for a file if no path is given."""
        name = self._current_view.accessibleName()
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
            self.notified.emit(str(error), True)
            return
        self.notified.emit(f"Saved {name} in {chosen}", False)

    @property
    def _current_view(self) -> TableView:
        """The visible table; the objects if the plots are visible."""
        shown = self.tabs.currentWidget()
        return shown if isinstance(shown, TableView) else self.views["objects"]

    def _make_tabs(self) -> QTabWidget:
        tabs = QTabWidget()
        tabs.setDocumentMode(True)
        for name, view in self.views.items():
            tabs.addTab(view, name.capitalize())
            view.row_chosen.connect(lambda row, name=name: self._on_row(name, row))
        tabs.addTab(self.plots, "Plots")
        self.plots.point_chosen.connect(self._on_plot)
        corner = QWidget()
        beside = QHBoxLayout(corner)
        beside.setContentsMargins(0, 0, 0, 0)
        for text, tip, action in (
            ("Copy", "Copy the selected rows (all if none are selected)", self.copy_table),
            ("Save…", "Save this table as CSV", self.save_table),
            (
                "Draw tracks",
                "Show the trajectories and divisions of objects in a Tracks layer",
                self.draw_tracks_requested.emit,
            ),
        ):
            button = QToolButton()
            button.setText(text)
            button.setAutoRaise(True)
            button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 20)
            button.setToolTip(tip)
            button.clicked.connect(lambda *_, action=action: action())
            beside.addWidget(button)
        tabs.setCornerWidget(corner)
        return tabs

    def _start_refresh(self) -> None:
        """Make the tables, in the thread."""
        if self.live_tables is None or self._busy:
            return
        self._busy, self._needs_refresh = True, False
        started_s, live_tables = time.monotonic(), self.live_tables
        future = self._thread.submit(live_tables.make_tables)
        future.add_done_callback(lambda done: self._deliver(done, live_tables, started_s))

    def _deliver(self, future: Future[TableSet], live_tables: LiveTables, started_s: float) -> None:
        """Pass tables from the thread to the window, unless it was closed."""
        with suppress(RuntimeError):
            if not future.cancelled():
                self._tables_ready.emit((future, live_tables, started_s))

    def _show_tables(self, delivery: Any) -> None:
        future, live_tables, started_s = delivery
        self._busy = False
        if self.live_tables is not None and live_tables is self.live_tables:
            self.tables = future.result()
            for name, view in self.views.items():
                view.show_table(getattr(self.tables, name))
            self.plots.show_tables(self.tables, channel=self.live_tables.video.channel or 0)
            self._show_selected_rows()
        spent = time.monotonic() - started_s
        self._next_refresh_s = time.monotonic() + min(
            _MAX_INTERVAL_S, max(_MIN_INTERVAL_S, spent / _MAX_CORE_SHARE)
        )
        if self._needs_refresh:
            self.refresh()

    def _show_selected_rows(self) -> None:
        rows = {
            "counts": self.views["counts"].table_model.find_row(frame=self.frame),
            "objects": self.views["objects"].table_model.find_row(
                track=self.track, frame=self.frame
            ),
            "tracks": self.views["tracks"].table_model.find_row(track=self.track),
        }
        for name, row in rows.items():
            self.views[name].show_selected_row(row)

    def _on_row(self, name: str, row: int) -> None:
        values = self.views[name].table_model.rows.iloc[row]
        if name == "counts":
            if str(values["frame"]).isdigit():
                self._select_and_emit(0, int(values["frame"]))
            return
        self._select_and_emit(
            int(values["track"]), int(values["frame" if name == "objects" else "first_frame"])
        )

    def _on_plot(self, track: int, frame: int) -> None:
        self._select_and_emit(track, frame)

    def _select_and_emit(self, track: int, frame: int) -> None:
        self.select(track or self.track, frame)
        self.track_chosen.emit(track, frame)

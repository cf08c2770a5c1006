"""ModelDownload: downloads a known model, with progress and a stop button."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QWidget

from napari_sam2.gui.app.view import Worker
from napari_sam2.gui.widgets.elements import make_column, make_row, make_tool_button
from napari_sam2.models.weights.cards import KnownModel
from napari_sam2.models.weights.files import get_cache_folder

_POLL_MS = 200
_MEGABYTE = 1e6
_PROGRESS_STEPS = 1000


class ModelDownload(QWidget):
    """A download button, which becomes a progress bar.

    Parameters
    ----------
    worker
        A thread of its own, because a download of minutes must not hold up a click.
    fetch
        Downloads a model by name; see `fetch_model`.
    """

    downloaded = Signal(str)
    """The name of a model that is on this machine now."""
    failed = Signal(object)
    """The error of a download; not emitted if it was stopped."""

    def __init__(self, worker: Worker, fetch: Callable[..., Path]) -> None:
        super().__init__()
        self._worker = worker
        self._fetch = fetch
        self._offered: KnownModel | None = None
        self._model: KnownModel | None = None
        self._stop_event = Event()
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._show_progress)
        self.button = QPushButton()
        self.button.clicked.connect(self._start)
        self.progress_bar = QProgressBar()
        self.progress_bar.setRange(0, _PROGRESS_STEPS)
        self.stop_button = make_tool_button(
            "stop", "Stop the download. The next one resumes where it stopped.", self._stop
        )
        layout = make_column(self)
        layout.addWidget(self.button)
        row = make_row(self.progress_bar, self.stop_button)
        row.setStretch(0, 1)
        layout.addLayout(row)
        self.offer(None)

    def offer(self, model: KnownModel | None) -> None:
        """Offer to download a model; None hides the button."""
        self._offered = model
        running = self._model is not None
        self.button.setVisible(model is not None and not running)
        if model is not None:
            self.button.setText(f"Download {format_size(model)}")
        for widget in (self.progress_bar, self.stop_button):
            widget.setVisible(running)
        self.setVisible(model is not None or running)

    def _start(self) -> None:
        model = self._offered
        if model is None or self._model is not None:
            return
        self._model, stop_event = model, Event()
        self._stop_event = stop_event
        name = model.card.name
        self.progress_bar.setValue(0)
        self.progress_bar.setFormat(f"{name}: %p %")
        self.stop_button.setEnabled(True)
        self._timer.start()
        self.offer(model)
        self._worker.submit(
            lambda: self._fetch(name, progress=False, wanted=lambda: not stop_event.is_set()),
            lambda _: self._finish(name),
            self._fail,
        )

    def _stop(self) -> None:
        self._stop_event.set()
        self.stop_button.setEnabled(False)
        self.progress_bar.setFormat("stopping…")

    def _show_progress(self) -> None:
        """Show how much has arrived; the file grows next to its final place."""
        if self._model is None or not self._model.size_bytes:
            return
        stem = self._model.card.source.rsplit("/", 1)[-1]
        parts = get_cache_folder().glob(f"{stem}*.part")
        arrived = max((part.stat().st_size for part in parts), default=0)
        self.progress_bar.setValue(int(_PROGRESS_STEPS * arrived / self._model.size_bytes))

    def _finish(self, name: str) -> None:
        self._end()
        self.downloaded.emit(name)

    def _fail(self, error: Exception) -> None:
        self._end()
        if not self._stop_event.is_set():
            self.failed.emit(error)

    def _end(self) -> None:
        self._model = None
        self._timer.stop()
        self.offer(self._offered)


def format_size(model: KnownModel) -> str:
    """The size of a model's file, e.g. "156 MB"; "" if it is not known."""
    return f"{model.size_bytes / _MEGABYTE:.0f} MB" if model.size_bytes else ""

"""ModelSection: which model, what it may be used for, and where it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from qtpy.QtCore import QSignalBlocker, QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QProgressBar, QPushButton, QWidget

from napari_sam2.core.inference_options import Attention, Precision
from napari_sam2.gui.app.view import Snapshot, Worker
from napari_sam2.gui.widgets.elements import (
    make_column,
    make_heading,
    make_muted_label,
    make_row,
    make_tool_button,
)
from napari_sam2.models.weights.cards import KnownModel, list_models
from napari_sam2.models.weights.fetch import fetch_model
from napari_sam2.models.weights.files import get_cache_folder

_MEGABYTE = 1e6
_STATE_TITLES = {
    "embedded": "comes with the plugin",
    "imported": "yours",
    "fetched": "fetched",
    "plug-in": "plug-in",
}
_POLL_MS = 200
_ATTENTION_TITLES: dict[Attention, tuple[str, str]] = {
    "auto": ("Look near where that shows the same", "found out for each object after a prompt"),
    "global": ("Look at the whole image", "as SAM 2 does; minutes for many objects"),
    "local": (
        "Look near the objects",
        "many times faster where they are small, nearly the same masks",
    ),
}


class ModelSection(QWidget):
    """`model_chosen` is emitted with the name of a model on this machine, `download_failed` with an error of a download.

    `attention_chosen` is emitted with an attention, `windows_chosen` with windows, `precision_chosen` with a precision, for
    models that have the choice.

    `worker` fetches: a thread of its own, since a download of minutes must not hold up a click.
    """

    model_chosen = Signal(str)
    attention_chosen = Signal(str)
    windows_chosen = Signal(str)
    precision_chosen = Signal(str)
    download_failed = Signal(object)

    def __init__(self, worker: Worker, *, fetch_model: Callable[..., Path] = fetch_model) -> None:
        super().__init__()
        self._worker = worker
        self._fetch_model = fetch_model
        self._model_being_fetched: KnownModel | None = None
        self.model_choice = QComboBox()
        self.model_choice.setToolTip(
            "The model that segments: larger ones are slower and better on most things"
        )
        self.about_label = make_muted_label()
        self.attention_choice = QComboBox()
        for name, (title, _) in _ATTENTION_TITLES.items():
            self.attention_choice.addItem(title, name)
        self.attention_choice.setToolTip(
            "\n".join(": ".join(each) for each in _ATTENTION_TITLES.values())
        )
        self.tiles_checkbox = QCheckBox("Enlarge small objects")
        self.tiles_checkbox.setToolTip(
            "On a large image: look at objects that are small by a part of it that shows them "
            "larger (tiles).\n"
            "Better masks where a cell is less than 40 pixels wide to the model; each part costs "
            "as much as an image."
        )
        self.precision_choice = QComboBox()
        self.precision_choice.setToolTip(
            "What the model computes in. bfloat16 saved 12 to 31 % of the time on a processor, "
            "with nearly the same masks\n"
            "(at most 0.002 of IoU lost); nothing was measured on GPUs. Only what this device "
            "has instructions for is offered."
        )
        self.fetch_button = QPushButton()
        self.progress_bar = QProgressBar()
        self.progress_bar.setTextVisible(True)
        self.progress_bar.hide()
        self.cancel_button = make_tool_button(
            "stop",
            "Stop the download; what arrived is kept, and the next one goes on from there",
            self._on_cancel,
        )
        self.cancel_button.hide()
        self._stop_event = Event()
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._poll_download)
        layout = make_column(self)
        layout.addWidget(make_heading("Model"))
        which = make_row(self.model_choice, self.precision_choice)
        which.setStretch(0, 1)
        layout.addLayout(which)
        for widget in (
            self.about_label,
            self.attention_choice,
            self.tiles_checkbox,
            self.fetch_button,
        ):
            layout.addWidget(widget)
        arriving = make_row(self.progress_bar, self.cancel_button)
        arriving.setStretch(0, 1)
        layout.addLayout(arriving)
        self.device = ""
        self.used_model = ""
        self._shown_precision: Precision = "float32"
        self.refresh()
        self.model_choice.currentIndexChanged.connect(self._on_chosen)
        self.fetch_button.clicked.connect(self._on_fetch)
        self.tiles_checkbox.clicked.connect(
            lambda checked: self.windows_chosen.emit("tiles" if checked else "whole")
        )
        self.attention_choice.activated.connect(
            lambda _: self.attention_chosen.emit(self.attention_choice.currentData())
        )
        self.precision_choice.activated.connect(
            lambda _: self.precision_chosen.emit(self.precision_choice.currentData())
        )

    def refresh(self, current: str = "nano") -> None:
        """List the models that are known now."""
        blocker = QSignalBlocker(self.model_choice)
        self.model_choice.clear()
        for model in list_models():
            self.model_choice.addItem(_make_title(model), model)
        self.show_model(current)
        blocker.unblock()
        self._update_description()

    def show_model(self, name: str) -> None:
        """Show the model of that name as the chosen one, without asking for it."""
        blocker = QSignalBlocker(self.model_choice)
        self.used_model = name
        for place in range(self.model_choice.count()):
            if self.model_choice.itemData(place).card.name == name:
                self.model_choice.setCurrentIndex(place)
        blocker.unblock()
        self._update_description()

    def show_state(self, snapshot: Snapshot) -> None:
        """Show where the model that is used computes and in what, and how it looks at frames."""
        self.tiles_checkbox.setChecked(snapshot.windows == "tiles")
        self.attention_choice.setCurrentIndex(self.attention_choice.findData(snapshot.attention))
        self._offer_precisions(snapshot.precisions)
        self.precision_choice.setCurrentIndex(self.precision_choice.findData(snapshot.precision))
        if (snapshot.model, snapshot.device, snapshot.precision) != (
            self.used_model,
            self.device,
            self._shown_precision,
        ):
            self.used_model, self.device, self._shown_precision = (
                snapshot.model,
                snapshot.device,
                snapshot.precision,
            )
            self._update_description()

    def _offer_precisions(self, precisions: Sequence[Precision]) -> None:
        """Let a person choose among these; not shown where there is nothing to choose."""
        if [
            self.precision_choice.itemData(place) for place in range(self.precision_choice.count())
        ] == [*precisions]:
            return
        self.precision_choice.clear()
        for each in precisions:
            self.precision_choice.addItem(each, each)
        self._update_description()

    def _get_current_model(self) -> KnownModel | None:
        found = self.model_choice.currentData()
        return found if isinstance(found, KnownModel) else None

    def _on_chosen(self) -> None:
        model = self._get_current_model()
        self._update_description()
        if model is not None and model.state != "available" and model.state != "damaged":
            self.model_chosen.emit(model.card.name)

    def _update_description(self) -> None:
        model = self._get_current_model()
        if model is None:
            return
        missing = model.state == "available"
        places = {"cpu": "on the processor", "mps": "on the Apple GPU"}
        used = bool(self.device) and model.card.name == self.used_model
        where = places.get(self.device, f"on the GPU ({self.device})") if used else ""
        if used and self._shown_precision != "float32":
            where += f" in {self._shown_precision}"
        words = (
            [model.card.licence, _STATE_TITLES.get(model.state, ""), where]
            if not missing
            else [model.card.licence, "not on this machine yet"]
        )
        if model.state == "damaged":
            words = [model.card.description]
        self.about_label.setText(" · ".join(word for word in words if word))
        self.model_choice.setToolTip(model.card.description or model.card.name)
        for choice in (self.attention_choice, self.tiles_checkbox):
            choice.setVisible(
                not (model.card.object_crops or missing or model.state in ("plug-in", "damaged"))
            )
        self.precision_choice.setVisible(used and self.precision_choice.count() > 1)
        self.fetch_button.setVisible(missing and self._model_being_fetched is None)
        self.fetch_button.setText(f"Fetch {_format_size(model)}")

    def _on_fetch(self) -> None:
        model = self._get_current_model()
        if model is None or self._model_being_fetched is not None:
            return
        self._model_being_fetched = model
        self.progress_bar.setRange(0, 1000)
        self.progress_bar.setValue(0)
        self.progress_bar.setFormat(f"{model.card.name}: %p %")
        self.progress_bar.show()
        self.cancel_button.setEnabled(True)
        self.cancel_button.show()
        self._timer.start()
        name, stopped = model.card.name, Event()
        self._stop_event = stopped
        self._worker.submit(
            lambda: self._fetch_model(name, progress=False, wanted=lambda: not stopped.is_set()),
            lambda _: self._on_fetched(name),
            self._on_fetch_failed,
        )
        self._update_description()

    def _on_cancel(self) -> None:
        self._stop_event.set()
        self.cancel_button.setEnabled(False)
        self.progress_bar.setFormat("stopping…")

    def _poll_download(self) -> None:
        """How much has arrived: the file grows beside its final place."""
        if self._model_being_fetched is None or not self._model_being_fetched.size_bytes:
            return
        stem = self._model_being_fetched.card.source.rsplit("/", 1)[-1]
        arrived = max(
            (part.stat().st_size for part in get_cache_folder().glob(f"{stem}*.part")), default=0
        )
        self.progress_bar.setValue(int(1000 * arrived / self._model_being_fetched.size_bytes))

    def _on_fetched(self, name: str) -> None:
        self._end_download()
        self.refresh(name)
        self.model_chosen.emit(name)

    def _on_fetch_failed(self, error: Exception) -> None:
        self._end_download()
        if not self._stop_event.is_set():
            self.download_failed.emit(error)

    def _end_download(self) -> None:
        self._model_being_fetched = None
        self._timer.stop()
        self.progress_bar.hide()
        self.cancel_button.hide()
        self._update_description()


def _make_title(model: KnownModel) -> str:
    return " · ".join(
        part
        for part in (
            model.card.name,
            _format_size(model),
            "to fetch" if model.state == "available" else "",
        )
        if part
    )


def _format_size(model: KnownModel) -> str:
    return f"{model.size_bytes / _MEGABYTE:.0f} MB" if model.size_bytes else ""

"""ModelSection: which model, what it may be used for, and where it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from qtpy.QtCore import QSignalBlocker, QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QProgressBar, QPushButton, QWidget

from napari_sam2.core.card import Attention, Precision
from napari_sam2.gui.app.view import Snapshot, Worker
from napari_sam2.gui.widgets.elements import column, heading, muted, row, tool
from napari_sam2.models.weights.cards import KnownModel, list_models
from napari_sam2.models.weights.fetch import fetch
from napari_sam2.models.weights.files import cache

_MEGABYTE = 1e6
_HERE = {
    "embedded": "comes with the plugin",
    "imported": "yours",
    "fetched": "fetched",
    "plug-in": "plug-in",
}
_LOOK_MS = 200
_ATTENTIONS: dict[Attention, tuple[str, str]] = {
    "auto": ("Look near where that shows the same", "found out for each object after a prompt"),
    "whole": ("Look at the whole image", "as SAM 2 does; minutes for many objects"),
    "near": (
        "Look near the objects",
        "many times faster where they are small, nearly the same masks",
    ),
}


class ModelSection(QWidget):
    """`chosen` is emitted with the name of a model on this machine, `failed` with an error of a download.

    `looked` is emitted with an attention, `tiled` with windows, `computed` with a precision, for
    models that have the choice.

    `worker` fetches: a thread of its own, since a download of minutes must not hold up a click.
    """

    chosen = Signal(str)
    looked = Signal(str)
    tiled = Signal(str)
    computed = Signal(str)
    failed = Signal(object)

    def __init__(self, worker: Worker, *, fetch_model: Callable[..., Path] = fetch) -> None:
        super().__init__()
        self._worker = worker
        self._fetch_model = fetch_model
        self._fetching: KnownModel | None = None
        self.models = QComboBox()
        self.models.setToolTip(
            "The model that segments: larger ones are slower and better on most things"
        )
        self.about = muted()
        self.attention = QComboBox()
        for name, (title, _) in _ATTENTIONS.items():
            self.attention.addItem(title, name)
        self.attention.setToolTip("\n".join(": ".join(each) for each in _ATTENTIONS.values()))
        self.tiles = QCheckBox("Enlarge small objects")
        self.tiles.setToolTip(
            "On a large image: look at objects that are small by a part of it that shows them "
            "larger (tiles).\n"
            "Better masks where a cell is less than 40 pixels wide to the model; each part costs "
            "as much as an image."
        )
        self.precision = QComboBox()
        self.precision.setToolTip(
            "What the model computes in. bfloat16 saved 12 to 31 % of the time on a processor, "
            "with nearly the same masks\n"
            "(at most 0.002 of IoU lost); nothing was measured on GPUs. Only what this device "
            "has instructions for is offered."
        )
        self.fetch = QPushButton()
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.bar.hide()
        self.cancel = tool(
            "stop",
            "Stop the download; what arrived is kept, and the next one goes on from there",
            self._on_cancel,
        )
        self.cancel.hide()
        self._stopped = Event()
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._look)
        layout = column(self)
        layout.addWidget(heading("Model"))
        which = row(self.models, self.precision)
        which.setStretch(0, 1)
        layout.addLayout(which)
        for widget in (self.about, self.attention, self.tiles, self.fetch):
            layout.addWidget(widget)
        arriving = row(self.bar, self.cancel)
        arriving.setStretch(0, 1)
        layout.addLayout(arriving)
        self.device = ""
        self.used = ""
        self._computes: Precision = "float32"
        self.refresh()
        self.models.currentIndexChanged.connect(self._on_chosen)
        self.fetch.clicked.connect(self._on_fetch)
        self.tiles.clicked.connect(lambda checked: self.tiled.emit("tiles" if checked else "whole"))
        self.attention.activated.connect(lambda _: self.looked.emit(self.attention.currentData()))
        self.precision.activated.connect(lambda _: self.computed.emit(self.precision.currentData()))

    def refresh(self, current: str = "nano") -> None:
        """List the models that are known now."""
        blocker = QSignalBlocker(self.models)
        self.models.clear()
        for model in list_models():
            self.models.addItem(_title(model), model)
        self.choose(current)
        blocker.unblock()
        self._describe()

    def choose(self, name: str) -> None:
        """Show the model of that name as the chosen one, without asking for it."""
        blocker = QSignalBlocker(self.models)
        self.used = name
        for place in range(self.models.count()):
            if self.models.itemData(place).card.name == name:
                self.models.setCurrentIndex(place)
        blocker.unblock()
        self._describe()

    def show_state(self, snapshot: Snapshot) -> None:
        """Show where the model that is used computes and in what, and how it looks at frames."""
        self.tiles.setChecked(snapshot.windows == "tiles")
        self.attention.setCurrentIndex(self.attention.findData(snapshot.attention))
        self._offer(snapshot.precisions)
        self.precision.setCurrentIndex(self.precision.findData(snapshot.precision))
        if (snapshot.model, snapshot.device, snapshot.precision) != (
            self.used,
            self.device,
            self._computes,
        ):
            self.used, self.device, self._computes = (
                snapshot.model,
                snapshot.device,
                snapshot.precision,
            )
            self._describe()

    def _offer(self, precisions: Sequence[Precision]) -> None:
        """Let a person choose among these; not shown where there is nothing to choose."""
        if [self.precision.itemData(place) for place in range(self.precision.count())] == [
            *precisions
        ]:
            return
        self.precision.clear()
        for each in precisions:
            self.precision.addItem(each, each)
        self._describe()

    def _current(self) -> KnownModel | None:
        found = self.models.currentData()
        return found if isinstance(found, KnownModel) else None

    def _on_chosen(self) -> None:
        model = self._current()
        self._describe()
        if model is not None and model.state != "available" and model.state != "damaged":
            self.chosen.emit(model.card.name)

    def _describe(self) -> None:
        model = self._current()
        if model is None:
            return
        missing = model.state == "available"
        places = {"cpu": "on the processor", "mps": "on the Apple GPU"}
        used = bool(self.device) and model.card.name == self.used
        where = places.get(self.device, f"on the GPU ({self.device})") if used else ""
        if used and self._computes != "float32":
            where += f" in {self._computes}"
        words = (
            [model.card.licence, _HERE.get(model.state, ""), where]
            if not missing
            else [model.card.licence, "not on this machine yet"]
        )
        if model.state == "damaged":
            words = [model.card.description]
        self.about.setText(" · ".join(word for word in words if word))
        self.models.setToolTip(model.card.description or model.card.name)
        for choice in (self.attention, self.tiles):
            choice.setVisible(
                not (model.card.follows or missing or model.state in ("plug-in", "damaged"))
            )
        self.precision.setVisible(used and self.precision.count() > 1)
        self.fetch.setVisible(missing and self._fetching is None)
        self.fetch.setText(f"Fetch {_size(model)}")

    def _on_fetch(self) -> None:
        model = self._current()
        if model is None or self._fetching is not None:
            return
        self._fetching = model
        self.bar.setRange(0, 1000)
        self.bar.setValue(0)
        self.bar.setFormat(f"{model.card.name}: %p %")
        self.bar.show()
        self.cancel.setEnabled(True)
        self.cancel.show()
        self._timer.start()
        name, stopped = model.card.name, Event()
        self._stopped = stopped
        self._worker.submit(
            lambda: self._fetch_model(name, progress=False, wanted=lambda: not stopped.is_set()),
            lambda _: self._fetched(name),
            self._not_fetched,
        )
        self._describe()

    def _on_cancel(self) -> None:
        self._stopped.set()
        self.cancel.setEnabled(False)
        self.bar.setFormat("stopping…")

    def _look(self) -> None:
        """How much has arrived: the file grows beside its final place."""
        if self._fetching is None or not self._fetching.size_bytes:
            return
        stem = self._fetching.card.source.rsplit("/", 1)[-1]
        arrived = max((part.stat().st_size for part in cache().glob(f"{stem}*.part")), default=0)
        self.bar.setValue(int(1000 * arrived / self._fetching.size_bytes))

    def _fetched(self, name: str) -> None:
        self._end()
        self.refresh(name)
        self.chosen.emit(name)

    def _not_fetched(self, error: Exception) -> None:
        self._end()
        if not self._stopped.is_set():
            self.failed.emit(error)

    def _end(self) -> None:
        self._fetching = None
        self._timer.stop()
        self.bar.hide()
        self.cancel.hide()
        self._describe()


def _title(model: KnownModel) -> str:
    return " · ".join(
        part
        for part in (
            model.card.name,
            _size(model),
            "to fetch" if model.state == "available" else "",
        )
        if part
    )


def _size(model: KnownModel) -> str:
    return f"{model.size_bytes / _MEGABYTE:.0f} MB" if model.size_bytes else ""

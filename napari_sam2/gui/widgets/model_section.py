"""ModelSection: which model segments, and how it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QWidget

from napari_sam2.core.inference_options import Attention, Precision
from napari_sam2.gui.app.view import NO_MODEL_OPTIONS, Snapshot, Worker
from napari_sam2.gui.widgets.elements import (
    make_column,
    make_heading,
    make_muted_label,
    make_row,
)
from napari_sam2.gui.widgets.model_download import ModelDownload, format_size
from napari_sam2.models.weights.cards import KnownModel, find_models
from napari_sam2.models.weights.fetch import fetch_model

_STATE_TITLES = {
    "embedded": "included",
    "imported": "imported",
    "fetched": "downloaded",
    "plug-in": "plug-in",
}
_DEVICE_TITLES = {"cpu": "on the processor", "mps": "on the Apple GPU"}
_ATTENTION_TITLES: dict[Attention, tuple[str, str]] = {
    "auto": ("Attention: automatic", "local for objects whose masks stay the same"),
    "global": ("Attention: whole frame", "as SAM 2 does; slow with many objects"),
    "local": (
        "Attention: near the object",
        "many times faster for small objects, with nearly the same masks",
    ),
}
_TILES_TIP = (
    "For large images: the model sees small objects in an enlarged part of the image (a tile).\n"
    "The masks are better if a cell is less than 40 pixels wide in the model's input.\n"
    "Each tile takes as long as an image."
)
_EVIDENCE_TIP = (
    "The learned detector checks the masks: a click may be answered by the object detected there,\n"
    "an object ends where nothing is detected, a detected object may replace a propagated mask,\n"
    "and what is only detected or only tracked is flagged for review.\n"
    "For z-stacks of nuclei whose z spacing is known; on other images, compare the results first.\n"
    "All prompts are applied again. Objects are detected once, when first needed."
)
_PRECISION_TIP = (
    "Number format of the computation. bfloat16 saves 12 to 31 % of the time on a processor,\n"
    "with nearly the same masks (IoU lower by 0.002 at most). It was not measured on GPUs.\n"
    "Only formats that this device supports are offered."
)


class ModelSection(QWidget):
    """The model, its options, and the download of models that are not on this machine.

    Parameters
    ----------
    worker
        The thread of downloads.
    fetch_model
        Downloads a model by name.
    """

    model_chosen = Signal(str)
    """The name of a model on this machine."""
    option_chosen = Signal(str, str)
    """A field of `InferenceOptions`, or "evidence", and its new value."""

    def __init__(self, worker: Worker, *, fetch_model: Callable[..., Path] = fetch_model) -> None:
        super().__init__()
        self.used_model = ""
        self.options = NO_MODEL_OPTIONS
        self.download = ModelDownload(worker, fetch_model)
        self.model_choice = QComboBox()
        self.about_label = make_muted_label()
        self.attention_choice = QComboBox()
        self.tiles_checkbox = QCheckBox("Enlarge small objects")
        self.evidence_checkbox = QCheckBox("Compare with detections")
        self.precision_choice = QComboBox()
        self._build_layout()
        self.refresh()
        self._connect()

    def _build_layout(self) -> None:
        for name, (title, _) in _ATTENTION_TITLES.items():
            self.attention_choice.addItem(title, name)
        self.attention_choice.setToolTip(
            "\n".join(": ".join(each) for each in _ATTENTION_TITLES.values())
        )
        self.tiles_checkbox.setToolTip(_TILES_TIP)
        self.evidence_checkbox.setToolTip(_EVIDENCE_TIP)
        self.precision_choice.setToolTip(_PRECISION_TIP)
        layout = make_column(self)
        layout.addWidget(make_heading("Model"))
        row = make_row(self.model_choice, self.precision_choice)
        row.setStretch(0, 1)
        layout.addLayout(row)
        for widget in (
            self.about_label,
            self.attention_choice,
            self.tiles_checkbox,
            self.evidence_checkbox,
            self.download,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.model_choice.currentIndexChanged.connect(self._on_chosen)
        self.download.downloaded.connect(self._on_downloaded)
        self.tiles_checkbox.clicked.connect(
            lambda checked: self.option_chosen.emit("windows", "tiles" if checked else "whole")
        )
        self.evidence_checkbox.clicked.connect(
            lambda checked: self.option_chosen.emit("evidence", "all" if checked else "none")
        )
        self.attention_choice.activated.connect(
            lambda _: self.option_chosen.emit("attention", self.attention_choice.currentData())
        )
        self.precision_choice.activated.connect(
            lambda _: self.option_chosen.emit("precision", self.precision_choice.currentData())
        )

    def refresh(self, current: str = "nano") -> None:
        """List the models that are known now, and show `current` as the chosen one."""
        blocker = QSignalBlocker(self.model_choice)
        self.model_choice.clear()
        for model in find_models().values():
            self.model_choice.addItem(_make_title(model), model)
        blocker.unblock()
        self.show_model(current)

    def show_model(self, name: str) -> None:
        """Show the model of that name as the chosen one."""
        blocker = QSignalBlocker(self.model_choice)
        self.used_model = name
        for index in range(self.model_choice.count()):
            if self.model_choice.itemData(index).card.name == name:
                self.model_choice.setCurrentIndex(index)
        blocker.unblock()
        self._update_description()

    def show_state(self, snapshot: Snapshot) -> None:
        """Show the options of the model in use."""
        options = snapshot.options
        self.tiles_checkbox.setChecked(options.windows == "tiles")
        self.evidence_checkbox.setChecked(snapshot.evidence != "none")
        self.attention_choice.setCurrentIndex(self.attention_choice.findData(options.attention))
        self._offer_precisions(snapshot.precisions)
        self.precision_choice.setCurrentIndex(self.precision_choice.findData(options.precision))
        if (snapshot.model, options) != (self.used_model, self.options):
            self.used_model, self.options = snapshot.model, options
            self._update_description()

    def _offer_precisions(self, precisions: Sequence[Precision]) -> None:
        choice = self.precision_choice
        if [choice.itemData(index) for index in range(choice.count())] == [*precisions]:
            return
        choice.clear()
        for each in precisions:
            choice.addItem(each, each)
        self._update_description()

    def _get_current_model(self) -> KnownModel | None:
        model = self.model_choice.currentData()
        return model if isinstance(model, KnownModel) else None

    def _on_chosen(self) -> None:
        model = self._get_current_model()
        self._update_description()
        if model is not None and model.state not in ("available", "damaged"):
            self.model_chosen.emit(model.card.name)

    def _on_downloaded(self, name: str) -> None:
        self.refresh(name)
        self.model_chosen.emit(name)

    def _update_description(self) -> None:
        """Show what is known of the chosen model, and the options that it has."""
        model = self._get_current_model()
        if model is None:
            return
        missing = model.state == "available"
        used = bool(self.options.device) and model.card.name == self.used_model
        self.about_label.setText(self._describe(model, used=used))
        self.model_choice.setToolTip(model.card.description or model.card.name)
        has_choice = not (
            model.card.object_crops or missing or model.state in ("plug-in", "damaged")
        )
        self.attention_choice.setVisible(has_choice)
        self.tiles_checkbox.setVisible(has_choice)
        self.precision_choice.setVisible(used and self.precision_choice.count() > 1)
        self.download.offer(model if missing else None)

    def _describe(self, model: KnownModel, *, used: bool) -> str:
        """Licence and state of a model, and where it computes if it is in use."""
        if model.state == "damaged":
            return model.card.description
        if model.state == "available":
            return f"{model.card.licence} · not on this machine yet"
        parts = [model.card.licence, _STATE_TITLES.get(model.state, "")]
        if used:
            device, precision = self.options.device, self.options.precision
            place = _DEVICE_TITLES.get(device, f"on the GPU ({device})")
            parts.append(place + (f" in {precision}" if precision != "float32" else ""))
        return " · ".join(part for part in parts if part)


def _make_title(model: KnownModel) -> str:
    parts = (
        model.card.name,
        format_size(model),
        "to download" if model.state == "available" else "",
    )
    return " · ".join(part for part in parts if part)

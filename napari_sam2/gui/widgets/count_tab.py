"""CountTab: count a stack without a click.

Each step is shown, and can be corrected before the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QProgressBar,
    QPushButton,
    QWidget,
)

from napari_sam2.api.count import CountingOptions
from napari_sam2.core.errors import Sam2Error
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.detection.registry import resolve_detector
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.counting_task import DetectionRequest
from napari_sam2.gui.app.view import SessionKey, Snapshot, Stage
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_prompts import read_label_planes
from napari_sam2.gui.widgets.elements import (
    follow_theme,
    make_column,
    make_form,
    make_heading,
    make_muted_label,
    make_row,
    make_single_shot_timer,
    make_tool_button,
)

_DETECTOR_TITLES = {
    "auto": "automatic (learned)",
    "classical": "bright or dark objects (classical)",
    "blobs": "round spots (blobs)",
    "grid": "everything the model segments (grid)",
    "examples": "like the objects that you clicked",
}
_ASSOCIATION_TITLES = {
    "seeds": "on every frame, then link",
    "model": "on this frame, then propagate",
}
_CONTRASTS = {"bright or dark (estimated)": None, "bright": False, "dark": True}
_ESTIMATED = "estimated"
_EDIT_HINT = (
    "Seeds are points. Add, move and delete them with napari's tools on the left. A seed that you "
    "add is a click."
)


class CountTab(QWidget):
    """Detect seeds, edit them, and count.

    Parameters
    ----------
    controller, canvas
        What counts, and where seeds are shown.
    get_label_layers
        Gives the label layers that can be used as detections.
    """

    notified = Signal(str, bool)
    """A sentence for the person, and whether it is an error."""
    action_requested = Signal(str)
    """The name of an action; see `Panel.run_action`."""

    def __init__(
        self, controller: Controller, canvas: Canvas, get_label_layers: Callable[[], Sequence[Any]]
    ) -> None:
        super().__init__()
        self._controller, self._canvas = controller, canvas
        self._get_label_layers = get_label_layers
        self._estimated_for: tuple[SessionKey, bool | None, bool] | None = None
        self._pixel_um: float | None = None
        self.image_label, self.result_label = make_muted_label(), make_muted_label()
        self.hint_label = make_muted_label(_EDIT_HINT)
        self.detector_choice, self.association_choice = QComboBox(), QComboBox()
        self.contrast_choice, self.diameter = QComboBox(), QDoubleSpinBox()
        self.detect_button = QPushButton("1  Detect seeds")
        self.count_button = QPushButton("2  Count")
        self.save_button = QPushButton("3  Save labels and tables…")
        self.edit_button = make_tool_button(
            "point",
            "Add, move and delete seeds with napari's own tools",
            self._on_edit,
            text="Edit seeds",
            checkable=True,
        )
        self.stop_button = make_tool_button(
            "stop", "Stop; finished objects are kept", controller.propagation.cancel
        )
        self.progress_bar = QProgressBar()
        self._build_layout()
        self._theme_timer = make_single_shot_timer(self, lambda: follow_theme(self))
        self._connect()
        self.refresh_detectors()

    def _build_layout(self) -> None:
        for association, title in _ASSOCIATION_TITLES.items():
            self.association_choice.addItem(title, association)
        for title, dark in _CONTRASTS.items():
            self.contrast_choice.addItem(title, dark)
        self.diameter.setRange(0.0, 100_000.0)
        self.diameter.setDecimals(1)
        self.diameter.setSpecialValueText(_ESTIMATED)
        form = make_form(
            ("Detect", self.detector_choice, "How objects are detected"),
            (
                "Where",
                self.association_choice,
                (
                    "Detect objects on every frame and link them, or detect them on the current "
                    "frame and propagate them"
                ),
            ),
            (
                "Diameter",
                self.diameter,
                "Diameter of a typical object; 0 to estimate it from the image",
            ),
            (
                "Contrast",
                self.contrast_choice,
                "Whether objects are brighter or darker than their surroundings",
            ),
        )
        self.progress_bar.setFixedHeight(16)
        layout = make_column(self, margin=8)
        layout.addWidget(make_heading("Count without a click"))
        layout.addWidget(self.image_label)
        layout.addLayout(form)
        for part in (
            make_row(self.detect_button, self.edit_button),
            self.hint_label,
            make_row(self.count_button, self.stop_button),
            self.progress_bar,
            self.result_label,
            self.save_button,
        ):
            layout.addWidget(part) if isinstance(part, QWidget) else layout.addLayout(part)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.detect_button.clicked.connect(lambda *_: self.detect_seeds())
        self.count_button.clicked.connect(lambda *_: self.count_objects())
        self.save_button.clicked.connect(lambda *_: self.action_requested.emit("save"))
        for choice in (self.contrast_choice, self.detector_choice):
            choice.currentIndexChanged.connect(lambda *_: self._estimate_scale())

    def showEvent(self, event: Any) -> None:
        """Take the colours of the window."""
        super().showEvent(event)
        self._theme_timer.start()

    def changeEvent(self, event: Any) -> None:
        """Follow a change of the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._theme_timer.start()

    def refresh_detectors(self) -> None:
        """List the detectors: those with a name, and label layers."""
        chosen = self.detector_choice.currentData()
        blocker = QSignalBlocker(self.detector_choice)
        self.detector_choice.clear()
        for name, title in _DETECTOR_TITLES.items():
            self.detector_choice.addItem(title, name)
        for layer in self._get_label_layers():
            self.detector_choice.addItem(f"labels: {layer.name}", layer)
        for index in range(self.detector_choice.count()):
            if self.detector_choice.itemData(index) is chosen:
                self.detector_choice.setCurrentIndex(index)
        blocker.unblock()

    def make_request(self) -> DetectionRequest:
        """Make the request that is chosen. Raises LabelsError for labels of another shape."""
        detector, size = self.detector_choice.currentData(), self.diameter.value()
        key, axes = self._controller.key, self._canvas.axes
        by_name = isinstance(detector, str)
        counting = CountingOptions(
            seeds=detector if by_name else "labels",
            association=self.association_choice.currentData(),
            diameter_um=size if size and self._pixel_um else None,
            diameter_px=size if size and not self._pixel_um else None,
            dark=self.contrast_choice.currentData(),
        )
        planes = None
        if not by_name and key is not None and axes is not None:
            planes = read_label_planes(detector, axes, key)
        return DetectionRequest(counting, planes, self._controller.frame)

    def detect_seeds(self, on_done: Callable[[], Any] = lambda: None) -> None:
        """Detect seeds, which are shown as they arrive."""
        try:
            request = self.make_request()
        except Sam2Error as error:
            self.notified.emit(str(error), True)
            return
        self.result_label.setText("")
        self._controller.counting.detect_seeds(request, on_done)

    def count_objects(self) -> None:
        """Make objects of the seeds that are shown; if there are none, detect them first."""
        seeds = self._canvas.seed_layer
        if (
            seeds is None
            or seeds.layer is None
            or not seeds.layer.visible
            or not len(seeds.layer.data)
        ):
            self.detect_seeds(
                lambda: (
                    self._start_counting() if self._controller.state.seeds else self._on_counted()
                )
            )
        else:
            self._start_counting()

    def show_state(self, snapshot: Snapshot) -> None:
        """Enable what has an effect now, and show the progress."""
        key = self._controller.key
        moving = snapshot.stage in (Stage.RUNNING, Stage.PAUSED)
        for widget in (
            self.detect_button,
            self.count_button,
            self.detector_choice,
            self.association_choice,
            self.diameter,
            self.contrast_choice,
        ):
            widget.setEnabled(key is not None and not moving)
        self.stop_button.setEnabled(moving)
        self.save_button.setEnabled(snapshot.has_prompts and not moving)
        seeds = self._canvas.seed_layer
        shown = seeds is not None and seeds.layer is not None and bool(seeds.layer.visible)
        self.edit_button.setEnabled(shown and not moving)
        self.hint_label.setVisible(shown)
        if not shown:
            self.edit_button.setChecked(False)
        self.progress_bar.setRange(
            0, max(1, snapshot.total) if moving or snapshot.stage is not Stage.BUSY else 0
        )
        self.progress_bar.setValue(snapshot.done)
        self.progress_bar.setFormat(f"{snapshot.done} of {snapshot.total}" if moving else "")
        count = sum(1 for each in snapshot.objects if each.frame_count)
        objects = f"{count} object{'' if count == 1 else 's'} in this stack."
        self.result_label.setText(snapshot.message if moving or shown or not count else objects)
        self._show_image(key)

    def _show_image(self, key: SessionKey | None) -> None:
        if key is None:
            self.image_label.setText("Open an image first.")
            return
        selection = key.selection
        channel = "" if selection.channel is None else f", channel {selection.channel}"
        self.image_label.setText(f"{selection.name}, along {selection.along}{channel}")
        if self._estimated_for is None or self._estimated_for[0] != key:
            self._estimate_scale()

    def _estimate_scale(self) -> None:
        """Estimate how large the objects are, and show that."""
        key = self._controller.key
        if key is None:
            return
        dark, detector = self.contrast_choice.currentData(), self.detector_choice.currentData()
        learned = isinstance(detector, str) and resolve_detector(detector) == LearnedDetector.name
        self._estimated_for = key, dark, learned
        self._pixel_um = key.selection.stack.spacing.y_um
        self.diameter.setSuffix(" µm" if self._pixel_um else " px")
        self.diameter.setSpecialValueText(_ESTIMATED)

        def show(scale: ObjectScale | None) -> None:
            if self._estimated_for != (key, dark, learned) or scale is None:
                return
            size = scale.diameter_px * (self._pixel_um or 1.0)
            kind = "" if learned or dark is not None else ", dark" if scale.dark else ", bright"
            self.diameter.setSpecialValueText(
                f"{_ESTIMATED}: {size:.1f}{' µm' if self._pixel_um else ' px'}{kind}"
            )

        self._controller.counting.estimate_scale(show, learned=learned, dark=dark)

    def _start_counting(self) -> None:
        seeds = self._canvas.seed_layer
        if seeds is None:
            return
        edited = seeds.read_seeds()
        seeds.hide()
        self.edit_button.setChecked(False)
        self._controller.counting.count_objects(edited, self._on_counted)

    def _on_counted(self) -> None:
        count = len(self._controller.state.log.track_ids)
        self.notified.emit(
            f"{count} object{'' if count == 1 else 's'} counted. Check them, then save.",
            False,
        )

    def _on_edit(self) -> None:
        if self._canvas.seed_layer is not None:
            self._canvas.seed_layer.set_editing(self.edit_button.isChecked())

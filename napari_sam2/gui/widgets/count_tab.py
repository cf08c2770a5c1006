"""CountTab: count a stack nobody clicked in.

Each step is shown, and can be corrected before the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QProgressBar,
    QPushButton,
    QWidget,
)

from napari_sam2.api.count import CountingOptions
from napari_sam2.core.errors import Sam2Error
from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.counting_task import DetectionRequest
from napari_sam2.gui.app.view import SessionKey, Snapshot, Stage
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_prompts import read_label_planes
from napari_sam2.gui.widgets.elements import (
    follow_theme,
    make_column,
    make_heading,
    make_muted_label,
    make_row,
    make_single_shot_timer,
    make_tool_button,
)

_DETECTOR_TITLES = {
    "auto": "automatic",
    "classical": "bright or dark objects (classical)",
    "blobs": "round spots (blobs)",
    "grid": "everything the model sees (grid)",
    "examples": "what resembles the objects clicked",
}
_ASSOCIATION_TITLES = {
    "seeds": "on every frame, then joined",
    "model": "on this frame, then carried by the model",
}
_CONTRASTS = {"guessed": None, "bright": False, "dark": True}
_EDIT_HINT = (
    "Seeds are points: napari's tools at the left add, move and delete them. Those that you add "
    "are clicks."
)


class CountTab(QWidget):
    """`notified` comes with a sentence and whether something is wrong, `action_requested` with what a key or button is called by.

    Parameters
    ----------
    controller, canvas
        Who does it, and where seeds are shown.
    get_label_layers
        Label layers that may be the source.
    """

    notified = Signal(str, bool)
    action_requested = Signal(str)

    def __init__(
        self, controller: Controller, canvas: Canvas, get_label_layers: Callable[[], Sequence[Any]]
    ) -> None:
        super().__init__()
        self._controller, self._canvas, self._get_label_layers = (
            controller,
            canvas,
            get_label_layers,
        )
        self._estimated_for: tuple[SessionKey, bool | None] | None = None
        self._pixel_um: float | None = None
        self.image_label, self.result_label, self.hint_label = (
            make_muted_label(),
            make_muted_label(),
            make_muted_label(_EDIT_HINT),
        )
        self.detector_choice, self.association_choice, self.contrast_choice, self.diameter = (
            QComboBox(),
            QComboBox(),
            QComboBox(),
            QDoubleSpinBox(),
        )
        self.detect_button, self.count_button, self.save_button = (
            QPushButton("1  Find seeds"),
            QPushButton("2  Count"),
            QPushButton("3  Save labels and tables…"),
        )
        self.edit_button = make_tool_button(
            "point",
            "Add, move and delete seeds with napari's own tools",
            self._on_edit,
            text="Edit seeds",
            checkable=True,
        )
        self.stop_button = make_tool_button(
            "stop", "Stop; objects that are done stay", controller.propagation.cancel
        )
        self.progress_bar = QProgressBar()
        self._build_layout()
        self._theme_timer = make_single_shot_timer(self, lambda: follow_theme(self))
        self._connect()
        self.refresh_detectors()

    def _build_layout(self) -> None:
        for box, entries in (
            (self.association_choice, _ASSOCIATION_TITLES),
            (self.contrast_choice, _CONTRASTS),
        ):
            for key, entry in entries.items():
                box.addItem(
                    entry if box is self.association_choice else key,
                    key if box is self.association_choice else entry,
                )
        self.diameter.setRange(0.0, 100_000.0)
        self.diameter.setDecimals(1)
        self.diameter.setSpecialValueText("guessed")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field, tip in (
            ("Find", self.detector_choice, "How objects are found"),
            (
                "Where",
                self.association_choice,
                (
                    "On every frame, and then which is which; or on the frame you look at, and the "
                    "model does the rest"
                ),
            ),
            ("Diameter", self.diameter, "Of a typical object; 0: guessed from the image"),
            ("Objects are", self.contrast_choice, "Brighter or darker than what is around them"),
        ):
            form.addRow(label, field)
            field.setToolTip(tip)
            field.setAccessibleName(label)
        for box in (self.detector_choice, self.association_choice):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(12)
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
        self.contrast_choice.currentIndexChanged.connect(lambda *_: self._estimate_scale())

    def showEvent(self, event: Any) -> None:
        """Qt's: it has the colours of the window now."""
        super().showEvent(event)
        self._theme_timer.start()

    def changeEvent(self, event: Any) -> None:
        """Qt's: the theme changed."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._theme_timer.start()

    def refresh_detectors(self) -> None:
        """List the sources there are: those known by name, and label layers."""
        chosen = self.detector_choice.currentData()
        blocker = QSignalBlocker(self.detector_choice)
        self.detector_choice.clear()
        for name, title in _DETECTOR_TITLES.items():
            self.detector_choice.addItem(title, name)
        for layer in self._get_label_layers():
            self.detector_choice.addItem(f"labels: {layer.name}", layer)
        self.detector_choice.setCurrentIndex(
            max(
                0,
                next(
                    (
                        n
                        for n in range(self.detector_choice.count())
                        if self.detector_choice.itemData(n) is chosen
                    ),
                    0,
                ),
            )
        )
        blocker.unblock()

    def make_request(self) -> DetectionRequest:
        """What is chosen. Raises LabelsError for a label layer of another shape."""
        source, size = self.detector_choice.currentData(), self.diameter.value()
        place, reading = self._controller.key, self._canvas.axes
        by_name = isinstance(source, str)
        counting = CountingOptions(
            seeds=source if by_name else "labels",
            association=self.association_choice.currentData(),
            diameter_um=size if size and self._pixel_um else None,
            diameter_px=size if size and not self._pixel_um else None,
            dark=self.contrast_choice.currentData(),
        )
        planes = (
            None
            if by_name or place is None or reading is None
            else read_label_planes(source, reading, place)
        )
        return DetectionRequest(counting, planes, self._controller.frame)

    def detect_seeds(self, on_done: Callable[[], Any] = lambda: None) -> None:
        """Find seeds; they are shown as they come."""
        try:
            wanted = self.make_request()
        except Sam2Error as error:
            self.notified.emit(str(error), True)
            return
        self.result_label.setText("")
        self._controller.counting.detect_seeds(wanted, on_done)

    def count_objects(self) -> None:
        """Make objects of the seeds that are shown; where there are none, find them first."""
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
        """Enable what makes sense now, and show how far it is."""
        place = self._controller.key
        moving = snapshot.stage in (Stage.RUNNING, Stage.PAUSED)
        for widget in (
            self.detect_button,
            self.count_button,
            self.detector_choice,
            self.association_choice,
            self.diameter,
            self.contrast_choice,
        ):
            widget.setEnabled(place is not None and not moving)
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
        here = sum(1 for each in snapshot.objects if each.frame_count)
        text = snapshot.message if moving else ""
        self.result_label.setText(
            text
            or (
                f"{here} object{'' if here == 1 else 's'} in this stack."
                if here
                else snapshot.message
            )
        )
        self._show_image(place)

    def _show_image(self, key: SessionKey | None) -> None:
        if key is None:
            self.image_label.setText("Open an image first.")
            return
        choice = key.selection
        channel = "" if choice.channel is None else f", channel {choice.channel}"
        self.image_label.setText(
            f"{choice.name}, along {choice.along}{channel}, as chosen in the panel"
        )
        if self._estimated_for is None or self._estimated_for[0] != key:
            self._estimate_scale()

    def _estimate_scale(self) -> None:
        """Show how large the objects are, where nobody says."""
        place = self._controller.key
        if place is None:
            return
        dark = self.contrast_choice.currentData()
        self._estimated_for = place, dark
        self._pixel_um = place.selection.stack.spacing.y_um
        self.diameter.setSuffix(" µm" if self._pixel_um else " px")
        self.diameter.setSpecialValueText("guessed")

        def show(scale: ObjectScale | None) -> None:
            if self._estimated_for != (place, dark) or scale is None:
                return
            size = scale.diameter_px * (self._pixel_um or 1.0)
            kind = "" if dark is not None else ", dark" if scale.dark else ", bright"
            self.diameter.setSpecialValueText(
                f"guessed: {size:.1f}{' µm' if self._pixel_um else ' px'}{kind}"
            )

        self._controller.counting.estimate_scale(show, dark=dark)

    def _start_counting(self) -> None:
        seeds = self._canvas.seed_layer
        if seeds is None:
            return
        placed = seeds.read_seeds()
        seeds.hide()
        self.edit_button.setChecked(False)
        self._controller.counting.count_objects(placed, self._on_counted)

    def _on_counted(self) -> None:
        count = len(self._controller.state.log.track_ids)
        self.notified.emit(
            f"{count} object{'' if count == 1 else 's'}: look through them, correct, then save",
            False,
        )

    def _on_edit(self) -> None:
        if self._canvas.seed_layer is not None:
            self._canvas.seed_layer.set_editing(self.edit_button.isChecked())

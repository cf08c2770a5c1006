"""ImageSection: the image, the axis to propagate along, and the channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QWidget

from napari_sam2.gui.layers.layer_axes import LayerAxes
from napari_sam2.gui.layers.samples import TITLES
from napari_sam2.gui.widgets.elements import make_column, make_heading, make_muted_label, make_row

_AXIS_TITLES = {"z": "z (slices)", "t": "t (time)"}


class ImageSection(QWidget):
    """The choice of the image; samples and projects if no image is open."""

    selection_changed = Signal()
    """Another image, axis or channel was chosen."""
    sample_chosen = Signal(str)
    """The name of a sample to open."""
    project_chosen = Signal(str)
    """The folder of a project to continue; "" if the person wants to choose one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_choice = QComboBox()
        self.layer_choice.setToolTip("The image to segment")
        self.axis_choice = QComboBox()
        self.axis_choice.setToolTip("The axis to propagate along")
        self.channel_choice = QComboBox()
        self.channel_choice.setToolTip("The channel that the model sees; all channels are measured")
        self.about_label = make_muted_label()
        self._axis_row = make_row(
            QLabel("along"), self.axis_choice, QLabel("channel"), self.channel_choice, None
        )
        self._samples_box = QWidget()
        samples = make_column(self._samples_box)
        samples.addWidget(make_muted_label("Open a z-stack or a time-lapse, or try a sample:"))
        for name, title in TITLES.items():
            button = QPushButton(title)
            button.clicked.connect(lambda *_, name=name: self.sample_chosen.emit(name))
            samples.addWidget(button)
        self.last_project_button, self.open_project_button = (
            QPushButton(),
            QPushButton("Open a project…"),
        )
        self.last_project_button.hide()
        self.open_project_button.setToolTip(
            "Continue earlier work: choose the project folder that the plugin saved"
        )
        self.open_project_button.clicked.connect(lambda *_: self.project_chosen.emit(""))
        for button in (self.last_project_button, self.open_project_button):
            samples.addWidget(button)
        layout = make_column(self)
        layout.addWidget(make_heading("Image"))
        layout.addWidget(self.layer_choice)
        layout.addLayout(self._axis_row)
        layout.addWidget(self.about_label)
        layout.addWidget(self._samples_box)
        for box in (self.layer_choice, self.axis_choice, self.channel_choice):
            box.currentIndexChanged.connect(self.selection_changed)

    def offer_images(self, images: Sequence[Any], current: Any) -> None:
        """List these layers, with `current` chosen."""
        blocker = QSignalBlocker(self.layer_choice)
        self.layer_choice.clear()
        for image in images:
            self.layer_choice.addItem(image.name, image)
        if current is not None:
            self.layer_choice.setCurrentIndex(
                next((n for n, image in enumerate(images) if image == current), 0)
            )
        blocker.unblock()
        for widget in (self.layer_choice, self.about_label):
            widget.setVisible(bool(images))
        self._samples_box.setVisible(not images)
        if not images:
            self.show_axes(None)

    def offer_project(self, latest_project: tuple[Path, str] | None) -> None:
        """Offer to continue this project, given by its folder and the name of its image."""
        self.last_project_button.setVisible(latest_project is not None)
        if latest_project is not None:
            folder, name = latest_project
            self.last_project_button.setText(f"Continue with {name}")
            self.last_project_button.setToolTip(str(folder))
            self.last_project_button.clicked.connect(
                lambda *_: self.project_chosen.emit(str(folder))
            )

    def show_axes(self, axes: LayerAxes | None, *, along: str = "", channel: int = 0) -> None:
        """Show the axes and channels that can be chosen."""
        blockers = [QSignalBlocker(box) for box in (self.axis_choice, self.channel_choice)]
        self.axis_choice.clear()
        self.channel_choice.clear()
        for axis in axes.propagation_axes if axes else ():
            self.axis_choice.addItem(_AXIS_TITLES[axis], axis)
        for number in range(axes.channel_count if axes else 0):
            self.channel_choice.addItem(str(number), number)
        self.axis_choice.setCurrentIndex(max(0, self.axis_choice.findData(along)))
        self.channel_choice.setCurrentIndex(max(0, self.channel_choice.findData(channel)))
        for blocker in blockers:
            blocker.unblock()
        many = axes is not None and axes.channel_count > 1
        for index, shown in (
            (0, axes is not None),
            (1, axes is not None),
            (2, many),
            (3, many),
        ):
            item = self._axis_row.itemAt(index)
            assert item is not None
            item.widget().setVisible(shown)

    @property
    def image(self) -> Any:
        """The chosen layer; None if there is none."""
        return self.layer_choice.currentData()


def describe_image(axes: LayerAxes, image: Any) -> str:
    """Describe an image in one line."""
    sizes = " × ".join(f"{axis} {size}" for axis, size in axes.sizes.items())
    pixel = axes.spacing.y_um
    words = [
        sizes,
        f"{pixel:.3g} µm per pixel" if pixel else "pixel size unknown",
        "full resolution" if image.multiscale else "",
    ]
    return " · ".join(word for word in words if word)
